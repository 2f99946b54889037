"""LocomotionVecEnv: the same trajectories as DummyVecEnv, and all that SB3 expects of a VecEnv."""

import os
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from perturbation_helpers import LIMB
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_plastic.perturbations import ROBOTS, PerturbationError, env_id
from sb3_plastic.perturbations.suites import load_suite
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv, locomotion_vec_env

pytestmark = pytest.mark.usefixtures("elsewhere")


def many(robot: str) -> list[dict]:
    """All layers, schedules that move, and draws, at once."""
    onset, switch = {"form": "onset", "at": 10, "end": 60}, {"form": "switch", "every": 25}
    return [
        {"kind": "mass", "value": {"uniform": [0.5, 1.5]}},
        {"kind": "friction", "value": 0.5, "schedule": {"form": "random_walk", "sigma": 0.3, "every": 5}},
        {"kind": "limb_scale", "value": 0.8, "target": LIMB[robot], "schedule": {"form": "onset", "at": 20}},
        {"kind": "joint_lock", "target": LIMB[robot], "schedule": onset},
        {"kind": "motor_off", "target": "*", "schedule": {"form": "switch", "every": 40, "at": 30}},
        {"kind": "push", "value": 0.5, "schedule": {"form": "intermittent", "duration": 5, "pause": 20}},
        {"kind": "action_delay", "value": 1},
        {"kind": "action_noise", "value": 0.1},
        {"kind": "obs_noise", "value": 0.01},
        {"kind": "strength", "value": {"uniform": [0.3, 1.3]}, "each": True, "schedule": switch},
        {"kind": "motors_reversed", "value": 0.4, "schedule": {"form": "onset", "at": 15}},
        {"kind": "wires", "params": {"mode": "permute_signed"}, "lasting": True},
        {"kind": "obs_gain", "value": {"uniform": [0.7, 1.3]}, "each": True},
    ]


def pair(robot: str, n_envs: int = 3, *, latent: bool = True, **kwargs: Any) -> tuple[DummyVecEnv, LocomotionVecEnv]:
    made = [
        make_vec_env(env_id(robot, latent=latent), n_envs, seed=3, env_kwargs=kwargs, vec_env_cls=cls)
        for cls in (DummyVecEnv, LocomotionVecEnv)
    ]
    return tuple(made)  # type: ignore[return-value]


def random_actions(venv: Any, n_steps: int, seed: int = 0) -> np.ndarray:
    space, rng = venv.action_space, np.random.default_rng(seed)
    return rng.uniform(space.low, space.high, (n_steps, venv.num_envs, *space.shape)).astype(np.float32)


def assert_same_steps(venvs: tuple[Any, ...], n_steps: int = 120, *, reset: bool = True) -> int:
    """Compare observations, rewards, dones and infos exactly. :return: how many episodes ended"""
    first, *others = venvs
    if reset:
        obs = first.reset()
        for other in others:
            np.testing.assert_array_equal(other.reset(), obs)
            assert_same_infos(other.reset_infos, first.reset_infos)
    ended = 0
    for action in random_actions(first, n_steps):
        expected = first.step(action)
        ended += int(expected[2].sum())
        for other in others:
            got = other.step(action)
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_array_equal(got[1].astype(np.float32), expected[1])  # SubprocVecEnv: float64
            np.testing.assert_array_equal(got[2], expected[2])
            assert got[0].dtype == expected[0].dtype
            assert_same_infos(got[3], expected[3])
    return ended


def assert_same_infos(got: Any, expected: Any) -> None:
    for a, b in zip(got, expected, strict=True):
        assert set(a) == set(b)
        for key in a:
            if key == "episode":
                assert {**a[key], "t": 0} == {**b[key], "t": 0}  # t is wall time
            elif key.startswith("perturbation_"):  # tuples, some of them of tuples
                assert a[key] == b[key], key
            else:
                np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("latent", [True, False])
