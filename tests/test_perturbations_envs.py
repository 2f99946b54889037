"""Perturbed environments: parity, effect, exact restoration, no leaks."""

import dataclasses
import math
from functools import cache
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs import mujoco as mujoco_envs
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from perturbation_helpers import LIMB, Gauges, actions, make, model_bytes, rollout, stock
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_plastic.perturbations import ROBOTS, Perturbation, PerturbationError, Schedule, env_id, register_envs
from sb3_plastic.perturbations.envs import make_perturbable
from sb3_plastic.perturbations.kinds import KINDS
from sb3_plastic.perturbations.kinds.base import kind as kind_of
from sb3_plastic.perturbations.render import picture
from sb3_plastic.perturbations.schedules import SIGNED
from sb3_plastic.perturbations.wrapper import PerturbSignals

PLANAR = ("HalfCheetah", "Hopper", "Walker2d")


pytestmark = pytest.mark.usefixtures("elsewhere")


def probe_entry(kind: str, probe: dict, robot: str) -> dict:
    entry = {"kind": kind, **probe}
    if KINDS[kind].target == "limb":
        entry["target"] = LIMB[robot]
    return entry


@cache
def nominal_model(robot: str) -> mujoco.MjModel:
    return stock(robot).model


def refusal(kind: str, probe: dict, robot: str) -> str | None:
    """What cannot have an effect, and has to be refused for this reason."""
    if robot in PLANAR and "direction" in probe.get("params", {}):
        return "the robot is planar"
    field = {"stiffness": "jnt_stiffness", "damping": "dof_damping"}.get(kind, "")
    if field and "op" not in probe and not getattr(nominal_model(robot), field).any():
        return f"{field} is 0 there"
    return None


# -- parity and effect -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("robot", ROBOTS)
def test_unperturbed_is_the_stock_environment_bit_for_bit(robot) -> None:
    ours, theirs = make(robot), stock(robot)
    o1, r1, _ = rollout(ours, 1000)
    o2, r2, _ = rollout(theirs, 1000)
    assert np.isfinite(o1).all()
    np.testing.assert_array_equal(o1, o2)
    np.testing.assert_array_equal(r1, r2)


def test_registering_twice_does_no_harm_and_keeps_the_stock_limits() -> None:
    register_envs()
    for robot in ROBOTS:
        spec = gym.spec(env_id(robot, latent=True))
        assert spec.max_episode_steps == gym.spec(f"{robot}-v5").max_episode_steps
        assert spec.reward_threshold == gym.spec(f"{robot}-v5").reward_threshold


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_kind_in_every_direction_has_an_effect_or_is_refused_and_is_undone_exactly(robot) -> None:
    env = make(robot, terrain=True)
    nominal, nominal_rewards, _ = rollout(env)
    model = model_bytes(env.model)
    for kind in KINDS.values():
        assert kind.probes, f"{kind.name} has no probes"
        for probe in kind.probes:
            options = {"perturbations": [probe_entry(kind.name, probe, robot)]}
            reason = refusal(kind.name, probe, robot)
            if reason is not None:
                with pytest.raises(PerturbationError, match=reason):
                    env.reset(options=options)
                continue
            perturbed, _, infos = rollout(env, options=options)
            assert not any(info["sim_unstable"] for info in infos), (kind.name, probe)
            assert np.abs(perturbed - nominal).max() > 1e-3, f"{kind.name} {probe} changes nothing on {robot}"
            env.reset(options={"perturbations": []})
            assert model_bytes(env.model) == model, f"{kind.name} {probe} left traces on {robot}"
    again, again_rewards, _ = rollout(env, options={"perturbations": []})
    np.testing.assert_array_equal(again, nominal)
    np.testing.assert_array_equal(again_rewards, nominal_rewards)


@pytest.mark.parametrize("robot", ["HalfCheetah", "Ant"])
def test_trajectories_are_bit_identical_until_the_onset_and_the_model_is_nominal_after_the_end(robot) -> None:
    env = make(robot)
    nominal, _, _ = rollout(env)
    model = model_bytes(env.model)
    for kind in KINDS.values():
        if "onset" not in kind.schedules:
            continue
        entry = probe_entry(kind.name, kind.probes[-1], robot) | {"schedule": {"form": "onset", "at": 20, "end": 40}}
        if refusal(kind.name, kind.probes[-1], robot):
            entry["params"] = {}
        perturbed, _, infos = rollout(env, options={"perturbations": [entry]})
        np.testing.assert_array_equal(perturbed[:21], nominal[:21], err_msg=kind.name)
        assert np.abs(perturbed[22:] - nominal[22:]).max() > 1e-4, kind.name
        assert [info["steps_since_onset"] for info in infos[:23]] == [-1] * 21 + [0, 1]
        assert [info["perturbation_active"][0] for info in infos] == [False] * 21 + [True] * 20 + [False] * 20
        if kind.layer != "lock":  # the angle of a released lock stays behind in eq_data, where it does nothing
            assert model_bytes(env.model) == model, kind.name
        env.reset(options={"perturbations": []})
        assert model_bytes(env.model) == model, kind.name
        assert not env.data.eq_active.any()


def test_the_model_is_restored_after_exceptions(monkeypatch) -> None:
    env = make("Ant")
    nominal, _, _ = rollout(env)
    model = model_bytes(env.model)
    env.reset(seed=0, options={"perturbations": [{"kind": "mass", "value": 2.0}]})
    with pytest.raises(ValueError, match="Action dimension mismatch"):
        env.step(np.zeros(3))
    env.reset(options={"perturbations": []})
    assert model_bytes(env.model) == model

    def half_done(active) -> None:
        active.robot.model.geom_friction[:] = 0
        raise RuntimeError("in the middle")

    monkeypatch.setitem(KINDS, "friction", dataclasses.replace(KINDS["friction"], apply=half_done))
    onset = {"kind": "friction", "value": 0.5, "schedule": {"form": "onset", "at": 3}}
    with pytest.raises(RuntimeError, match="in the middle"):
        rollout(env, options={"perturbations": [{"kind": "mass", "value": 2.0}, onset]})
    assert model_bytes(env.model) == model
    np.testing.assert_array_equal(rollout(env, options={"perturbations": []})[0], nominal)


