"""Robots of one's own model: scenery before the robot, servos, tendons, thrusters, arms; what has no effect there."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv

from sb3_plastic.perturbations import SUITES, PerturbationError
from sb3_plastic.perturbations.envs import make_perturbable
from sb3_plastic.perturbations.perturber import Perturber

CRAWLER = """
<mujoco>
  <worldbody>
    <geom type="plane" size="9 9 1"/>
    <body name="table" pos="3 3 .2"><geom type="box" size=".1 .1 .2"/></body>
    <body name="chassis" pos="0 0 .35">
      <freejoint/>
      <geom type="box" size=".2 .1 .05"/>
      <body pos=".2 0 0"><joint name="hip" axis="0 1 0" damping="1"/><geom type="capsule" size=".03 .1"/></body>
      <body pos="-.2 0 0"><joint name="knee" axis="0 1 0" damping="1"/><geom type="capsule" size=".03 .1"/></body>
    </body>
  </worldbody>
  <tendon><fixed name="cord"><joint joint="knee" coef="1"/></fixed></tendon>
  <actuator>
    <position name="servo" joint="hip" kp="5" ctrllimited="true" ctrlrange="-1 1"/>
    <motor name="winch" tendon="cord" gear="3" ctrllimited="true" ctrlrange="0 2"/>
  </actuator>
</mujoco>
"""

DRONE = """
<mujoco>
  <worldbody>
    <geom type="plane" size="9 9 1"/>
    <body name="frame" pos="0 0 1"><freejoint/><geom type="box" size=".1 .1 .02"/><site name="centre"/></body>
  </worldbody>
  <actuator>
    <general name="thrust" site="centre" gear="0 0 1 0 0 0" ctrllimited="true" ctrlrange="0 9"/>
    <general name="turn" site="centre" gear="0 0 0 0 0 1" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""