@pytest.mark.parametrize("robot", ROBOTS)
def test_trajectories_are_those_of_dummy_vec_env_bit_for_bit(robot, latent) -> None:
    ended = assert_same_steps(pair(robot, latent=latent), 150)
    assert ended > 0 or robot in ("HalfCheetah", "Ant")
    assert_same_steps(pair(robot, latent=latent, perturbations=many(robot)), 100)


@pytest.mark.parametrize("robot", ["Hopper", "Walker2d"])
def test_velocities_are_observed_within_the_same_bounds(robot) -> None:
    venvs = pair(robot, 1)
    for venv in venvs:
        venv.reset()
        (angles,), (nv,) = venv.get_attr("init_qpos"), (model.nv for model in venv.get_attr("model"))
        venv.env_method("set_state", angles, np.full(nv, 30.0))
    assert_same_steps(venvs, 1, reset=False)


WEIGHTS = dict(forward_reward_weight=2.0, ctrl_cost_weight=0.3, exclude_current_positions_from_observation=False)


@pytest.mark.parametrize(
    ("robot", "kwargs"),
    [
        ("HalfCheetah", {}),
        ("Hopper", dict(healthy_reward=3.0, healthy_z_range=(1.2, 1.3), terminate_when_unhealthy=False)),
        ("Walker2d", dict(healthy_reward=3.0, healthy_z_range=(1.2, 1.4), healthy_angle_range=(-0.1, 0.1))),
        ("Ant", dict(healthy_reward=3.0, contact_cost_weight=0.5, contact_force_range=(-0.1, 0.2), main_body="aux_1")),
        ("Humanoid", dict(healthy_reward=3.0, contact_cost_weight=0.5, contact_cost_range=(0.1, 5.0))),
    ],
)
def test_rewards_and_observations_are_those_that_the_environment_is_made_with(robot, kwargs) -> None:
    assert_same_steps(pair(robot, 2, latent=False, **WEIGHTS, **kwargs), 40)


@pytest.mark.parametrize("robot", ["Ant", "Hopper"])
def test_terrain_and_its_terminations_are_the_same(robot) -> None:
    entry = {"kind": "terrain", "value": 0.2, "params": {"flat": 0.2}}
    assert_same_steps(pair(robot, perturbations=[entry]), 150)


def test_subprocesses_give_the_same_trajectories_too() -> None:
    kwargs = {"perturbations": many("HalfCheetah")}
    venvs = tuple(
        make_vec_env(env_id("HalfCheetah"), 2, seed=3, env_kwargs=kwargs, vec_env_cls=cls)
        for cls in (DummyVecEnv, partial(SubprocVecEnv, start_method="fork"), LocomotionVecEnv)
    )
    try:
        assert_same_steps(venvs, 40)
    finally:
        venvs[1].close()


def test_environments_may_have_different_perturbations_and_end_at_different_times() -> None:
    def make(scenarios: list[Any]) -> Any:
        return [(lambda s=s: Monitor(gym.make(env_id("Walker2d"), perturbations=s.perturbations))) for s in scenarios]

    scenarios = load_suite("nda-v1").select("full", robot="Walker2d")[:6]
    venvs = (DummyVecEnv(make(scenarios)), LocomotionVecEnv(make(scenarios)))
    for venv in venvs:
        venv.seed(1)
    assert assert_same_steps(venvs, 150) > 3


def test_time_limits_truncate_and_are_told_apart_from_falls() -> None:
    def env_fn() -> gym.Env:
        return Monitor(gym.make(env_id("HalfCheetah"), max_episode_steps=7))

    venvs = (DummyVecEnv([env_fn] * 2), LocomotionVecEnv([env_fn] * 2))
    for venv in venvs:
        venv.seed(0)
    assert assert_same_steps(venvs, 15) == 4


def test_options_switch_conditions_at_the_next_reset_and_seeds_repeat_them() -> None:
    venvs = pair("Ant")
    drawn = {"perturbations": [{"kind": "mass", "value": {"uniform": [0.5, 1.5]}}]}
    for options in (drawn, [drawn, {"scenario": "anchors-v1/leg-lost"}, {}], {"scenario": "nda-v1/novel/terrain"}):
        for venv in venvs:
            venv.set_options(options)
            assert venv.seed(7) == [7, 8, 9]
        assert_same_steps(venvs, 20)
    assert venvs[1].get_attr("perturber")[0].perturbations[0].kind == "terrain"