def test_a_refused_scenario_leaves_the_present_one_in_force() -> None:
    env = make("Ant", perturbations=[{"kind": "mass", "value": 2.0}])
    before, _, _ = rollout(env)
    with pytest.raises(PerturbationError):
        env.reset(options={"perturbations": [{"kind": "mass", "value": -2.0}]})
    np.testing.assert_array_equal(rollout(env)[0], before)


# -- run-time edits equal a recompiled model ---------------------------------------------------------------------------


def simulate(model, env, n_steps: int = 60) -> np.ndarray:
    """qpos of the stock stepping, from the state that `env` has after its reset."""
    data = mujoco.MjData(model)
    env.reset(seed=0)
    data.qpos[:], data.qvel[:] = env.data.qpos, env.data.qvel
    mujoco.mj_forward(model, data)
    track = []
    for action in actions(env, n_steps):
        data.ctrl[:] = action
        mujoco.mj_step(model, data, nstep=env.frame_skip)
        track.append(data.qpos.copy())
    return np.array(track)


def own_track(env, n_steps: int = 60) -> np.ndarray:
    env.reset(seed=0)
    track = []
    for action in actions(env, n_steps):
        env.step(action)
        track.append(env.data.qpos.copy())
    return np.array(track)


def edit_mass(spec) -> None:
    for geom in spec.geoms:
        geom.density *= 2


def edit_friction(spec) -> None:
    for geom in spec.geoms:
        geom.friction = np.array([geom.friction[0] * 0.5, *geom.friction[1:]])


def edit_damping(spec) -> None:
    for joint in spec.joints:
        joint.damping = joint.damping * 2


def edit_stiffness(spec) -> None:
    for joint in spec.joints:
        if joint.type == mujoco.mjtJoint.mjJNT_HINGE and joint.name != "rooty":
            joint.stiffness = np.array([5.0, 0, 0])[: np.size(joint.stiffness)]


def edit_armature(spec) -> None:
    for joint in spec.joints:
        joint.armature *= 2


def edit_gear(spec) -> None:
    for actuator in spec.actuators:
        actuator.gear = actuator.gear * 0.5


def edit_gravity(spec) -> None:
    spec.option.gravity = spec.option.gravity * 0.5


@pytest.mark.parametrize("robot", ["Ant", "Hopper", "Walker2d", "Humanoid"])
@pytest.mark.parametrize(
    ("entry", "edit"),
    [
        ({"kind": "mass", "value": 2.0}, edit_mass),
        ({"kind": "friction", "value": 0.5}, edit_friction),
        ({"kind": "damping", "value": 2.0}, edit_damping),
        ({"kind": "stiffness", "value": 5.0, "op": "set"}, edit_stiffness),
        ({"kind": "armature", "value": 2.0}, edit_armature),
        ({"kind": "strength", "value": 0.5}, edit_gear),
        ({"kind": "gravity", "value": 0.5}, edit_gravity),
    ],
)
def test_editing_at_run_time_equals_recompiling(robot, entry, edit) -> None:
    env = make(robot, perturbations=[entry])
    spec = mujoco.MjSpec.from_file(env.fullpath)
    edit(spec)
    np.testing.assert_array_equal(own_track(env), simulate(spec.compile(), env))


@pytest.mark.parametrize("robot", ["Ant", "Hopper", "Walker2d", "Humanoid"])
def test_a_payload_equals_a_small_heavy_sphere_compiled_in(robot) -> None:
    offset = (0.2, 0.0, 0.1)
    env = make(robot, perturbations=[{"kind": "payload", "value": 0.5, "params": {"offset": offset}}])
    spec = mujoco.MjSpec.from_file(env.fullpath)
    mass = 0.5 * float(stock(robot).model.body_mass.sum())
    spec.body("torso").add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[1e-3, 0, 0], pos=offset, mass=mass, contype=0, conaffinity=0
    )
    np.testing.assert_allclose(own_track(env, 10), simulate(spec.compile(), env, 10), atol=1e-4)


def test_a_shortened_ant_leg_equals_an_edited_xml() -> None:
    env = make("Ant", perturbations=[{"kind": "limb_scale", "value": 0.5, "target": "ankle_1"}])
    text = Path(env.fullpath).read_text(encoding="utf-8")
    old = 'fromto="0.0 0.0 0.0 0.4 0.4 0.0" name="left_ankle_geom"'
    assert old in text
    model = mujoco.MjModel.from_xml_string(text.replace(old, old.replace("0.4", "0.2")))
    np.testing.assert_array_equal(own_track(env), simulate(model, env))


def test_a_hopper_limb_shrinks_about_its_joint_and_takes_the_foot_along() -> None:
    env = make("Hopper", perturbations=[{"kind": "limb_scale", "value": 0.5, "target": "leg"}])
    env.reset(seed=0)
    model = env.model
    # The joint is at (0, 0, 0.25) of the leg; its capsule, 0.5 m long, ends at -0.25, where the foot is jointed.
    np.testing.assert_allclose(model.geom("leg_geom").pos, [0, 0, 0.125])
    np.testing.assert_allclose(model.geom("leg_geom").size[:2], [0.04, 0.125])
    np.testing.assert_allclose(model.body("foot").pos, [0.13, 0, -0.1], atol=1e-12)
    np.testing.assert_allclose(model.geom("foot_geom").pos, [-0.0975, 0, 0.1])
    np.testing.assert_allclose(model.geom("foot_geom").size[:2], [0.06, 0.0975])


def test_half_cheetah_keeps_its_density_when_a_limb_is_shortened() -> None:
    env = make("HalfCheetah", perturbations=[{"kind": "limb_scale", "value": 0.5, "target": "bfoot"}])
    full = env.robot.nominal["body_mass"].copy()
    env.reset(seed=0)
    np.testing.assert_allclose(full.sum(), 14)
    others = [b for b in range(env.model.nbody) if env.model.body(b).name != "bfoot"]
    np.testing.assert_allclose(env.model.body_mass[others], full[others], rtol=1e-12)
    assert env.model.body("bfoot").mass[0] < 0.8 * full[env.model.body("bfoot").id]


