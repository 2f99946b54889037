"""A teacher is imitated less and less: the student comes close to it, and then learns from reward alone."""

import numpy as np
import pytest
import torch
from envs import random_vec_env, small_ppo
from gymnasium import spaces
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import (
    DiagGaussianDistribution,
    StateDependentNoiseDistribution,
    make_proba_distribution,
)
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from sb3_plastic import PlasticPPO, export_policy
from sb3_plastic.errors import NotFiniteError, UserError
from sb3_plastic.export import Normalization
from sb3_plastic.safe import RefusedError
from sb3_plastic.teacher import Teacher, divergence, with_loss

FOUR = spaces.Box(-2, 2, (4,))
SETTINGS = dict(n_epochs=5, learning_rate=1e-2, policy_kwargs=dict(readout="rate"))


class Record(BaseCallback):
    """KL and weight of each rollout of a training."""

    def __init__(self) -> None:
        super().__init__()
        self.kl: list[float] = []
        self.weight: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._read()

    def _on_training_end(self) -> None:
        self._read()

    def _read(self) -> None:
        logged = self.model.logger.name_to_value
        if "train/teacher_weight" in logged:
            self.kl.append(logged.pop("train/teacher_kl", np.nan))
            self.weight.append(logged.pop("train/teacher_weight"))


def lessons(model: PlasticPPO, n_rollouts: int) -> tuple[list[float], list[float]]:
    """KL and weight of each rollout of a training."""
    record = Record()
    model.learn(96 * n_rollouts, callback=record)
    return record.kl, record.weight


def swing(obs: np.ndarray) -> np.ndarray:
    """A function as teacher."""
    return np.clip(0.8 * obs[:, ::-1], -2, 2)


@pytest.mark.parametrize("normalized", [False, True])
def test_the_student_comes_close_to_its_teacher_whose_weight_falls_to_0(normalized):
    env = VecNormalize(random_vec_env()) if normalized else random_vec_env()
    kl, weight = lessons(small_ppo(env, teacher=dict(model=swing, until=0.75), **SETTINGS), 16)
    np.testing.assert_allclose(weight, [max(0, 1 - i / 12) for i in range(16)], atol=1e-6)
    assert kl[9] < 0.7 * kl[0], kl
    assert np.isnan(kl[12:]).all()


def test_every_training_begins_with_the_whole_weight(tmp_path):
    model = small_ppo(teacher=dict(model=swing, until=0.5), **SETTINGS)
    first = lessons(model, 4)[1]
    np.testing.assert_allclose(first, [1, 0.5, 0, 0], atol=1e-6)
    assert lessons(model, 4)[1] == first
    model.save(tmp_path / "student.zip")
    loaded = PlasticPPO.load(tmp_path / "student.zip", model.env, teacher=dict(model=swing, until=0.5))
    assert lessons(loaded, 4)[1] == first


def test_a_saved_model_teaches_discrete_actions(tmp_path):
    env = random_vec_env(action_space=spaces.Discrete(3))
    teacher = PPO("MlpPolicy", env, n_steps=8, batch_size=24, seed=0, device="cpu")
    with torch.no_grad():
        teacher.policy.action_net.weight *= 300  # it has a will of its own
    teacher.save(tmp_path / "teacher.zip")
    model = small_ppo(env, teacher=dict(model=str(tmp_path / "teacher.zip"), weight=2.0, until=1.0), **SETTINGS)
    kl, _ = lessons(model, 8)
    assert kl[-1] < 0.9 * kl[0], kl
    model.save(tmp_path / "student.zip")
    assert PlasticPPO.load(tmp_path / "student.zip").teacher is None


def test_a_teachers_observations_are_normalised_by_the_statistics_in_its_file(tmp_path):
    env = VecNormalize(random_vec_env())
    env.reset()
    for _ in range(8):
        observations = env.step(np.zeros((3, 4), np.float32))[0]
    env.save(str(tmp_path / "statistics.pkl"))
    for given in (env, str(tmp_path / "statistics.pkl"), tmp_path / "statistics.pkl"):
        lessons = Teacher(model=lambda obs: obs, normalization=given).lessons(FOUR)
        np.testing.assert_array_equal(lessons.actions(env.get_original_obs(), np.zeros(3, bool)), observations)