def test_one_robot_alone_on_terrain_leaves_the_others_as_they_were() -> None:
    venvs = pair("Ant")
    for venv in venvs:
        venv.set_options([{}, {"perturbations": [{"kind": "terrain", "value": 0.2}]}, {}])
    assert_same_steps(venvs, 30)


def test_the_oracle_sees_the_context() -> None:
    venvs = pair("Hopper", perturbations=many("Hopper"), observe_context=True)
    of_each = 3 + 3 + 3 * 3 + 11  # gains, signs, wires, and gains of sensors
    assert venvs[1].observation_space.shape == (11 + 9 + of_each,)
    assert_same_steps(venvs, 60)


def test_a_broken_simulation_ends_its_own_episode_only() -> None:
    _, venv = pair("Ant")
    venv.reset()
    venv._qvel[1, -1] = 1e15
    obs, rewards, dones, infos = venv.step(random_actions(venv, 1)[0])
    assert dones.tolist() == [False, True, False]
    assert [info["sim_unstable"] for info in infos] == [False, True, False]
    assert rewards[1] == infos[1]["reward_forward"] == infos[1]["reward_survive"] == 0
    assert rewards[0] != 0
    assert np.isfinite(obs).all()
    _, _, dones, infos = venv.step(random_actions(venv, 1)[0])
    assert not dones.any()
    assert not any(info["sim_unstable"] for info in infos)


def test_a_step_before_the_first_reset_is_refused() -> None:
    _, venv = pair("Ant")
    with pytest.raises(gym.error.ResetNeeded):
        venv.step(random_actions(venv, 1)[0])


def test_the_number_of_threads_does_not_change_results() -> None:
    venvs = [
        make_vec_env(env_id("Ant"), 5, seed=0, vec_env_cls=LocomotionVecEnv, vec_env_kwargs={"n_threads": n})
        for n in (1, 3)
    ]
    assert_same_steps(tuple(venvs), 50)


def test_attributes_and_methods_reach_the_robots_in_their_present_state() -> None:
    venvs = pair("Ant")
    assert_same_steps(venvs, 10)
    for state in zip(*(venv.env_method("state_vector") for venv in venvs), strict=True):
        np.testing.assert_array_equal(*state)
    assert venvs[1].get_attr("robot_name") == ["Ant"] * 3
    assert venvs[1].env_is_wrapped(Monitor) == [True] * 3
    for venv in venvs:
        venv.set_attr("note", 3, indices=1)
        assert venv.get_attr("note", indices=[1]) == [3]
        with pytest.raises(AttributeError):
            venv.get_attr("nonsense")
    assert_same_steps(venvs, 10, reset=False)  # looking changed nothing
    for venv in venvs:
        robot = venv.get_attr("init_qpos")[0]
        venv.env_method("set_state", robot, np.zeros(14), indices=2)
    np.testing.assert_array_equal(venvs[1]._qpos[2], venvs[1].get_attr("init_qpos")[2])
    venvs[1].env_method("reset", indices=0)
    assert venvs[1]._elapsed.tolist() == [0, 20, 20]


def test_monitor_files_are_written_and_episodes_counted(tmp_path) -> None:
    folders = {cls: tmp_path / cls.__name__ for cls in (DummyVecEnv, LocomotionVecEnv)}
    venvs = tuple(
        make_vec_env(env_id("Hopper"), 2, seed=0, vec_env_cls=cls, monitor_dir=str(folder))
        for cls, folder in folders.items()
    )
    assert assert_same_steps(venvs, 100) > 1
    frames = []
    for venv, folder in zip(venvs, folders.values(), strict=True):
        venv.close()
        frames.append(load_results(str(folder))[["r", "l"]].sort_values(["l", "r"]).to_numpy())
    np.testing.assert_array_equal(*frames)
    assert venvs[1].envs[0].get_total_steps() == sum(venvs[1].envs[0].get_episode_lengths())