def test_a_slope_is_gravity_tilted_backwards() -> None:
    env = make("Ant", perturbations=[{"kind": "slope", "value": 30.0}])
    env.reset(seed=0)
    np.testing.assert_allclose(env.model.opt.gravity, [-9.81 * 0.5, 0, -9.81 * np.sqrt(0.75)])


def test_winds_add_up_and_rise_with_their_air() -> None:
    along, across = (
        {"kind": "wind", "value": 10, "params": {"direction": direction, "density": density}}
        for direction, density in (([1, 0, 0], 1.2), ([0, 1, 0], 0.6))
    )
    env = make("Ant", perturbations=[along | {"schedule": {"form": "onset", "at": 0, "ramp": 9}}, across])
    env.reset(seed=0)
    np.testing.assert_allclose([*env.model.opt.wind, env.model.opt.density], [1, 10, 0, 0.6])
    for action in actions(env, 10):
        env.step(action)
    np.testing.assert_allclose([*env.model.opt.wind, env.model.opt.density], [10, 10, 0, 1.2])


def test_a_lock_holds_the_angle_against_the_motor() -> None:
    entry = {"kind": "joint_lock", "target": "bthigh", "schedule": {"form": "onset", "at": 10}}
    env = make("HalfCheetah", perturbations=[entry])
    env.reset(seed=0)
    for action in actions(env, 10):
        env.step(action)
    held = env.data.joint("bthigh").qpos[0]
    for _ in range(100):
        env.step(np.ones(6, np.float32))
        assert abs(env.data.joint("bthigh").qpos[0] - held) < 0.06


def test_a_switch_cripples_one_leg_after_the_other() -> None:
    entry = {"kind": "ghost_limb", "target": {"choice": [f"ankle_{i}" for i in (1, 2, 3, 4)]}}
    env = make("Ant", perturbations=[entry | {"schedule": {"form": "switch", "every": 5}}])
    _, _, infos = rollout(env, 60)
    names = [info["perturbation_names"][0] for info in infos[1:]]
    for start in range(0, 60, 5):
        assert len(set(names[start : start + 5])) == 1
    assert len(set(names)) >= 3


def test_perturbations_compose() -> None:
    entries = [{"kind": "mass", "value": 2.0}, {"kind": "body_mass", "value": 2.0, "target": "torso"}]
    env = make("Ant", perturbations=[*entries, {"kind": "gravity", "value": 0.5}, {"kind": "slope", "value": 90 / 4}])
    env.reset(seed=0)
    torso = env.model.body("torso")
    np.testing.assert_allclose(torso.mass, 4 * env.robot.nominal["body_mass"][torso.id])
    np.testing.assert_allclose(np.linalg.norm(env.model.opt.gravity), 9.81 / 2)


# -- terrain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("robot", ["Hopper", "Ant"])
def test_falling_on_terrain_is_judged_above_ground(robot) -> None:
    env = make(robot, perturbations=[{"kind": "terrain", "value": 0.4}])
    env.reset(seed=0)
    x = 20.0
    while env.robot.ground(x, 0.0) < 0.25:
        x += 0.1
    ground, height = env.robot.ground(x, 0.0), 1 if robot == "Hopper" else 2
    low = env._healthy_z_range[0]
    env.data.qpos[0] = x
    if robot == "Ant":
        env.data.qpos[1] = 0
    env.data.qpos[height] = low + ground + 0.01
    assert env.is_healthy
    env.data.qpos[height] = low + ground - 0.01
    assert not env.is_healthy
    assert env.data.qpos[height] == low + ground - 0.01


def test_the_ground_is_where_the_height_field_says() -> None:
    env = make("Ant", perturbations=[{"kind": "terrain", "value": 0.3, "params": {"seed": 3}}])
    env.reset(seed=0)
    mujoco.mj_forward(env.model, env.data)
    rng = np.random.default_rng(0)
    geom, normal = np.zeros(1, np.int32), None
    for x, y in rng.uniform([-8, -15], [100, 15], (50, 2)):
        distance = mujoco.mj_ray(env.model, env.data, [x, y, 5], [0, 0, -1], None, 1, env.robot.root, geom, normal)
        # The height field is made of triangles, the interpolation is bilinear: they agree at nodes and on edges.
        assert abs(5 - distance - env.robot.ground(x, y)) < 0.08
    node = (12.0, 3.0)
    distance = mujoco.mj_ray(env.model, env.data, [*node, 5], [0, 0, -1], None, 1, env.robot.root, geom, normal)
    np.testing.assert_allclose(5 - distance, env.robot.ground(*node), atol=1e-6)
    assert env.robot.ground(0.5, 0.5) == 0


def test_terrain_can_be_asked_for_at_reset_by_an_oracle_with_noisy_senses() -> None:
    noisy = {"kind": "obs_noise", "value": 0.1}
    env = make("Ant", observe_context=True, perturbations=[{"kind": "mass", "value": 2.0}, noisy])
    obs, _ = env.reset(options={"perturbations": [{"kind": "terrain", "value": 0.2}, noisy]})
    assert env.observation_space.contains(obs)
    assert obs[-2:].tolist() == [0, 0.1]  # mass is nominal now, and terrain none of what it was made to see


def test_terrain_can_be_asked_for_at_reset_and_differs_between_episodes() -> None:
    env = make("Ant")
    nominal, _, _ = rollout(env)
    env.reset(seed=0, options={"perturbations": [{"kind": "terrain", "value": 0.2}]})
    first = env.robot.heights.copy()
    env.reset()
    assert not np.array_equal(first, env.robot.heights)
    env.reset(seed=0)
    np.testing.assert_array_equal(first, env.robot.heights)
    np.testing.assert_array_equal(rollout(env, options={"perturbations": []})[0], nominal)


