"""Training with an adaptive layer in the loop: what the agent reads, and what reaches the robot."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from toy_robots import NOISE, A, B, policy

from sb3_plastic import PlasticPPO
from sb3_plastic.adaptive.training import VecAdaptiveLayer
from sb3_plastic.errors import UserError
from sb3_plastic.seeding import seed_each
from sb3_plastic.studies import estimates
from sb3_plastic.studies.cli import main
from sb3_plastic.studies.damage import JOINTS
from sb3_plastic.studies.estimates import AGENTS, table
from sb3_plastic.studies.results import read_results


class LinearRobot(gym.Env):
    """
    The robot of ``toy_robots`` in an episode of 60 steps.

    :param gain: what its motors do with a command
    :param n_context: numbers that the observation ends with
    """

    def __init__(self, gain=1.0, n_context=0, n_motors=2):
        self.gain, self.context = gain, np.full(n_context, gain)
        self.observation_space = spaces.Box(-np.inf, np.inf, (3 + n_context,), np.float64)
        self.action_space = spaces.Box(-1, 1, (n_motors,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.o, self.t = np.zeros(3), 0
        return np.concatenate([self.o, self.context]), {}

    def step(self, action):
        self.last = action
        noise = NOISE * self.np_random.normal(size=3)
        self.o, self.t = self.o + A @ self.o + self.gain * (B @ action) + noise, self.t + 1
        return np.concatenate([self.o, self.context]), float(self.o[0]), False, self.t == 60, {}


def robots(n=3, **kwargs):
    venv = DummyVecEnv([lambda: LinearRobot(**kwargs)] * n)
    venv.seed(0)
    return venv


def run(venv, steps, seed=1):
    """Let a restless agent act. :return: the last step's observations, rewards, dones and infos"""
    rng = np.random.default_rng(seed)
    venv.reset()
    for _ in range(steps):
        after = venv.step(rng.uniform(-0.7, 0.7, (venv.num_envs, 2)).astype(np.float32))
    return after


def test_the_agent_reads_how_strong_its_motors_are_and_how_sure_that_is():
    believed = run(VecAdaptiveLayer(robots(gain=-1.0), policy()), 40)[0]["estimates"]
    assert believed.shape == (3, 4)
    assert np.abs(believed[:, :2] + 1).max() < 0.1
    at_first = VecAdaptiveLayer(robots(), policy()).reset()["estimates"]
    assert np.all(at_first[:, :2] == 1)
    assert believed[:, 2:].max() < 0.2


def test_what_the_agent_means_reaches_reversed_motors_reversed():
    venv = VecAdaptiveLayer(robots(gain=-1.0), policy())
    run(venv, 40)
    meant = np.full((3, 2), 0.5, np.float32)
    venv.step(meant)
    assert all(np.abs(robot.last + 0.5).max() < 0.1 for robot in venv.venv.envs)


def test_while_nothing_is_wrong_the_actions_are_the_agents_own_bit_for_bit():
    plain, layered = (run(venv, 59) for venv in (robots(), VecAdaptiveLayer(robots(), policy())))
    np.testing.assert_array_equal(layered[0]["sensors"], plain[0])
    np.testing.assert_array_equal(layered[1], plain[1])


@pytest.mark.parametrize("lifetime", [False, True])
def test_an_episode_ends_with_what_was_believed_and_a_lifetime_keeps_it(lifetime):
    shown, _, dones, infos = run(VecAdaptiveLayer(robots(gain=-1.0), policy(), lifetime=lifetime), 60)
    assert dones.all()
    assert np.abs(infos[0]["terminal_observation"]["estimates"][:2] + 1).max() < 0.1
    np.testing.assert_array_equal(shown["sensors"], 0)
    assert np.all((shown["estimates"][:, :2] < 0) if lifetime else (shown["estimates"][:, :2] == 1))


def test_what_is_shown_may_be_written_over():
    venv = VecAdaptiveLayer(robots(), policy())
    venv.reset()["sensors"][:] = 99
    np.testing.assert_array_equal(venv._o, 0)