def test_ppo_learns_the_same_policy_on_it() -> None:
    weights = []
    for venv in pair("Hopper", perturbations=[{"kind": "mass", "value": {"uniform": [0.9, 1.1]}}]):
        env = VecNormalize(venv)
        model = PPO("MlpPolicy", env, n_steps=64, batch_size=96, n_epochs=2, seed=0, device="cpu").learn(192 * 2)
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in model.policy.parameters()]))
        env.training = False
        evaluate_policy(model, env, n_eval_episodes=2)
    np.testing.assert_array_equal(*weights)


def test_a_yaml_of_rl_zoo_reaches_it_as_a_vec_env_wrapper() -> None:
    zoo = pytest.importorskip("rl_zoo3.utils")
    path = "sb3_plastic.perturbations.vec_env.locomotion_vec_env"
    wrapper = zoo.get_wrapper_class({"vec_env_wrapper": path}, "vec_env_wrapper")
    dummy, expected = (make_vec_env(env_id("Hopper"), 2, seed=5) for _ in range(2))
    fast = wrapper(dummy)
    assert isinstance(fast, LocomotionVecEnv)
    assert_same_steps((expected, fast), 60)
    with pytest.raises(PerturbationError, match="Only a DummyVecEnv"):
        locomotion_vec_env(VecNormalize(expected))


def test_what_cannot_be_batched_is_refused_with_the_reason() -> None:
    make_vec_env(env_id("Ant"), 1, vec_env_cls=LocomotionVecEnv)
    with pytest.raises(PerturbationError, match="in a ClipAction, which a batched step would bypass"):
        make_vec_env(env_id("Ant"), 1, wrapper_class=gym.wrappers.ClipAction, vec_env_cls=LocomotionVecEnv)
    with pytest.raises(PerturbationError, match="is a PendulumEnv; LocomotionVecEnv knows the perturbed HalfCheetah"):
        make_vec_env("Pendulum-v1", 1, vec_env_cls=LocomotionVecEnv)

    def ant(**kwargs: Any) -> Any:
        return lambda: gym.make(env_id("Ant"), **kwargs)

    with pytest.raises(PerturbationError, match="Environment 1 differs from environment 0"):
        LocomotionVecEnv([ant(), ant(ctrl_cost_weight=1.0)])


def test_without_mujoco_batch_the_error_names_the_alternative(monkeypatch) -> None:
    import sys

    import mujoco

    monkeypatch.delattr(mujoco, "batch", raising=False)
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    with pytest.raises(ImportError, match="use DummyVecEnv, which gives the same trajectories"):
        make_vec_env(env_id("Ant"), 1, vec_env_cls=LocomotionVecEnv)


def test_an_idle_robot_meets_its_perturbation_in_a_step_of_its_own():
    onset = {"kind": "motor_off", "target": "*", "schedule": {"form": "onset", "at": 6}}
    venv = make_vec_env(
        "sb3_plastic/PerturbedHopper-v0", 2, vec_env_cls=LocomotionVecEnv, env_kwargs={"perturbations": [onset]}
    )
    venv.reset()
    own_steps, since = np.zeros(2, int), []
    for t in range(12):
        idle = np.array([False, 2 <= t < 5])
        venv.set_idle(idle)
        infos = venv.step(np.zeros((2, 3), np.float32))[3]
        since.append((own_steps.copy(), [info["steps_since_onset"] for info in infos]))
        own_steps += ~idle
    for steps, shown in since[5:]:
        assert shown == [max(n - 6, -1) for n in steps]