# -- rewards, leaks, blow-ups ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("robot", ROBOTS)
def test_control_cost_is_that_of_the_command_whatever_happens_to_the_motors(robot) -> None:
    env = make(robot)
    _, _, nominal = rollout(env)
    kinds = ["strength", "motor_off", "joint_lock", *(k.name for k in KINDS.values() if k.layer == "action")]
    for kind in kinds:
        _, _, infos = rollout(env, options={"perturbations": [{"kind": kind, **KINDS[kind].probes[0]}]})
        assert [i["reward_ctrl"] for i in infos[1:]] == [i["reward_ctrl"] for i in nominal[1:]], kind


@pytest.mark.parametrize(("robot", "skip"), [("Ant", 27), ("Humanoid", 348 - 78)])
def test_a_push_in_the_air_does_not_show_in_contact_forces(robot, skip) -> None:
    env = make(robot, perturbations=[{"kind": "push", "value": 1.0}])
    env.reset(seed=0)
    env.data.qpos[2] = 5.0
    obs, _, _, _, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert info["x_velocity"] > 0.01
    assert not obs[skip:].any()
    assert info["reward_contact"] == 0
    assert not env.data.xfrc_applied.any()


@pytest.mark.parametrize(
    ("robot", "size"), [("HalfCheetah", 17), ("Ant", 27), ("Hopper", 11), ("Walker2d", 17), ("Humanoid", 45)]
)
def test_latent_variants_observe_only_angles_and_velocities(robot, size) -> None:
    env = make(robot, latent=True)
    nominal, _ = env.reset(seed=0)
    assert nominal.shape == (size,)
    np.testing.assert_array_equal(nominal[-env.model.nv :], np.clip(env.data.qvel, -10, 10))
    for kind in KINDS.values():
        if kind.layer != "observation" and kind.name != "terrain" and not refusal(kind.name, kind.probes[0], robot):
            entry = probe_entry(kind.name, kind.probes[0], robot)
            np.testing.assert_array_equal(env.reset(seed=0, options={"perturbations": [entry]})[0], nominal)


def test_the_plain_humanoid_shows_its_mass_which_is_why_there_is_a_latent_one() -> None:
    env = make("Humanoid")
    nominal, _ = env.reset(seed=0)
    heavy, _ = env.reset(seed=0, options={"perturbations": [{"kind": "mass", "value": 2.0}]})
    assert not np.array_equal(heavy, nominal)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_broken_simulation_ends_the_episode_is_flagged_and_pays_nothing(robot) -> None:
    env = make(robot)
    env.reset(seed=0)
    env.data.qvel[-1] = 1e15
    obs, reward, terminated, _, info = env.step(actions(env, 1)[0])
    assert terminated
    assert info["sim_unstable"]
    assert reward == info["reward_forward"] == info["reward_ctrl"] == 0
    assert np.isfinite(obs).all()
    _, info = env.reset()
    assert not info["sim_unstable"]
    _, _, terminated, _, info = env.step(actions(env, 1)[0])
    assert not terminated
    assert not info["sim_unstable"]


# -- seeds, info, context ----------------------------------------------------------------------------------------------


DRAWN = [{"kind": "mass", "value": {"uniform": [0.5, 1.5]}}, {"kind": "friction", "value": {"log_uniform": [0.3, 3]}}]


def test_the_same_seed_gives_the_same_scenarios_and_others_do_not() -> None:
    def drawn(seed: int, entries: list[dict]) -> list[tuple]:
        env = make("HalfCheetah", perturbations=entries)
        return [env.reset(seed=seed if i == 0 else None)[1]["perturbation_values"] for i in range(3)]

    assert drawn(3, DRAWN) == drawn(3, DRAWN)
    assert len(set(drawn(3, DRAWN))) == 3
    assert drawn(3, DRAWN) != drawn(4, DRAWN)
    # One more perturbation does not shift the draws of the others.
    more = drawn(3, [*DRAWN, {"kind": "gravity", "value": {"uniform": [0.9, 1.1]}}])
    assert [values[:2] for values in more] == drawn(3, DRAWN)


def test_perturbations_do_not_touch_the_generator_of_the_environment() -> None:
    a, b = (
        make("Ant", latent=True),
        make("Ant", latent=True, perturbations=[*DRAWN, {"kind": "obs_noise", "value": 0.1}]),
    )
    for env in (a, b):
        env.reset(seed=5)
        env.step(np.zeros(8, np.float32))
        env.reset()
    assert a.np_random.random() == b.np_random.random()


def test_info_names_what_acts() -> None:
    entries = [
        {"kind": "mass", "value": 2.0},
        {"kind": "motor_off", "target": "bfoot", "schedule": {"form": "onset", "at": 2}},
    ]
    env = make("HalfCheetah", perturbations=entries)
    _, _, infos = rollout(env, 3)
    assert infos[0]["perturbation_names"] == ("mass", "motor_off:bfoot")
    assert infos[0]["perturbation_values"] == (2.0, 1.0)
    assert [info["perturbation_active"] for info in infos] == [(True, False)] * 3 + [(True, True)]
    assert [info["context"] for info in infos] == [(1.0, 0.0)] * 3 + [(1.0, 1.0)]
    assert [info["steps_since_onset"] for info in infos] == [0, 0, 1, 2]


def test_what_is_drawn_is_not_told_by_the_initial_state() -> None:
    drawn = {"kind": "strength", "value": {"uniform": [0.0, 1.0]}, "each": True}
    env = make("HalfCheetah", perturbations=[drawn])
    draws = []
    for seed in range(40):
        _, info = env.reset(seed=seed)
        draws.append([info["perturbation_values"][0][0], np.random.default_rng(seed).uniform()])
    assert abs(np.corrcoef(np.transpose(draws))[0, 1]) < 0.5  # 1 where both are of one stream


