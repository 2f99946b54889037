"""A spiking student comes to act as its teacher, whatever the spaces, from Python and from the command line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from envs import BOX, Dropping, RandomEnv, WholeEnds, random_vec_env
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_plastic import PlasticPPO, distill
from sb3_plastic.cli import main
from sb3_plastic.distillation import cli as commands
from sb3_plastic.distillation.cli import judge
from sb3_plastic.distillation.demonstrations import Student
from sb3_plastic.distillation.distilling import normalized, update, watch
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import find_training
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.export import Normalization
from sb3_plastic.teacher import Teacher

DICT = spaces.Dict({"a": BOX, "b": BOX})
SMALL: dict[str, Any] = dict(n_ticks=2, net_arch=[32], readout="rate")

Function = Callable[[Any], np.ndarray]


def swing(obs: np.ndarray) -> np.ndarray:
    """A teacher."""
    return np.clip(0.8 * obs[:, ::-1], -2, 2)


def swing_by_keys(obs: dict[str, np.ndarray]) -> np.ndarray:
    """The same of a Dict."""
    return swing(obs["a"] / 2 - obs["b"] / 2)


def larger(obs: np.ndarray) -> np.ndarray:
    """A teacher with two actions."""
    return (obs[:, 0] > obs[:, 1]).astype(np.int64)


def difference(student: PlasticPPO, teacher: Function, venv: VecEnv) -> float:
    """Root mean square of what a student's actions differ from its teacher's, in 40 steps of 3 environments."""
    env = student.get_vec_normalize_env()
    assert env is not None
    env.training = False
    obs, state, starts, squares = env.reset(), None, np.ones(venv.num_envs, bool), []
    for _ in range(40):
        actions, state = student.predict(obs, state, starts, deterministic=True)
        squares.append((actions - teacher(env.get_original_obs())) ** 2)
        obs, _, starts, _ = env.step(actions)
    return float(np.sqrt(np.mean(squares)))


@pytest.mark.parametrize(
    ("teacher", "observations", "actions", "policy"),
    [
        (swing, BOX, BOX, "PlasticPolicy"),
        (swing_by_keys, DICT, BOX, "MultiInputPolicy"),
        (larger, BOX, spaces.Discrete(2), "PlasticPolicy"),
    ],
    ids=["box", "dict", "discrete"],
)
def test_a_student_acts_as_its_teacher_and_tensorboard_shows_that_it_learns(
    teacher: Function, observations: spaces.Space, actions: spaces.Space, policy: str, tmp_path: Path
) -> None:
    """Always 0, or tossing a coin, would give .7 to .9."""
    venv, logs = random_vec_env(observations, actions), str(tmp_path)
    student = distill(dict(model=teacher), venv, 8192, policy=policy, policy_kwargs=SMALL, tensorboard_log=logs)
    assert difference(student, teacher, venv) < 0.4
    events = EventAccumulator(str(tmp_path / "distill_1")).Reload()
    (first, *_, last), leads = events.Scalars("distill/loss"), events.Scalars("distill/lead")
    assert last.value < first.value
    assert (first.step, last.step) == (4032, 8064), "the teacher's round, which is not learned from, counts"
    assert [event.value for event in leads] == pytest.approx([1, 0.8, 0.6])


def brighter(obs: np.ndarray) -> np.ndarray:
    """A teacher that sees images, channels first."""
    return (obs[:, 0].mean((1, 2)) > 127).astype(np.int64)


@pytest.fixture
def few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates by images take seconds. For tests that ask for what goes in and comes out, not whether it learns."""
    monkeypatch.setattr("sb3_plastic.distillation.distilling.UPDATES", 2)


@pytest.mark.parametrize(
    ("space", "teacher", "policy"),
    [
        (spaces.Discrete(4), lambda obs: obs % 2, "MlpPolicy"),
        (spaces.Dict({"a": BOX, "n": spaces.Discrete(4)}), lambda obs: obs["n"] % 2, "MultiInputPolicy"),
        (spaces.Box(0, 255, (36, 36, 1), np.uint8), brighter, "CnnPolicy"),
    ],
    ids=["discrete", "dict", "image"],
)
@pytest.mark.usefixtures("few_updates")
def test_what_cannot_be_normalised_is_seen_as_it_is(space: spaces.Space[Any], teacher: Function, policy: str) -> None:
    venv = random_vec_env(space, spaces.Discrete(2))
    student = distill(dict(model=teacher), venv, 4096, policy=policy, policy_kwargs=SMALL)
    env = student.get_env()
    assert env is not None
    actions, _ = student.predict(env.reset(), deterministic=True)
    assert actions.shape == (venv.num_envs,)