def test_a_teacher_brings_the_normalisation_of_its_own_environments(tmp_path):
    env = VecNormalize(random_vec_env())
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=24, device="cpu").learn(24)
    env.obs_rms.mean = env.obs_rms.mean + 3  # whoever does without acts otherwise
    raw = env.get_original_obs()
    expected = model.predict(env.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_array_equal(Teacher(model).lessons(FOUR).actions(raw, np.zeros(3, bool)), expected)
    model.save(tmp_path / "teacher.zip")
    with pytest.raises(UserError, match=r"acts at random without its statistics: .* normalization"):
        Teacher(tmp_path / "teacher.zip").lessons(FOUR)


def test_a_teachers_statistics_that_ask_to_run_code_are_refused(tmp_path):
    (tmp_path / "statistics.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(RefusedError, match=r"os\.system"):
        Teacher(model=swing, normalization=str(tmp_path / "statistics.pkl")).lessons(FOUR)


def test_a_recurrent_teacher_remembers_until_an_episode_starts():
    teacher = small_ppo()
    lessons = Teacher(model=teacher).lessons(teacher.action_space)
    rng, state, forgetful = np.random.default_rng(0), None, []
    for step in range(12):
        observations, starts = (
            rng.normal(size=(3, 4)).astype(np.float32) * 3,
            np.array([step in (0, 7), step == 0, step == 0]),
        )
        expected, state = teacher.predict(observations, state=state, episode_start=starts, deterministic=True)
        np.testing.assert_array_equal(lessons.actions(observations, starts), expected)
        forgetful.append(np.array_equal(teacher.predict(observations, deterministic=True)[0], expected))
    assert not all(forgetful)  # or this would hold for a teacher without memory, too


def test_a_teacher_whose_weight_comes_back_starts_afresh():
    steps = []

    class Counts:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            state = np.zeros(len(observation)) if state is None else state
            state = np.where(episode_start, 0, state) + 1
            steps.append(state[0])
            return np.zeros((len(observation), 4), np.float32), state

    model = small_ppo(teacher=dict(model=Counts(), until=0.5), n_steps=2, batch_size=6)
    model.learn(4 * 6)
    asked = len(steps)
    model.learn(8 * 6, reset_num_timesteps=False)
    assert (asked, steps[asked]) == (4, 1)


def test_beyond_the_bound_at_which_its_teacher_acts_a_student_makes_no_error():
    mean = torch.tensor([[3.0, 3.0, -3.0, 1.0]], requires_grad=True)
    student = DiagGaussianDistribution(4).proba_distribution(mean, torch.zeros(4))
    loss = divergence(student, torch.tensor([[2.0, -2.0, -2.0, 0.5]]), spaces.Box(-2, 2, (4,)))
    loss.sum().backward()
    assert loss.tolist() == [(5**2 + 0.5**2) / 2]
    assert mean.grad.tolist() == [[0.0, 5.0, 0.0, 0.5]]


def test_a_teacher_that_acts_beyond_the_bound_is_taken_to_act_at_it():
    student = DiagGaussianDistribution(2).proba_distribution(torch.zeros(1, 2), torch.zeros(2))
    space = spaces.Box(-2, 2, (2,))
    losses = [divergence(student, torch.tensor([actions]), space) for actions in ([50.0, -50.0], [2.0, -2.0])]
    assert losses[0].tolist() == losses[1].tolist() == [4.0]


@pytest.mark.parametrize("normalization", [None, Normalization()])
def test_a_teacher_that_writes_over_its_observations_leaves_the_students_alone(normalization):
    def careless(obs):
        obs[:] = 0.0
        return np.zeros((len(obs), 2))

    observation = np.ones((3, 4))
    lessons = Teacher(careless, normalization=normalization).lessons(spaces.Box(-1, 1, (2,)))
    lessons.actions(observation, np.zeros(3, bool))
    assert observation.all()


@pytest.mark.parametrize(("squashed", "n"), [(False, 1), (False, 2), (True, 1), (True, 2)])
def test_noise_that_depends_on_the_state_is_taught_the_same_actions(squashed, n):
    space, latent = spaces.Box(-2, 2, (n,)), torch.zeros(3, 4)
    student = StateDependentNoiseDistribution(n, squash_output=squashed, learn_features=True)
    student.proba_distribution_net(4, latent_sde_dim=4)
    mean = torch.zeros(3, n, requires_grad=True)
    at = student.proba_distribution(mean, torch.zeros(4, n), latent + 1)
    loss = divergence(at, torch.tensor([[1.0], [0.0], [-1.0]]).expand(3, n), space)
    loss.sum().backward()
    assert loss[1] == 0
    assert loss.min() >= 0
    wanted = np.arctanh(0.5) if squashed else 1.0  # 1 is half of the bound
    std = at.distribution.stddev[0, 0].item()
    assert mean.grad[0].tolist() == pytest.approx([-wanted / std**2] * n, rel=1e-4)


@pytest.mark.parametrize("space", [spaces.MultiBinary(1), spaces.MultiDiscrete([3])])
def test_one_number_of_several_kinds_is_taught_as_several_are(space):
    student = make_proba_distribution(space)
    logits = torch.zeros(5, 1 if isinstance(space, spaces.MultiBinary) else 3)
    loss = divergence(student.proba_distribution(logits), torch.ones(5, 1), space)
    assert loss.tolist() == pytest.approx([-np.log(1 / max(2, logits.shape[1]))] * 5)


def test_a_loss_of_its_own_has_its_whole_gradient_and_changes_no_value():
    x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3.0, requires_grad=True)
    value = with_loss(2 * x, y**2)
    (0.5 * value).sum().backward()
    assert value.tolist() == [2.0, 4.0]
    assert x.grad.tolist() == [1.0, 1.0]
    assert y.grad.item() == 6.0


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (dict(model=swing, wait=1.0), "teacher has no argument 'wait'. Did you mean 'weight'"),
        (dict(model=swing, until=0.0), "until, a fraction of the training, must be a finite number above 0"),
        (dict(model=swing, until=1.5), "until, a fraction of the training, .* and at most 1, got 1.5"),
        (dict(model=swing, weight=0.0), "The teacher's weight must be a finite number above 0"),
        (dict(weight=1.0), "or a mapping with the entry 'model', got {'weight'"),
        (5, "teacher is a model, a function, a file, or a mapping .*, got 5"),
        (dict(model="teacher.zip", algo="PPPO"), "There is no algorithm 'PPPO'"),
    ],
)
def test_teachers_that_cannot_be_are_refused(teacher, message):
    with pytest.raises(UserError, match=message):
        small_ppo(teacher=teacher)