@pytest.mark.parametrize(
    ("present", "shown"),
    [
        ({"kind": "mass", "op": "scale", "value": 1.2}, 0.2),
        ({"kind": "slope", "value": -5.0}, -5.0),
        ({"kind": "slope", "value": -5.0, "params": {"direction": [0, 1, 0]}}, 0.0),
    ],
)
def test_an_oracle_sees_the_variables_of_its_layout_however_they_are_written(present, shown) -> None:
    layout = {"kind": present["kind"], "value": 1.5}
    env = make("Ant", perturbations=[layout], observe_context=True)
    obs, _ = env.reset(seed=0, options={"perturbations": [present]})
    assert obs[-1] == pytest.approx(shown)


def test_a_delay_between_two_steps_is_told_as_the_whole_one_that_acts() -> None:
    env = make("HalfCheetah", perturbations=[{"kind": "action_delay", "value": 1.7}])
    late = make("HalfCheetah", perturbations=[{"kind": "action_delay", "value": 2}])
    (observations, _, infos), (twice, _, _) = (rollout(e, 4) for e in (env, late))
    assert infos[-1]["context"] == (2.0,)
    np.testing.assert_array_equal(observations, twice)


def test_the_oracle_sees_the_context_and_others_do_not() -> None:
    target = {"choice": ["ankle_1", "ankle_2"]}
    entries = [{"kind": "strength", "value": 0.5, "target": target, "schedule": {"form": "onset", "at": 1}}]
    plain, oracle = make("Ant", perturbations=entries), make("Ant", perturbations=entries, observe_context=True)
    hidden, _, _ = rollout(plain, 3)
    seen, _, infos = rollout(oracle, 3)
    assert oracle.observation_space.shape == (plain.observation_space.shape[0] + 3,)
    assert oracle.observation_space.contains(seen[0])
    np.testing.assert_array_equal(seen[:, :-3], hidden)
    assert (seen[:2, -3:] == 0).all()
    assert seen[2, -3] == -0.5
    assert sorted(seen[2, -2:]) == [0, 1]
    assert tuple(seen[2, -3:]) == infos[2]["context"]


def test_the_oracle_of_some_perturbations_sees_of_others_what_they_have_in_common() -> None:
    oracle = make("Ant", scenario="nda-v1/train", observe_context=True)
    families = [entry.kind for entry in oracle.unwrapped.context_layout]
    others = [{"kind": "payload", "value": 0.4}, {"kind": "strength", "value": 0.5}]
    observations, _, infos = rollout(oracle, 2, options={"perturbations": others})
    assert infos[-1]["context"] == (0.4, -0.5)
    np.testing.assert_array_equal(observations[-1, -4:], [-0.5 * (kind == "strength") for kind in families])


def test_graded_schedules_move_the_model_smoothly() -> None:
    entry = {"kind": "friction", "value": 2.0, "schedule": {"form": "onset", "at": 0, "ramp": 3}}
    env = make("Ant", perturbations=[entry])
    env.reset(seed=0)
    seen = [env.model.geom_friction[0, 0]]
    for action in actions(env, 4):
        env.step(action)
        seen.append(env.model.geom_friction[0, 0])
    np.testing.assert_allclose(seen, [1.25, 1.25, 1.5, 1.75, 2.0])


def test_delays_deliver_what_was_sent_before() -> None:
    delayed = {"perturbations": [{"kind": "obs_delay", "value": 3}]}
    env = make("Hopper")
    fresh, _, _ = rollout(env)
    late, _, _ = rollout(env, options=delayed)
    np.testing.assert_array_equal(late[3:], fresh[:-3])
    np.testing.assert_array_equal(late[:3], fresh[[0, 0, 0]])


def test_a_signal_is_as_late_after_a_switch_as_before() -> None:
    env = make("Hopper")
    fresh, _, _ = rollout(env)
    late, _, _ = rollout(
        env,
        options={
            "perturbations": [{"kind": "obs_delay", "value": 3, "schedule": {"form": "switch", "at": 0, "every": 8}}]
        },
    )
    np.testing.assert_array_equal(late[3:], fresh[:-3])


def test_sensors_are_found_by_joint_name() -> None:
    env = make("Ant", latent=True, perturbations=[{"kind": "obs_bias", "value": 1.0, "target": "ankle_1"}])
    nominal, _ = make("Ant", latent=True).reset(seed=0)
    biased, _ = env.reset(seed=0)
    joint = env.model.joint("ankle_1")
    assert np.flatnonzero(biased - nominal).tolist() == [joint.qposadr[0] - 2, 15 - 2 + joint.dofadr[0]]
    env.reset(seed=0, options={"perturbations": [{"kind": "obs_bias", "value": 1.0, "target": ["*_1", "ankle_1"]}]})
    assert env.perturber.active[0].ids.tolist() == [5, 19, 6, 20]