def test_robots_in_processes_of_their_own_end_their_episodes_alike():
    venv = VecAdaptiveLayer(SubprocVecEnv([LinearRobot] * 2, start_method="fork"), policy())
    _, _, dones, infos = run(venv, 60)
    venv.close()
    assert dones.all()
    assert set(infos[1]["terminal_observation"]) == {"sensors", "estimates"}


def test_a_seeded_environment_begins_another_life():
    venv = VecAdaptiveLayer(robots(gain=-1.0), policy(), lifetime=True)
    run(venv, 60)
    assert np.all(venv.reset()["estimates"][:, :2] < 0)
    seed_each(venv, [0, None, 2])
    after = venv.reset()["estimates"][:, :2]
    assert np.all(after[[0, 2]] == 1)
    assert np.all(after[1] < 0)


def test_what_lies_beyond_the_sensors_is_the_context():
    shown = VecAdaptiveLayer(robots(gain=0.3, n_context=1), policy()).reset()
    assert shown["sensors"].shape == (3, 3)
    np.testing.assert_array_equal(shown["context"], 0.3)


def test_observations_of_single_precision_keep_their_bounds():
    venv = robots(1)
    venv.observation_space = spaces.Box(-9, 9, (4,), np.float32)
    shown = VecAdaptiveLayer(venv, policy()).observation_space
    assert shown["sensors"] == spaces.Box(-9, 9, (3,), np.float64)
    assert shown["context"] == spaces.Box(-9, 9, (1,), np.float64)


def test_without_hypotheses_nothing_is_estimated():
    venv = VecAdaptiveLayer(robots(gain=-1.0, n_context=1), policy(), hypotheses=())
    assert set(venv.observation_space.spaces) == set(venv.reset()) == {"sensors", "context"}
    plain = run(robots(gain=-1.0), 30)
    np.testing.assert_array_equal(run(venv, 30)[0]["sensors"], plain[0])


def test_a_name_in_the_place_of_a_list_of_them_is_refused():
    with pytest.raises(UserError, match=r"Hypotheses are a list of names, got 'motors': write \['motors'\]"):
        VecAdaptiveLayer(robots(), policy(), hypotheses="motors")


def test_another_robot_is_refused():
    with pytest.raises(UserError, match=r"3 observations and 2 motors, the environment has 3 and 1"):
        VecAdaptiveLayer(robots(n_motors=1), policy())
    normalised = VecAdaptiveLayer(robots(), policy())
    with pytest.raises(UserError, match="below VecNormalize"):
        VecAdaptiveLayer(VecNormalize(robots()), policy())
    with pytest.raises(UserError, match="Box with one axis"):
        VecAdaptiveLayer(normalised, policy())


def test_a_plastic_agent_is_trained_with_a_critic_that_sees_the_truth():
    venv = VecNormalize(VecAdaptiveLayer(robots(gain=0.3, n_context=1), policy()))
    network = dict(net_arch=[8], critic_keys=["context"])
    model = PlasticPPO("PlasticPolicy", venv, n_steps=64, batch_size=96, policy_kwargs=network, seed=0)
    model.learn(192)
    observation = {key: value[0] for key, value in venv.reset().items() if key != "context"}
    assert model.predict(observation, deterministic=True)[0].shape == (2,)


def test_the_study_trains_with_the_layer_judges_and_reports(tmp_path, capsys, monkeypatch):
    judged = [scenario.name for scenario in estimates.scenarios()]
    assert {*judged} >= {f"estimates/dead_{joint}/onset" for joint in JOINTS} | {"nda-v2/novel/locked_joint"}
    monkeypatch.setattr(estimates, "JOINTS", JOINTS[:1])  # the others take as long again, each
    arguments = ["estimates", "--agents", "layer, estimates read", "--steps", "2048", "--episodes", "1"]
    main([*arguments, "--seeds", "0", "--logs", str(tmp_path / "logs"), "--out", str(tmp_path / "out")])
    (result,) = read_results(tmp_path / "out").values()
    assert {row["split"] for row in result["scores"]} >= {"nominal", "id", "novel"}
    assert "| layer, estimates read | 0.0 |" in capsys.readouterr().out