@pytest.mark.usefixtures("few_updates")
def test_what_hardly_changes_while_its_teacher_acts_a_student_sees_with_its_teachers_statistics() -> None:
    variance = np.array([1000.0, *[1.0] * (BOX.shape[0] - 1)])
    known = Normalization({"": np.full(BOX.shape, 5.0)}, {"": variance})
    student = distill(dict(model=swing, normalization=known), random_vec_env(), 4096, policy_kwargs=SMALL)
    env = student.get_vec_normalize_env()
    assert env is not None
    settled = Normalization.of(env)
    assert (settled.mean[""][0], settled.variance[""][0]) == (5, 1000)
    np.testing.assert_allclose(settled.mean[""][1:], 0, atol=0.2)
    np.testing.assert_allclose(settled.variance[""][1:], 4 / 3, rtol=0.1)
    student.n_epochs = 1
    student.learn(96)  # a rollout of 6144 steps; what was settled counts 4096
    assert Normalization.of(env).mean[""][0] == pytest.approx(5 * 0.4, abs=0.1)


@pytest.mark.usefixtures("few_updates")
def test_images_beside_numbers_are_turned_with_a_teachers_statistics_too() -> None:
    space = spaces.Dict({"a": BOX, "i": spaces.Box(0, 255, (36, 36, 1), np.uint8)})
    known = Normalization({"a": np.zeros(BOX.shape)}, {"a": np.ones(BOX.shape)})
    teacher = dict(model=lambda obs: larger(obs["a"]), normalization=known)
    policy_kwargs = {**SMALL, "net_arch": [8], "n_ticks": 1}
    venv = random_vec_env(space, spaces.Discrete(2))
    student = distill(teacher, venv, 4096, policy="MultiInputPolicy", policy_kwargs=policy_kwargs)
    assert student.observation_space["i"].shape == (1, 36, 36)


@pytest.mark.usefixtures("few_updates")
def test_the_same_seed_gives_the_same_student() -> None:
    students = [distill(dict(model=swing), random_vec_env(), 4096, policy_kwargs=SMALL) for _ in range(2)]
    first, second = (list(student.policy.parameters()) for student in students)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.usefixtures("few_updates")
def test_a_model_and_one_environment_of_gymnasium_are_a_teacher_and_its_environments() -> None:
    env = RandomEnv(BOX, BOX)
    student = distill(PPO("MlpPolicy", env, device="cpu"), env, 4096, policy_kwargs=SMALL)
    assert student.n_envs == 1
    with pytest.raises(UserError, match="The environment is 'Pendulum-v1': make it first"):
        distill(swing, "Pendulum-v1", policy_kwargs=SMALL)


@pytest.mark.usefixtures("few_updates")
def test_a_student_goes_on_with_ppo() -> None:
    student = distill(dict(model=swing), random_vec_env(), 4096, policy_kwargs=SMALL)
    assert student.policy.snn_config.n_ticks == SMALL["n_ticks"], "not the default"
    before = student.policy.action_net.weight.clone()
    env = student.get_vec_normalize_env()
    assert env is not None
    mean = env.obs_rms.mean.copy()
    student.n_epochs = 1
    student.learn(student.n_steps * student.n_envs)
    assert not torch.equal(before, student.policy.action_net.weight)
    assert not np.array_equal(env.obs_rms.mean, mean), "statistics go on, too"


@pytest.mark.usefixtures("few_updates")
def test_noise_stays_within_the_bounds_of_the_actions() -> None:
    distill(dict(model=swing), random_vec_env(), 4096, noise=5.0, policy_kwargs=SMALL)  # the environment checks