@pytest.mark.slow
@pytest.mark.parametrize("robot", ROBOTS)
def test_the_limits_of_every_kind_leave_the_simulation_whole(robot) -> None:
    env = make(robot, terrain=True)
    for kind in KINDS.values():
        for op in kind.ops:
            for value in {**kind.limits, **kind.robot_limits.get(robot, {})}[op]:
                entry = {"kind": kind.name, "op": op, "value": value}
                if KINDS[kind.name].target == "limb":
                    entry["target"] = LIMB[robot]
                if op == "scale" and refusal(kind.name, {}, robot):
                    continue
                _, _, infos = rollout(env, 200, options={"perturbations": [entry]})
                assert not any(info["sim_unstable"] for info in infos), entry


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"kind": "masss", "value": 2},
            r"Perturbation 0 \(masss\) on Ant: Unknown kind .* Did you mean 'mass'.*ghost_limb",
        ),
        ({"kind": "motor_off", "target": "ankle_9"}, "Unknown joint of Ant: 'ankle_9'.*hip_4"),
        ({"kind": "body_mass", "value": 2, "target": "head"}, "Unknown body or joint of Ant: 'head'.*torso"),
        ({"kind": "limb_scale", "value": 0.5}, "needs a limb by name.*ankle_1"),
        ({"kind": "limb_scale", "value": 0.5, "target": "torso"}, "the body that carries all others"),
        ({"kind": "mass", "value": 2, "target": "torso"}, "takes no target"),
        ({"kind": "motor_off", "target": 1.5}, "The target of 'motor_off' is a name .* got 1.5"),
        ({"kind": "motor_off", "target": []}, "The target of 'motor_off' is a name .* got \\[\\]"),
        ({"kind": "obs_noise", "value": 1, "target": True}, "The target of 'obs_noise' is a name .* got True"),
        ({"kind": "motor_off", "target": {"choice": [1, 2]}}, "Unknown joint of Ant: 1.*hip_4"),
        ({"kind": "slope", "value": 5, "params": {"direction": [1, 0, 1]}}, "along a direction on the ground"),
        (
            {"kind": "mass", "value": 2, "schedule": {"form": "onset", "at": 5, "end": 3}},
            "'end' .* after 'at', 5",
        ),
        ({"kind": "mass", "value": -1}, "0.05 to 10"),
        ({"kind": "damping", "value": {"uniform": [1, 1000]}}, "value 1000 is outside .* 0 to 100"),
        ({"kind": "mass", "value": 3, "schedule": {"form": "periodic", "period": 9}}, "value -1 .* mirror image"),
        ({"kind": "damping", "op": "set", "value": 3, "schedule": {"form": "periodic", "period": 9}}, "symmetric"),
        ({"kind": "mass"}, "needs a value"),
        ({"kind": "mass", "value": 2, "op": "add"}, "Unknown op of 'mass': 'add'.*scale"),
        ({"kind": "motor_off", "value": 0.5}, "only on or off"),
        ({"kind": "motor_off", "schedule": {"form": "onset", "at": 1, "ramp": 5}}, "leave ramp out"),
        ({"kind": "joint_lock", "schedule": {"form": "drift"}}, "all or nothing.*onset"),
        (
            {"kind": "obs_noise", "value": 1, "schedule": {"form": "periodic", "period": 9}},
            "schedule for 'obs_noise', which has no opposite: 'periodic'.*drift",
        ),
        ({"kind": "wind", "value": 5, "params": {"density": 0}}, "wind needs a medium"),
        ({"kind": "wind", "value": 5, "params": {"denstiy": 1}}, "Did you mean 'density'"),
        ({"kind": "push", "value": 1, "params": {"direction": [0, 0, 0]}}, "not all 0"),
        ({"kind": "push", "value": 1, "params": {"direction": "x"}}, "direction of 'push' must be 3 numbers, got 'x'"),
        ({"kind": "payload", "value": 1, "params": {"offset": [0, 0, math.nan]}}, "offset .* finite number, got nan"),
        ({"kind": "wind", "value": 5, "params": {"density": None}}, "density of 'wind' must be a finite number"),
        ({"kind": "wires", "params": {"seed": -1}}, "seed of 'wires' must be a whole number from 0 on"),
        ({"kind": "obs_noise", "value": 1, "target": 999}, "Unknown component: 999.*ankle_1"),
    ],
)
def test_an_error_names_the_entry_and_what_is_allowed(entry, message) -> None:
    with pytest.raises(PerturbationError, match=f"(?s){message}"):
        make("Ant", perturbations=[entry])


def test_humanoid_has_narrower_limits() -> None:
    make("Ant", perturbations=[{"kind": "damping", "value": 6.0}])
    with pytest.raises(PerturbationError, match="0 to 4"):
        make("Humanoid", perturbations=[{"kind": "damping", "value": 6.0}])


# -- other people's tools ----------------------------------------------------------------------------------------------


# The stock environments get the same remarks: unbounded observations, and Humanoid's actions of +-0.4.
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*infinity:UserWarning")
@pytest.mark.parametrize("robot", ROBOTS)
def test_both_environment_checkers_pass(robot) -> None:
    env = gym.make(env_id(robot), perturbations=DRAWN, observe_context=True)
    gymnasium_check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env.unwrapped, skip_render_check=True)


def test_environments_survive_cloudpickle_and_env_spec_json() -> None:
    entries = [Perturbation("strength", 0.5, target="ankle_1", schedule=Schedule("onset", at=10)), *DRAWN]
    env = gym.make(env_id("Ant"), perturbations=entries)
    reference, _, _ = rollout(env)
    copy = cloudpickle.loads(cloudpickle.dumps(env.unwrapped))
    np.testing.assert_array_equal(rollout(copy)[0], reference)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    np.testing.assert_array_equal(rollout(again)[0], reference)


def test_a_robot_may_be_described_in_several_files(tmp_path) -> None:
    text = Path(mujoco_envs.__file__).with_name("assets").joinpath("half_cheetah.xml").read_text()
    assert "settotalmass" in text
    head, rest = text.split("<asset>")
    asset, tail = rest.split("</asset>")
    (tmp_path / "look.xml").write_text(f"<mujoco><asset>{asset}</asset></mujoco>")
    (tmp_path / "robot.xml").write_text(f'{head}<include file="look.xml"/>{tail}')
    env = make("HalfCheetah", xml_file=str(tmp_path / "robot.xml"))
    np.testing.assert_array_equal(rollout(env)[0], rollout(stock("HalfCheetah"))[0])


def test_any_mujoco_environment_can_be_made_perturbable() -> None:
    swimmer = make_perturbable(SwimmerEnv)
    env = swimmer(perturbations=[{"kind": "strength", "value": 0.5}])
    nominal, _, _ = rollout(SwimmerEnv())
    assert np.abs(rollout(env)[0] - nominal).max() > 1e-3
    np.testing.assert_array_equal(rollout(env, options={"perturbations": []})[0], nominal)
    (kept,) = cloudpickle.loads(cloudpickle.dumps(env)).perturber.perturbations
    assert kept == Perturbation("strength", 0.5)
    np.testing.assert_array_equal(rollout(make_perturbable(PusherEnv, "Arm")())[0], rollout(PusherEnv())[0])