def test_the_weight_falls_linearly():
    teacher = Teacher(swing, weight=2.0, until=0.5)
    assert [teacher.weight_at(remaining) for remaining in (1.0, 0.75, 0.5, 0.0)] == [2.0, 1.0, 0.0, 0.0]
    by_default = Teacher(swing)
    assert [by_default.weight_at(remaining) for remaining in (1.0, 0.75, 0.5)] == [1.0, 0.5, 0.0]


def test_a_teacher_that_is_set_between_two_trainings_teaches_and_one_that_is_taken_away_does_not():
    model = small_ppo()
    assert lessons(model, 1) == ([], [])
    model.teacher = dict(model=swing, until=1.0)
    model.learn(96)
    obs, taught = model.rollout_buffer.observations[0], model.rollout_buffer.teacher_actions[0]
    np.testing.assert_allclose(taught, swing(obs), rtol=1e-6)
    model.teacher = None
    model.learn(96)
    assert model.rollout_buffer.teacher_weight == 0
    assert model.rollout_buffer.teacher_actions is None


def test_a_saved_teacher_of_another_class_is_answered(tmp_path):
    SAC("MlpPolicy", random_vec_env(), policy_kwargs=dict(net_arch=[4])).save(tmp_path / "sac")
    with pytest.raises(UserError, match=r"sac is no model of ppo: name its algorithm as 'algo'"):
        small_ppo(teacher=dict(model=tmp_path / "sac"))


def test_a_saved_teacher_of_goals_needs_no_environments(tmp_path):
    env = BitFlippingEnv(n_bits=4, continuous=True, max_steps=4)
    model = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, policy_kwargs=dict(net_arch=[4]))
    model.save(tmp_path / "sac")
    lessons = Teacher(tmp_path / "sac", algo="SAC").lessons(env.action_space)
    observation = {key: value[None] for key, value in env.reset()[0].items()}
    expected, _ = model.predict(observation, deterministic=True)
    np.testing.assert_array_equal(lessons.actions(observation, np.ones(1, bool)), expected)


def test_a_saved_teacher_is_named_as_on_the_command_line_or_by_its_class(tmp_path):
    model = SAC("MlpPolicy", random_vec_env(), policy_kwargs=dict(net_arch=[4]))
    model.save(tmp_path / "sac")
    observations = np.ones((3, 4), np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    for algo in ("sac", "SAC"):
        lessons = Teacher(tmp_path / "sac", algo=algo).lessons(FOUR)
        np.testing.assert_array_equal(lessons.actions(observations, np.ones(3, bool)), expected)


def test_a_model_alone_is_a_teacher():
    model = PPO("MlpPolicy", random_vec_env(), n_steps=8, batch_size=24, device="cpu")
    assert all(Teacher.of(given) == Teacher(given) for given in (model, swing, "ppo.zip"))


def test_an_exported_folder_teaches_with_its_own_normalisation(tmp_path):
    env = VecNormalize(random_vec_env())
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=24, device="cpu").learn(24)
    export_policy(model.policy, tmp_path / "exported", env)
    found = [Teacher(teacher).lessons(FOUR) for teacher in (model, str(tmp_path / "exported"))]
    raw = env.get_original_obs()
    np.testing.assert_array_equal(*(lessons.actions(raw, np.zeros(3, bool)) for lessons in found))