@pytest.mark.usefixtures("few_updates")
def test_the_steps_are_those_of_all_environments_whatever_their_number(tmp_path: Path) -> None:
    venv = random_vec_env(n_envs=200)
    distill(dict(model=swing), venv, 10_000, policy_kwargs=SMALL, tensorboard_log=str(tmp_path))
    events = EventAccumulator(str(tmp_path / "distill_1")).Reload().Scalars("distill/loss")
    assert [event.step for event in events] == [6400, 9600]
    with pytest.raises(UserError, match="With 200 environments n_steps is at least 6400"):
        distill(dict(model=swing), venv, 5000, policy_kwargs=SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(n_steps=4000), r"With 3 environments n_steps is at least 4032.*got 4000"),
        (dict(noise=-1.0), "noise"),
        (dict(seed=-1), "seed must be a whole number at least 0, got -1"),
        (dict(policy_kwargs=dict(rules="oja")), "rules"),
        (dict(policy_kwargs=dict(adaptive=True)), "Distil without it, then put the layer around the student"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        distill(dict(model=swing), random_vec_env(), **arguments)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PPO of the pendulum whose observations were normalised, and its statistics beside it."""
    folder = tmp_path_factory.mktemp("teacher")
    venv = VecNormalize(make_vec_env("Pendulum-v1", 4, seed=0))
    model = PPO("MlpPolicy", venv, n_steps=64, batch_size=64, seed=0)
    model.learn(512)
    model.save(folder / "m.zip")
    venv.save(str(folder / "m.pkl"))
    return folder


@pytest.mark.usefixtures("few_updates")
def test_the_command_writes_a_run_that_others_read(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "plastic_ppo" / "Pendulum-v1_1"
    command = [
        "distill",
        "--model",
        str(taught / "m.zip"),
        "--env",
        "Pendulum-v1",
        "--steps",
        "4096",
        "--out",
        str(run),
    ]
    kwargs = ["--policy-kwargs", "dict(rule='none', net_arch=[8])", "--episodes", "2"]
    logs = tmp_path / "logs"
    assert main([*command, *kwargs, "--env-kwargs", "g:9.8", "--tensorboard-log", str(logs)]) == 0
    assert EventAccumulator(str(logs / "distill_1")).Reload().Scalars("distill/loss")
    assert find_training(run / "Pendulum-v1.zip", ModelSettings()).env_kwargs == {"g": 9.8}
    printed = capsys.readouterr().out
    returns = re.findall(r"(teacher|student): (\S+)", printed)
    assert [name for name, _ in returns] == ["teacher", "student"]
    assert all(-200 * 16.3 < float(value) < 0 for _, value in returns), "of the environment's 200 steps"
    assert f"Next: sb3-plastic enjoy --model {run}" in printed
    model, algorithm = load_model(run)
    assert algorithm == "plastic_ppo"
    assert model.policy.snn_config.n_ticks == 4
    assert model.policy.snn_config.rule == "none"
    assert main(["enjoy", "--model", str(run), "--no-render", "--episodes", "1"]) == 0
    capsys.readouterr()
    zoo = ["enjoy", "--algo", "plastic_ppo", "--env", "Pendulum-v1", "-f", str(tmp_path), "--no-render", "-n", "60"]
    assert main([*zoo, "--exp-id", "1"]) == 0
    assert "Loading running average" in capsys.readouterr().out, "of VecNormalize"
    assert main(["export", str(run), "--to", str(tmp_path / "exported")]) == 0


@pytest.mark.usefixtures("few_updates")
def test_the_command_distills_as_distill_does_with_the_same_arguments(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--seed 3 --steps 4096 --noise 0.4 --n-envs 4 --episode-steps 50 --episodes 3 --env Pendulum-v1"
    paths = ["--model", str(taught / "m.zip"), "--out", str(tmp_path / "run"), "--policy-kwargs", "dict(net_arch=[8])"]
    assert main(["distill", *paths, *arguments.split()]) == 0
    venv = DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=50)] * 4)
    teacher = dict(model=PPO.load(taught / "m.zip"), normalization=taught / "m.pkl")
    expected = distill(teacher, venv, 4096, seed=3, noise=0.4, policy_kwargs=dict(net_arch=[8]))
    found, _ = load_model(tmp_path / "run")
    for ours, theirs in zip(found.policy.parameters(), expected.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    returns = judge(expected, Normalization.of(expected.get_vec_normalize_env()).around(venv), 3, 1003)
    assert f"student: {np.mean(returns):.6g} " in capsys.readouterr().out


def test_the_command_gives_distill_every_argument_that_it_has(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def enough(teacher: Any, env: Any, n_steps: int, **kwargs: Any) -> None:
        given.update(kwargs, teacher=teacher, env=env, n_steps=n_steps)
        raise UserError("enough")

    monkeypatch.setattr(commands, "distill", enough)
    paths = ["--model", str(taught / "m.zip"), "--out", str(tmp_path / "run"), "--policy", "CnnPolicy"]
    assert main(["distill", *paths, "--env", "Pendulum-v1"]) == 2
    assert {*given} == {*inspect.signature(distill).parameters}
    assert given["policy"] == "CnnPolicy"


@pytest.mark.parametrize("kwargs", ["3", "open('x')"])
def test_the_command_takes_data_alone_for_arguments(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kwargs: str
) -> None:
    command = ["distill", "--model", str(taught / "m.zip"), "--env", "Pendulum-v1", "--out", str(tmp_path / "student")]
    assert main([*command, "--policy-kwargs", kwargs]) == 2
    assert "--policy-kwargs" in capsys.readouterr().err
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-envs", "0"], "--n-envs must be a whole number at least 1, got 0"),
        (["--episode-steps", "0"], "--episode-steps must be"),
        (["--episodes", "0"], "--episodes must be"),
        (["--out", "{taught}/m.zip"], "--out is a folder to write into, but .*m.zip is a file"),
        (["--out", "{taught}/m.zip/student"], "--out is a folder to write into, but .*m.zip is a file"),
        (["--out", "{taught}"], "is not empty. Choose another folder for the student"),
    ],
)
def test_what_cannot_be_judged_or_written_is_refused_before_the_training(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    command = ["distill", "--model", str(taught / "m.zip"), "--env", "Pendulum-v1", "--out", str(tmp_path / "student")]
    assert main([*command, *(text.format(taught=taught) for text in arguments)]) == 2
    assert re.search(message, capsys.readouterr().err)


def sent(teacher, lead, noise, n_steps=16):
    """What the environments got, and what the teacher would have done, [T, N, A] each."""
    env, got = normalized(random_vec_env(), None), []
    env.step = lambda actions: got.append(actions) or VecNormalize.step(env, actions)
    policy = PlasticPPO("PlasticPolicy", env, policy_kwargs=SMALL).policy
    student = Student(policy, env, Teacher(teacher).lessons(env.action_space), noise, np.random.default_rng(0))
    told = student.go_on(n_steps, lead, lambda n: None).actions.numpy()
    return np.stack(got), np.concatenate(np.split(told, n_steps // 16, axis=1))  # chunk after chunk


def test_the_teacher_acts_as_often_as_it_leads():
    got, told = sent(swing, lead=1.0, noise=0.0)
    np.testing.assert_allclose(got, told, atol=1e-6)
    got, told = sent(swing, lead=0.3, noise=0.0, n_steps=64)
    assert abs((np.abs(got - told) < 1e-6).all(2).mean() - 0.3) < 0.05


def test_noise_is_in_units_of_half_the_range():
    got, _ = sent(lambda obs: 0 * swing(obs), lead=1.0, noise=0.1)
    half = (random_vec_env().action_space.high - random_vec_env().action_space.low)[0] / 2
    assert abs(got.std() / half - 0.1) < 0.01


@pytest.mark.usefixtures("few_updates")
def test_a_student_that_goes_on_has_its_rewards_normalised():
    env = distill(dict(model=swing), random_vec_env(), 4096, policy_kwargs=SMALL).get_vec_normalize_env()
    assert env.training
    assert env.norm_reward


def student_of(teacher, length=7, **kwargs):
    """A student at its start, and the list of what it will send to its environments."""
    env, got = normalized(random_vec_env(length=length), None), []
    env.step = lambda actions: got.append(actions) or VecNormalize.step(env, actions)
    policy = PlasticPPO("PlasticPolicy", env, seed=0, policy_kwargs=SMALL | kwargs).policy
    return Student(policy, env, Teacher(teacher).lessons(BOX), 0.0, np.random.default_rng(0)), got


def test_from_what_was_told_the_student_can_be_replayed():
    student, got = student_of(swing)
    told, policy = student.go_on(32, 0.0, lambda n: None), student.policy  # two sequences of each environment
    flat = told.obs.flatten(0, 1)
    with torch.no_grad():
        latent = policy.stepper().latents(flat, told.starts, told.state)[0]
        means = policy._get_action_dist_from_latent(latent).mode().unflatten(0, (16, 6)).clamp(-2, 2)
    np.testing.assert_allclose(torch.cat([means[:, :3], means[:, 3:]]), np.stack(got), atol=1e-5)
    some = told.picked(torch.tensor([4, 0]))
    assert some.obs.equal(told.obs[:, [4, 0]])
    assert all(part.equal(whole[[4, 0]]) for part, whole in zip(some.state, told.state, strict=True))


def test_a_teacher_is_told_where_episodes_start_and_acts_within_the_bounds():
    noted = []

    class Notes:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            noted.append(bool(episode_start.all()))
            return np.full((len(observation), 4), 5.0), None  # beyond the bounds, and of another type

    ticks: list[int] = []
    env = normalized(random_vec_env(length=3), None)
    watch(Teacher(Notes()).lessons(BOX), env, 5, ticks.append)
    assert noted == [True, False, False, True, False]
    assert ticks == [3] * 5
    noted.clear()
    student, _ = student_of(Notes(), length=3)
    told = student.go_on(16, 1.0, ticks.append)
    assert noted == [i % 3 == 0 for i in range(16)] == told.starts[:, 0].tolist()


def test_a_student_acts_without_what_its_features_extractor_drops_in_a_training():
    student, got = student_of(swing, features_extractor_class=Dropping)
    expected, _ = student.policy.predict(student.obs, deterministic=True)
    student.policy.set_training_mode(True)
    student.go_on(16, 0.0, lambda n: None)
    np.testing.assert_allclose(got[0], expected, rtol=1e-6)
    assert student.policy.training


def test_the_learning_rate_of_a_student_falls_from_round_to_round(monkeypatch):
    rates = []

    def learn(policy, optimizer, told):
        rates.append(optimizer.param_groups[0]["lr"])
        return 0.0

    monkeypatch.setattr("sb3_plastic.distillation.distilling.update", learn)
    distill(dict(model=swing), random_vec_env(), 8192, policy_kwargs=SMALL)
    assert list(dict.fromkeys(rates)) == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3])


def test_a_student_takes_ends_that_are_whole_numbers():
    env = normalized(make_vec_env(lambda: RandomEnv(BOX, BOX, 3), 2, seed=0, vec_env_cls=WholeEnds), None)
    policy = PlasticPPO("PlasticPolicy", env, seed=0, policy_kwargs=SMALL).policy
    student = Student(policy, env, Teacher(swing).lessons(BOX), 0.0, np.random.default_rng(0))
    starts = student.go_on(16, 0.0, lambda n: None).starts
    assert starts[:, 0].tolist() == [i % 3 == 0 for i in range(16)]


def test_a_step_of_the_optimiser_has_a_bounded_gradient_which_is_not_added_to_the_last():
    student, _ = student_of(lambda obs: 0 * obs + 2)
    policy, told = student.policy, student.go_on(16, 1.0, lambda n: None)
    optimizer = torch.optim.SGD(policy.actor_parameters(), lr=0.0)

    def norm(log_std):
        policy.log_std.data.fill_(log_std)
        update(policy, optimizer, told)
        return torch.cat([p.grad.flatten() for p in policy.actor_parameters() if p.grad is not None]).norm().item()

    assert norm(-5.0) == pytest.approx(1.0, rel=1e-4)
    small = norm(5.0)
    assert 0 < small < 0.1
    assert norm(5.0) == pytest.approx(small, rel=1e-4)


def test_boxes_of_numbers_alone_are_normalised():
    image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    assert not normalized(random_vec_env(image), None).norm_obs
    mixed = normalized(random_vec_env(spaces.Dict({"a": BOX, "i": image, "n": spaces.Discrete(4)})), None)
    assert (mixed.norm_obs, mixed.norm_obs_keys) == (True, ["a"])