def test_a_robot_that_stands_on_nothing_has_no_terrain_but_a_picture() -> None:
    pendulum = make_perturbable(InvertedPendulumEnv)
    with pytest.raises(PerturbationError, match="no plane to stand on"):
        pendulum(perturbations=[{"kind": "terrain", "value": 0.1}])
    env = pendulum(render_mode="rgb_array", width=32, height=32)
    env.reset(seed=0)
    assert picture(env).shape == (32, 32, 3)
    env.close()


def test_a_value_without_an_opposite_takes_no_schedule_that_needs_one() -> None:
    for kind in KINDS.values():
        if kind.ops == ("add",) and kind.limits["add"][0] == 0:
            assert not {*SIGNED} & {*kind.schedules}, kind.name


def test_only_indices_name_sensors_where_nothing_tells_whose_they_are() -> None:
    reacher = make_perturbable(ReacherEnv)  # observes cosines and sines of its angles
    with pytest.raises(PerturbationError, match=r"Unknown component: 'joint0'\. Allowed: an index from 0 to 9"):
        reacher(perturbations=[{"kind": "obs_bias", "value": 1.0, "target": "joint0"}])
    biased, nominal = reacher(perturbations=[{"kind": "obs_bias", "value": 1.0, "target": 2}]), reacher()
    assert np.flatnonzero(biased.reset(seed=0)[0] - nominal.reset(seed=0)[0]).tolist() == [2]


def test_a_joint_that_turns_round_and_round_has_no_range_to_change() -> None:
    reacher = make_perturbable(ReacherEnv)  # whose first joint has no limits
    with pytest.raises(PerturbationError, match="a joint without limits has no range of motion"):
        reacher(perturbations=[{"kind": "joint_range", "value": 0.5, "target": "joint0"}])
    reacher(perturbations=[{"kind": "joint_range", "value": 0.5, "target": "joint1"}])


HANGING = """
<mujoco>
  <worldbody>
    <body pos="0 0 1">
      <joint name="upper" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 -.3" size=".04"/>
      <body pos="0 0 -.3"><joint name="lower" LOWER/><geom type="capsule" fromto="0 0 0 0 0 -.3" size=".04"/></body>
    </body>
  </worldbody>
  <tendon><fixed name="both"><joint joint="upper" coef="1"/></fixed></tendon>
  <actuator><motor joint="upper" RANGE/><motor SECOND RANGE/></actuator>
</mujoco>"""


def hanging(tmp_path, lower='axis="0 1 0"', span='ctrlrange="-1 1" ctrllimited="true"', second='tendon="both"') -> Any:
    """A class of two bodies that hang from the ceiling, whose constructor takes nothing."""
    text = HANGING.replace("LOWER", lower).replace("RANGE", span).replace("SECOND", second)
    (tmp_path / "hanging.xml").write_text(text)

    class Hanging(MujocoEnv):
        metadata = SwimmerEnv.metadata | {"render_fps": 100}  # modes are those of the version of gymnasium
        space: Any = None

        def __init__(self) -> None:
            MujocoEnv.__init__(self, str(tmp_path / "hanging.xml"), 5, self.space)
            self.observation_space = self.space or spaces.Box(-np.inf, np.inf, (self.model.nq,))

        def step(self, action):
            self.do_simulation(action, self.frame_skip)
            return self.data.qpos.copy(), 0.0, False, False, {}

        def reset_model(self):
            self.set_state(self.init_qpos, self.init_qvel)
            return self.data.qpos.copy()

    return Hanging


def test_a_motor_on_a_tendon_is_none_of_the_joint_of_its_number(tmp_path) -> None:
    env = make_perturbable(hanging(tmp_path))()
    env.reset(options={"perturbations": [{"kind": "motor_off", "target": "upper"}]})
    assert env.model.actuator_gear[:, 0].tolist() == [0, 1]


def test_a_motor_without_a_range_is_perturbed_in_its_own_units(tmp_path) -> None:
    env, nominal = (make_perturbable(hanging(tmp_path, span=""))() for _ in range(2))
    env.reset(options={"perturbations": [{"kind": "action_bias", "value": 0.5}]})
    nominal.reset()
    np.testing.assert_array_equal(env.step(np.zeros(2))[0], nominal.step(np.array([0.5, 0.5]))[0])
    assert env.data.qpos.all()


def test_a_ball_joint_is_driven_and_not_held(tmp_path) -> None:
    env = make_perturbable(hanging(tmp_path, lower='type="ball"', second='joint="lower"'))()
    env.reset(options={"perturbations": [{"kind": "joint_lock", "target": "upper"}]})
    with pytest.raises(PerturbationError, match="a hinge or a slide; lower is a ball"):
        env.reset(options={"perturbations": [{"kind": "joint_lock"}]})


@pytest.mark.parametrize("kind", ["damping", "armature"])
def test_all_degrees_of_freedom_of_a_ball_joint_change(kind, tmp_path) -> None:
    env = make_perturbable(hanging(tmp_path, lower=f'type="ball" {kind}="1"', second='joint="lower"'))()
    value = getattr(env.model, f"dof_{kind}")
    env.reset(options={"perturbations": [{"kind": kind, "value": 3.0, "target": "lower"}]})
    assert value.tolist() == [0, 3, 3, 3]
    env.reset(options={"perturbations": [{"kind": kind, "op": "set", "value": [2.0, 5.0]}]})  # each joint its own
    assert value.tolist() == [2, 5, 5, 5]


def test_a_joint_with_a_reference_angle_is_held_where_it_is(tmp_path) -> None:
    env = make_perturbable(hanging(tmp_path, lower='axis="0 1 0" ref="40"', second='joint="lower"'))()
    env.reset(options={"perturbations": [{"kind": "joint_lock", "target": "lower"}]})
    angles = [env.step(np.zeros(2))[0][1] for _ in range(20)]
    np.testing.assert_allclose(angles, np.radians(40), atol=0.02)


def test_a_body_without_mass_stays_without(tmp_path) -> None:
    env = make_perturbable(hanging(tmp_path, lower='axis="0 1 0"/><body name="mark"'))()
    env.reset(options={"perturbations": [{"kind": "mass", "value": 2.0}]})
    assert env.model.body("mark").mass == 0
    assert np.isfinite(env.model.body_inertia).all()