def test_idle_robots_stay_as_they_are_and_the_others_move_as_ever():
    def venv():
        made = make_vec_env("sb3_plastic/PerturbedHopper-v0", 3, seed=0, vec_env_cls=LocomotionVecEnv)
        return made, made.reset()

    (all_move, first), (some, _) = venv(), venv()
    some.set_idle(np.array([False, True, False]))
    actions = np.full((3, 3), 0.1, np.float32)
    for _ in range(20):
        expected, rewards, _, _ = all_move.step(actions)
        obs, given, dones, _ = some.step(actions)
        np.testing.assert_array_equal(obs[[0, 2]], expected[[0, 2]])
        np.testing.assert_array_equal(given[[0, 2]], rewards[[0, 2]])
        np.testing.assert_array_equal(obs[1, :5], first[1, :5])  # positions
        assert not dones[1]
    assert not np.array_equal(expected[1, :5], first[1, :5])


def test_steps_that_a_robot_was_idle_do_not_count_towards_its_time_limit() -> None:
    def env_fn() -> gym.Env:
        return gym.make(env_id("HalfCheetah"), max_episode_steps=5)

    venv = LocomotionVecEnv([env_fn] * 2)
    venv.reset()
    ended = []
    for t in range(8):
        venv.set_idle(np.array([False, t < 3]))
        ended.append(venv.step(np.zeros((2, 6), np.float32))[2].tolist())
    assert np.argwhere(ended).tolist() == [[4, 0], [7, 1]]


def test_one_robot_may_be_made_on_terrain_and_the_others_not() -> None:
    rough = {"perturbations": [{"kind": "terrain", "value": 0.2, "params": {"flat": 0.2}}]}
    env_fns = [lambda kwargs=kwargs: gym.make(env_id("Hopper"), **kwargs) for kwargs in ({}, rough)]
    venvs = (DummyVecEnv(env_fns), LocomotionVecEnv(env_fns))
    for venv in venvs:
        venv.seed(0)
        venv.reset()
    action = np.zeros((2, 3), np.float32)
    for _ in range(30):
        expected, got = (venv.step(action)[0] for venv in venvs)
        np.testing.assert_allclose(got[0], expected[0], atol=1e-6)  # level ground as a height field, or as a plane
        np.testing.assert_array_equal(got[1], expected[1])


def test_pictures_are_of_the_present_state() -> None:
    env_kwargs = {"render_mode": "rgb_array", "width": 64, "height": 64}
    venvs = pair("Hopper", 1, **env_kwargs)
    for venv in venvs:
        venv.reset()
        for action in random_actions(venv, 12):
            venv.step(action)
    apart = np.subtract(*(np.int64(venv.get_images()[0]) for venv in venvs))
    assert np.abs(apart).mean() < 0.1  # of 255; MuJoCo places bodies before it moves joints, a step of 2 ms
    for venv in venvs:
        venv.close()


def test_what_was_asked_for_before_is_done_after_the_environments_are_batched() -> None:
    dummy = make_vec_env(env_id("Hopper"), 1, seed=0)
    dummy.set_options({"perturbations": [{"kind": "gravity", "value": 1.2}]})
    fast = locomotion_vec_env(dummy)
    fast.reset()
    assert fast.reset_infos[0]["perturbation_names"] == ("gravity",)


def both(env_fn: Any) -> tuple[DummyVecEnv, LocomotionVecEnv]:
    """One environment in each, with the same seed."""
    venvs = (DummyVecEnv([env_fn]), LocomotionVecEnv([env_fn]))
    for venv in venvs:
        venv.seed(0)
    return venvs


def cheetah(**kwargs: Any) -> gym.Env:
    return gym.make(env_id("HalfCheetah"), **kwargs)


def test_a_fall_in_the_last_step_that_is_allowed_is_no_truncation() -> None:
    def hopper(limit: int) -> Any:
        return lambda: gym.make(env_id("Hopper"), max_episode_steps=limit)

    _, venv = both(hopper(1000))
    venv.reset()
    falls_after = 1 + [bool(venv.step(action)[2][0]) for action in random_actions(venv, 100)].index(True)
    assert assert_same_steps(both(hopper(falls_after)), falls_after) == 1


@pytest.mark.parametrize("limits", [(5, 9), (9, 5)])
def test_the_shortest_of_several_time_limits_counts(limits) -> None:
    inner, outer = limits
    assert assert_same_steps(both(lambda: TimeLimit(cheetah(max_episode_steps=inner), outer)), 11) == 2