def test_a_saved_teacher_that_is_damaged_is_no_model_of_another_class(tmp_path):
    (tmp_path / "m.zip").write_bytes(b"PK, and no more")
    with pytest.raises(UserError, match=r"m\.zip") as answer:
        Teacher(tmp_path / "m.zip", algo="PlasticPPO").lessons(FOUR)
    assert "name its algorithm" not in str(answer.value)


def test_a_teacher_whose_actions_are_not_finite_is_blamed_for_them():
    with pytest.raises(NotFiniteError, match="The teacher's actions are not finite"):
        small_ppo(teacher=dict(model=lambda obs: np.where(obs == obs.max(), np.nan, obs))).learn(96)  # of one alone


@pytest.mark.parametrize("n_motors", [1, 5])
def test_a_teacher_of_another_number_of_motors_is_refused(n_motors):
    lessons = Teacher(lambda obs: np.zeros((len(obs), n_motors))).lessons(FOUR)
    with pytest.raises(UserError, match=rf"of shape \(3, 4\), got shape \(3, {n_motors}\)"):
        lessons.actions(np.zeros((3, 4)), np.zeros(3, bool))


def test_an_action_for_each_observation_may_be_a_number():
    lessons = Teacher(lambda obs: obs[:, 0]).lessons(spaces.Box(-1, 1, (1,)))
    np.testing.assert_array_equal(lessons.actions(np.ones((3, 4)), np.zeros(3, bool)), np.ones((3, 1)))
    lessons = Teacher(lambda obs: obs[:, 0] > 0).lessons(spaces.MultiBinary(1))
    np.testing.assert_array_equal(lessons.actions(np.ones((3, 4)), np.zeros(3, bool)), np.ones((3, 1)))


@pytest.mark.parametrize("teacher", [lambda obs: None, lambda obs: obs[0], lambda obs: np.full(len(obs), "left")])
def test_a_teacher_that_returns_no_actions_is_told_what_they_are(teacher):
    with pytest.raises(UserError, match="A teacher returns an array with an action for each of 3 observations"):
        small_ppo(teacher=dict(model=teacher)).learn(96)


def test_a_teacher_sees_images_turned_also_through_a_vecnormalize_of_rewards():
    shapes = []

    def look(obs):
        shapes.append(obs.shape)
        return np.zeros((len(obs), 4))

    image = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    env = VecFrameStack(VecNormalize(random_vec_env(image), norm_obs=False), 2)
    small_ppo(env, "CnnPolicy", teacher=dict(model=look)).learn(96)
    assert set(shapes) == {(3, 6, 36, 40)}


def test_a_teacher_behind_normalised_observations_that_are_stacked_is_refused():
    env = VecFrameStack(VecNormalize(random_vec_env()), 2)
    with pytest.raises(UserError, match="put VecNormalize around that one"):
        small_ppo(env, teacher=dict(model=lambda obs: obs[:, :4])).learn(96)


def test_the_loss_is_the_weight_times_the_mean_divergence():
    model = small_ppo(teacher=dict(model=swing, weight=3.0), policy_kwargs=dict(log_std_init=0.0))
    _, callback = model._setup_learn(1000, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    policy, batch = model.policy, next(iter(model.rollout_buffer.get(32)))
    chunks, parameters = batch.observations, (policy.action_net.weight, policy.log_std)
    values = policy.evaluate_actions(chunks, batch.actions)[0]
    got = torch.autograd.grad((0 * values).sum(), parameters, allow_unused=True)
    latent = policy.stepper().latents(chunks.observations, chunks.episode_starts, chunks.state)[0]
    kl = divergence(policy._get_action_dist_from_latent(latent), chunks.teacher_actions, model.action_space)
    torch.testing.assert_close(got[0], torch.autograd.grad(3.0 * kl.mean(), parameters[0])[0])
    assert got[1] is None or not got[1].any()  # both Gaussians have the student's own standard deviation