def test_the_table_has_the_agents_in_order_and_each_training():
    def run_of(agent, seed, speed, limbs=True):
        names = ["estimates/nominal", "estimates/drawn", "estimates/dead_bfoot"]
        names += ["nda-v2/novel/locked_joint", "nda-v2/novel/longer_limb"] * limbs
        rows = [("static", name, speed + i) for i, name in enumerate(names)]
        rows += [("onset", f"{name}/onset", speed + i) for i, name in enumerate(names[2:])]
        scores = [
            dict(protocol=p, scenario=name, control="intact", forward_reward=1000 * x, kept=x / 10)
            for p, name, x in rows
        ]
        return {"agent": agent, "steps": 10**6, "seed": seed, "scores": scores}

    lines = table([run_of(agent, seed, 2.0 + seed) for agent in reversed(AGENTS) for seed in (1, 0)])
    assert [line.split(" |")[0] for line in lines[2:]] == [f"| {agent}" for agent in AGENTS]
    assert lines[2] == (
        "| not told | 1.0 | 2.50 (2.00, 3.00) | 3.50 (3.00, 4.00) | 4.50 (4.00, 5.00) | 5.50 (5.00, 6.00) "
        "| 6.50 (6.00, 7.00) | 0.25 (0.20, 0.30) | 0.35 (0.30, 0.40) | 0.45 (0.40, 0.50) |"
    )
    older = table([run_of("told", 0, 2.0), run_of("told", 1, 2.0, limbs=False)])
    assert older[3] == "| told | 1.0 | 2.00 (2.00) | 3.00 (3.00) | 4.00 (4.00) | - | - | 0.20 (0.20) | - | - |"


class Shorter(LinearRobot):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, self.t == 40, info


def test_who_ends_an_episode_forgets_alone_and_the_others_go_on_as_without_it():
    both, alone = (
        VecAdaptiveLayer(DummyVecEnv([lambda c=c: c(gain=-1.0) for c in kinds]), policy())
        for kinds in ((LinearRobot, Shorter), (LinearRobot,))
    )
    rng = np.random.default_rng(1)
    for venv in (both, alone):
        venv.seed(0)
        venv.reset()
    for t in range(50):
        action = rng.uniform(-0.7, 0.7, (2, 2)).astype(np.float32)
        (shown, _, dones, _), (expected, *_) = both.step(action), alone.step(action[:1])
        if t == 39:
            assert dones.tolist() == [False, True]
            np.testing.assert_array_equal(shown["sensors"][1], 0)
            assert np.all(shown["estimates"][0, :2] < 0)
            assert np.all(shown["estimates"][1, :2] == 1)
        for key in shown:
            np.testing.assert_allclose(shown[key][0], expected[key][0], atol=1e-6)


def test_commands_are_in_units_of_half_the_range():
    class Wide(LinearRobot):
        def __init__(self):
            super().__init__(gain=-1.0)
            self.action_space = spaces.Box(-2, 2, (2,), np.float32)

        def step(self, action):
            return super().step(action / 2)

    venv = VecAdaptiveLayer(DummyVecEnv([Wide] * 3), policy())
    venv.seed(0)
    run(venv, 40)
    venv.step(np.full((3, 2), 1.0, np.float32))
    assert all(np.abs(robot.last + 0.5).max() < 0.1 for robot in venv.venv.envs)


def test_estimates_end_with_standard_deviations():
    np.testing.assert_allclose(VecAdaptiveLayer(robots(), policy()).reset()["estimates"][:, 2:], 1e-4**0.5)


def test_the_agent_sees_sensors_put_right():
    class Off(LinearRobot):
        def step(self, action):
            observation, *rest = super().step(action)
            return (observation + 0.5 * (self.t >= 20), *rest)

    venv = VecAdaptiveLayer(DummyVecEnv([Off] * 3), policy(("sensor_bias",)), hypotheses=("sensor_bias",))
    venv.seed(0)
    shown = run(venv, 50)[0]["sensors"]
    assert np.abs(shown - [robot.o for robot in venv.venv.envs]).max() < 0.25