ARM = """
<mujoco>
  <worldbody>
    <body name="upper" pos="0 0 1">
      <joint name="shoulder" axis="0 1 0" damping="1"/><geom type="capsule" fromto="0 0 0 0 0 -.4" size=".03"/>
    </body>
  </worldbody>
  <actuator><position joint="shoulder" kp="50" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class ModelEnv(MujocoEnv):
    metadata: ClassVar = SwimmerEnv.metadata | {"render_fps": 250}  # modes that this gymnasium asks for

    def __init__(self, path: Path, xml: str) -> None:
        path.write_text(xml, encoding="utf-8")
        super().__init__(str(path), 2, observation_space=spaces.Box(-np.inf, np.inf, (0,), np.float64))
        self.observation_space = spaces.Box(-np.inf, np.inf, (self.model.nq + self.model.nv,), np.float64)

    def step(self, action: Any) -> Any:
        self.do_simulation(action, self.frame_skip)
        return self._see(), 0.0, False, False, {}

    def reset_model(self) -> Any:
        self.set_state(self.init_qpos, self.init_qvel)
        return self._see()

    def _see(self) -> Any:
        return np.concatenate([self.data.qpos, self.data.qvel])


def made(tmp_path: Path, xml: str, *entries: dict[str, Any]) -> Any:
    env = make_perturbable(ModelEnv)(tmp_path / "model.xml", xml, perturbations=entries)
    env.reset(seed=0)
    return env


def ends(env: Any, action: list[float], n_steps: int) -> np.ndarray:
    for _ in range(n_steps):
        obs = env.step(np.array(action, np.float32))[0]
    return np.array(obs)


@pytest.mark.parametrize(("kind", "value"), [("payload", 0.5), ("slope", 10), ("wind", 10), ("push", 0.3)])
def test_scenery_that_stands_before_the_robot_is_not_taken_for_it(tmp_path, kind, value) -> None:
    nominal = ends(made(tmp_path, CRAWLER), [0.5, 1], 20)
    assert np.abs(ends(made(tmp_path, CRAWLER, {"kind": kind, "value": value}), [0.5, 1], 20) - nominal).max() > 1e-4
    with pytest.raises(PerturbationError, match="no joint lets table move"):
        made(tmp_path, CRAWLER, {"kind": "push", "value": 0.3, "target": "table"})


def test_motors_of_tendons_are_perturbed_with_the_others_and_by_the_tendon_s_name(tmp_path) -> None:
    def command(entry: dict[str, Any]) -> list[float]:
        perturber: Perturber = made(tmp_path, CRAWLER, entry).perturber
        return perturber.command(np.array([0.5, 2.0])).tolist()

    assert command({"kind": "action_gain", "value": 0.5}) == [0.25, 1]
    assert command({"kind": "action_gain", "value": 0.5, "target": "cord"}) == [0.5, 1]
    assert command({"kind": "action_gain", "value": 0.5, "target": "hip"}) == [0.25, 2]
    assert command({"kind": "wires"}) == [1, 1.5]  # each within its own range: 1 of -1 to 1, half of 0 to 2
    env = made(tmp_path, CRAWLER, {"kind": "strength", "value": 0.5})
    assert env.model.actuator_gear[1, 0] == 1.5
    with pytest.raises(PerturbationError, match=r"'chord'.*cord, hip"):
        made(tmp_path, CRAWLER, {"kind": "motor_off", "target": "chord"})


def test_thrusters_of_a_body_without_joints_are_perturbed_by_their_own_names(tmp_path) -> None:
    env = made(tmp_path, DRONE, {"kind": "action_gain", "value": 0.5, "target": "thrust"})
    np.testing.assert_array_equal(env.perturber.command(np.array([4, 1])), [2, 1])
    env = made(tmp_path, DRONE, {"kind": "motor_off"})
    assert not env.model.actuator_gear.any()
    with pytest.raises(PerturbationError, match=r"simple=.false."):
        made(tmp_path, DRONE, {"kind": "payload", "value": 0.3})


@pytest.mark.parametrize("factor", [0.5, -0.5])
def test_a_weak_servo_pulls_less_and_holds_the_same_angle(tmp_path, factor) -> None:
    asked = 0.8
    held = ends(made(tmp_path, ARM), [asked], 600)[0]
    env = made(tmp_path, ARM, {"kind": "strength", "value": factor})
    torque = 50 * abs(factor) * (asked - 0)
    env.data.ctrl[:] = asked
    env.step(np.array([asked], np.float32))
    assert env.data.qfrc_actuator[0] == pytest.approx(np.sign(factor) * torque, rel=0.1)
    weak = ends(env, [asked], 600)[0]
    assert abs(weak) < abs(held)  # its own weight pulls it down a little further
    assert weak == pytest.approx(np.sign(factor) * held, abs=0.1)
    env.reset(options={"perturbations": []})
    assert env.model.actuator_gainprm[0, 0] == 50
    assert env.model.actuator_biasprm[0, 1] == -50


def test_an_arm_is_pushed_where_its_joints_let_it_move(tmp_path) -> None:
    nominal = ends(made(tmp_path, ARM), [0], 20)
    pushed = ends(made(tmp_path, ARM, {"kind": "push", "value": 0.5}), [0], 20)
    assert pushed[0] != nominal[0]
    with pytest.raises(PerturbationError, match="planar"):
        made(tmp_path, ARM, {"kind": "push", "value": 0.5, "params": {"direction": [0, 1, 0]}})


@pytest.mark.parametrize(
    ("robot", "entry", "reason"),
    [
        (SwimmerEnv, {"kind": "gravity", "value": 0.5}, "nothing here moves along it"),
        (SwimmerEnv, {"kind": "friction", "value": 0.5}, "no two parts"),
        (SwimmerEnv, {"kind": "terrain", "value": 0.1}, "no two parts"),
        (ReacherEnv, {"kind": "gravity", "value": 0.5}, "nothing here moves along it"),
        (PusherEnv, {"kind": "slope", "value": 5}, "there is no gravity"),
        (PusherEnv, {"kind": "push", "value": 0.3}, "nothing has a weight"),
    ],
)
def test_what_can_have_no_effect_on_a_robot_is_refused_with_the_reason(robot, entry, reason) -> None:
    perturbable: Any = make_perturbable(robot)
    with pytest.raises(PerturbationError, match=reason):
        perturbable(perturbations=[entry], terrain=True)


def test_a_robot_named_by_its_id_takes_scenarios_of_a_suite_of_one_s_own(tmp_path, monkeypatch) -> None:
    (tmp_path / "own.yaml").write_text(
        "{title: a crawler, onset: 5, robots: {mine/Crawler-v0: {}}, tiers: {}, faults: {novel: {weak: "
        "{about: half, perturbations: [{kind: strength, value: 0.5}]}}}}"
    )
    monkeypatch.setitem(SUITES, "own-v1", tmp_path / "own.yaml")
    crawler: Any = make_perturbable(ModelEnv, name="mine/Crawler-v0")
    env = crawler(tmp_path / "model.xml", CRAWLER, scenario="own-v1/novel/weak/onset")
    _, info = env.reset(seed=0)
    assert info["perturbation_names"] == ("strength",)