def test_without_a_time_limit_an_episode_goes_on() -> None:
    venv = LocomotionVecEnv([lambda: cheetah(max_episode_steps=-1)])
    venv.reset()
    assert not any(venv.step(np.zeros((1, 6), np.float32))[2][0] for _ in range(1001))


def test_each_of_several_monitors_writes_its_episodes(tmp_path) -> None:
    def monitored(name: str) -> Any:
        return lambda: Monitor(
            Monitor(cheetah(max_episode_steps=3), str(tmp_path / f"{name}-in")), str(tmp_path / name)
        )

    for name, cls in (("dummy", DummyVecEnv), ("fast", LocomotionVecEnv)):
        venv = cls([monitored(name)])
        venv.seed(0)
        venv.reset()
        for action in random_actions(venv, 7):
            venv.step(action)
        venv.close()

    def episodes(name: str) -> list[str]:
        lines = (tmp_path / f"{name}.monitor.csv").read_text().splitlines()[2:]
        return [line.rpartition(",")[0] for line in lines]  # without the time

    assert len(episodes("dummy")) == 2
    assert episodes("dummy") == episodes("dummy-in") == episodes("fast") == episodes("fast-in")


def test_a_robot_that_is_moved_in_mid_episode_keeps_what_it_has_earned() -> None:
    venvs = both(lambda: Monitor(cheetah(max_episode_steps=6)))
    assert_same_steps(venvs, 3)
    for venv in venvs:
        venv.env_method("set_state", venv.get_attr("init_qpos")[0], np.zeros(9))
    assert assert_same_steps(venvs, 5, reset=False) == 1


def test_an_attribute_is_that_of_the_present_state() -> None:
    venvs = both(cheetah)
    assert_same_steps(venvs, 5)
    np.testing.assert_array_equal(*(venv.get_attr("data")[0].qpos for venv in venvs))


def test_looking_ahead_foresees_the_observation_and_moves_nothing() -> None:
    venv = LocomotionVecEnv([lambda: gym.make(env_id("Ant"))])
    venv.seed(0)
    venv.reset()
    felt = 0
    for action in random_actions(venv, 20):
        state = venv.env_method("state_vector")[0]
        foreseen = venv.look_ahead(0, [action[0]])
        np.testing.assert_array_equal(venv.env_method("state_vector")[0], state)
        np.testing.assert_array_equal(foreseen, venv.step(action)[0][0])
        felt += foreseen[27:].any()
    assert felt > 2, "forces of the ground"


def test_robots_are_idle_that_were_to_be_when_it_was_said() -> None:
    venv = make_vec_env(env_id("Hopper"), 2, vec_env_cls=LocomotionVecEnv)
    before, rows = venv.reset(), np.array([False, True])
    venv.set_idle(rows)
    rows[:] = True
    after = venv.step(np.zeros((2, 3), np.float32))[0]
    assert (after[:, :5] != before[:, :5]).any(axis=1).tolist() == [True, False]


def test_ground_for_one_robot_alone_is_refused_as_the_batch_has_none() -> None:
    venv = LocomotionVecEnv([cheetah] * 2)
    venv.reset()
    rough = {"perturbations": [{"kind": "terrain", "value": 0.2}]}
    with pytest.raises(PerturbationError, match=r"use set_options\(\.\.\.\) and reset\(\)"):
        venv.env_method("reset", options=rough, indices=0)


def test_there_are_as_many_threads_as_are_asked_for_or_as_cores_that_may_be_used(monkeypatch) -> None:
    from mujoco import batch

    asked, make = [], batch.Batch

    def recorded(model: Any, n: int, n_threads: int, **kwargs: Any) -> Any:
        asked.append(n_threads)
        return make(model, n, n_threads, **kwargs)

    monkeypatch.setattr(batch, "Batch", recorded)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for n_threads in (None, 2):
        LocomotionVecEnv([cheetah], n_threads)
    assert asked == [3, 2]