def test_observations_of_several_parts_are_refused(tmp_path) -> None:
    env_class = hanging(tmp_path)
    env_class.space = spaces.Dict({"angles": spaces.Box(-1, 1, (2,))})
    with pytest.raises(PerturbationError, match="observes a box of one axis, got Dict"):
        make_perturbable(env_class)()


def test_kinds_of_ones_own_are_checked() -> None:
    with pytest.raises(PerturbationError, match=r"Unknown layer 'actions'\. Did you mean 'action'"):
        kind_of("actions", "a law", "a unit")
    with pytest.raises(PerturbationError, match="Unknown target 'Joint'"):
        kind_of("action", "a law", "a unit", target="Joint")


def test_a_target_is_drawn_by_a_choice() -> None:
    with pytest.raises(PerturbationError, match="drawn by a choice"):
        make("Hopper", perturbations=[{"kind": "obs_bias", "value": 1.0, "target": {"uniform": [0, 5]}}])


def test_classes_that_step_on_their_own_cannot_be_made_perturbable() -> None:
    class Own(SwimmerEnv):
        def _step_mujoco_simulation(self, ctrl, n_frames) -> None:
            raise NotImplementedError  # never called: the class is refused

    with pytest.raises(TypeError, match="_step_mujoco_simulation of its own"):
        make_perturbable(Own)
    with pytest.raises(TypeError, match="wrap an instance in PerturbSignals"):
        make_perturbable(gym.Env)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version.*:UserWarning")
def test_signals_can_be_perturbed_in_any_box_environment() -> None:
    def track(perturbations: list[dict]) -> np.ndarray:
        env = PerturbSignals(gym.make("Pendulum-v1"), perturbations=perturbations)
        return rollout(env)[0]

    nominal = rollout(gym.make("Pendulum-v1"))[0]
    np.testing.assert_array_equal(track([]), nominal)
    for kind in KINDS.values():
        if kind.layer in ("action", "observation") and kind.name != "wires":  # Pendulum has a single motor
            assert np.abs(track([{"kind": kind.name, **kind.probes[0]}]) - nominal).max() > 1e-3, kind.name
    assert np.flatnonzero(np.ptp(track([{"kind": "obs_stuck", "target": 1}]), axis=0) == 0).tolist() == [1]
    with pytest.raises(PerturbationError, match=r"Pendulum-v1: without access to the model only .* action_noise"):
        track([{"kind": "mass", "value": 2.0}])
    with pytest.raises(PerturbationError, match="Box of one dimension"):
        PerturbSignals(gym.make("CartPole-v1"))
    noisy = PerturbSignals(gym.make("MountainCarContinuous-v0"), [{"kind": "action_noise", "value": 0.1}])
    gymnasium_check_env(noisy, skip_render_check=True)


@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        ({"kind": "obs_bias", "value": 100.0}, [200, 200, 200]),
        ({"kind": "obs_gain", "value": 3.0}, [255, 255, 255]),
        ({"kind": "obs_gain", "value": 0.996}, [100, 100, 100]),
        ({"kind": "obs_noise", "value": 5.0}, None),
        ({"kind": "obs_delay", "value": 1}, [100, 100, 100]),
    ],
)
def test_perturbed_integers_stay_integers_within_their_space(entry, seen) -> None:
    observations = rollout(PerturbSignals(Gauges(), [entry]), 3)[0]
    assert observations.dtype == np.uint8
    assert np.abs(observations.astype(int) - (seen or 100)).max() <= (0 if seen else 30)


@pytest.mark.parametrize(
    ("entry", "command"),
    [
        ({"kind": "motor_stuck", "value": 1.0}, [1, 1, 2]),
        ({"kind": "motor_stuck", "value": -0.5}, [-0.5, 0.25, 0.5]),
        ({"kind": "motors_reversed", "value": 0.99, "params": {"seed": 1}}, [-0.5, 0.75, 1.5]),
        ({"kind": "action_dropout", "value": 1.0}, [0, 0, 0]),
        ({"kind": "action_gain", "value": 0.5}, [0.25, 0.125, 0.25]),
    ],
)
def test_fractions_of_the_control_range_are_about_its_middle(entry, command) -> None:
    env = PerturbSignals(Gauges(), [entry])
    env.reset(seed=0)
    assert env.step(np.float32([0.5, 0.25, 0.5]))[4]["command"].tolist() == pytest.approx(command)


class Steps(Gauges):
    """Takes whole numbers, from the least to the greatest that their type has."""

    action_space = spaces.Box(-128, 127, (2,), np.int8)


@pytest.mark.parametrize(
    ("entry", "command"),
    [
        ({"kind": "action_gain", "value": 0.99}, [10, -10]),
        ({"kind": "action_bias", "value": 0.1}, [23, 3]),
        ({"kind": "motor_stuck", "value": 1.0}, [127, 127]),
        ({"kind": "action_gain", "value": 4.0}, [40, -40]),
    ],
)
def test_commands_that_are_integers_are_rounded_and_have_the_range_of_their_space(entry, command) -> None:
    env = PerturbSignals(Steps(), [entry])
    env.reset(seed=0)
    sent = env.step(np.int8([10, -10]))[4]["command"]
    assert sent.dtype == np.int8
    assert sent.tolist() == command


def test_crossed_wires_carry_fractions_of_the_control_range() -> None:
    env = PerturbSignals(Gauges(), [{"kind": "wires"}])
    env.reset(seed=0)
    sent, got = np.float32([0.5, 0.25, 0.5]), env.step(np.float32([0.5, 0.25, 0.5]))[4]["command"]
    fractions = np.array([0.5, -0.5, -0.5])
    middle, half = np.array([0, 0.5, 1]), np.array([1, 0.5, 1])
    np.testing.assert_allclose(got, middle + half * (env.perturber.active[0].value @ fractions))
    assert not np.array_equal(sent, got)
