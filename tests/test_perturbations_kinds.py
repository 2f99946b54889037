"""What single kinds of perturbation do to body, ground and forces, by numbers; and what they leave alone."""

import copy
import dataclasses

import cloudpickle
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from perturbation_helpers import make, model_bytes

from sb3_plastic.perturbations import PerturbationError
from sb3_plastic.perturbations.envs import make_perturbable
from sb3_plastic.perturbations.kinds import KINDS, kind

pytestmark = pytest.mark.usefixtures("elsewhere")


def begun(robot: str, *entries: dict, **kwargs):
    """An environment after its reset."""
    env = make(robot, perturbations=list(entries), **kwargs)
    env.reset(seed=0)
    return env


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "mass", "value": 2.0},
        {"kind": "body_mass", "value": 2.0, "target": "aux_1"},
        {"kind": "body_mass", "value": 1.0, "op": "add", "target": "ankle_1"},
        {"kind": "payload", "value": 0.3},
        {"kind": "armature", "value": 3.0, "target": "hip_1"},
        {"kind": "ghost_limb", "target": "ankle_1"},
    ],
)
def test_what_mujoco_derives_from_masses_is_that_of_the_perturbed_robot(entry) -> None:
    env = begun("Ant", entry)
    derived = copy.copy(env.model)
    mujoco.mj_setConst(derived, mujoco.MjData(derived))
    assert model_bytes(derived) == model_bytes(env.model)
    assert not np.array_equal(derived.dof_invweight0, env.robot.nominal["dof_invweight0"])


@pytest.mark.parametrize(
    "offset", [(0.2, 0.0, 0.1), (0.0, 0.2, 0.1), (0.1, 0.2, 0.3), (0.0, 0.0, 0.1), (-0.2, 0.1, 0.0)]
)
def test_a_payload_turns_the_principal_axes_of_the_body(offset) -> None:
    env = begun("Ant", {"kind": "payload", "value": 0.5, "params": {"offset": offset}})
    model, nominal, root = env.model, env.robot.nominal, env.robot.root
    own, added, r = nominal["body_mass"][root], 0.5 * nominal["body_mass"].sum(), np.array(offset)
    np.testing.assert_allclose(model.body_ipos[root], added * r / (own + added))
    turned = np.zeros(9)
    mujoco.mju_quat2Mat(turned, model.body_iquat[root])
    axes = turned.reshape(3, 3)
    # Of a sphere and a point, about their centre of mass: with the reduced mass, at their distance.
    expected = np.diag(nominal["body_inertia"][root])
    expected = expected + own * added / (own + added) * (r @ r * np.eye(3) - np.outer(r, r))
    np.testing.assert_allclose(axes @ np.diag(model.body_inertia[root]) @ axes.T, expected, atol=1e-9)


def test_payloads_are_fractions_of_the_nominal_mass_and_add_up() -> None:
    env = begun("Ant", {"kind": "payload", "value": 0.25}, {"kind": "payload", "value": 0.5})
    assert env.model.body_mass.sum() == pytest.approx(1.75 * env.robot.nominal["body_mass"].sum())


def test_slippery_ground_slides_and_turns_and_rolls_as_before() -> None:
    env = begun("Ant", {"kind": "friction", "value": 0.3})
    np.testing.assert_allclose(env.model.geom_friction, env.robot.nominal["geom_friction"] * [0.3, 1, 1])


def test_a_range_of_motion_shrinks_about_its_middle() -> None:
    env = begun("HalfCheetah", {"kind": "joint_range", "value": 0.5, "target": "bthigh"})
    np.testing.assert_allclose(env.model.joint("bthigh").range, [0.265 - 0.3925, 0.265 + 0.3925])
    np.testing.assert_array_equal(env.model.joint("bshin").range, [-0.785, 0.785])


def test_of_all_joints_those_with_limits_change_their_range() -> None:
    env = make_perturbable(ReacherEnv)(perturbations=[{"kind": "joint_range", "value": 0.5}])
    env.reset(seed=0)
    np.testing.assert_allclose(env.model.joint("joint1").range, [-1.5, 1.5])


def test_a_limb_is_scaled_once_if_what_it_carries_is_named_too() -> None:
    alone, both = (
        begun("Ant", {"kind": "limb_scale", "value": 0.5, "target": target})
        for target in ("hip_1", ["hip_1", "ankle_1"])
    )
    assert model_bytes(alone.model) == model_bytes(both.model)


def test_a_lost_limb_has_no_contact_no_torque_and_hardly_any_mass() -> None:
    env = begun("Ant", {"kind": "ghost_limb", "target": "hip_1"})
    lost = env.robot.subtree(env.robot.bodies["hip_1"])
    assert len(lost) == 2  # with what hangs on it
    model, nominal = env.model, env.robot.nominal
    of_limb = np.isin(model.geom_bodyid, lost)
    for name in ("geom_contype", "geom_conaffinity"):
        np.testing.assert_array_equal(getattr(model, name), np.where(of_limb, 0, nominal[name]))
    shrunk = np.where(np.isin(np.arange(model.nbody), lost), 1e-4, 1)
    np.testing.assert_allclose(model.body_mass, shrunk * nominal["body_mass"])
    np.testing.assert_allclose(model.body_inertia, shrunk[:, None] * nominal["body_inertia"])


def test_two_locks_hold_from_their_own_onsets_on() -> None:
    entries = [
        {"kind": "joint_lock", "target": joint, "schedule": {"form": "onset", "at": at}}
        for joint, at in (("bfoot", 1), ("ffoot", 3))
    ]
    env = begun("HalfCheetah", *entries)
    held = []
    for _ in range(5):
        env.step(np.zeros(6, np.float32))
        held.append(int(env.data.eq_active.sum()))
    assert held == [0, 1, 1, 2, 2]


# -- forces and directions ---------------------------------------------------------------------------------------------


def test_a_push_of_one_body_weight_upwards_carries_the_robot() -> None:
    env = begun("Ant", {"kind": "push", "value": 1.0, "params": {"direction": [0, 0, 3]}})

    def rise() -> float:
        mujoco.mj_subtreeVel(env.model, env.data)
        return env.data.subtree_linvel[env.robot.root, 2]

    env.data.qpos[2] = 5.0  # in the air
    mujoco.mj_forward(env.model, env.data)
    before = rise()
    for _ in range(4):
        env.step(np.zeros(8, np.float32))
    assert rise() - before == pytest.approx(0, abs=0.01)  # m/s; in free fall, -2


def test_directions_have_no_length() -> None:
    across = {"params": {"direction": [3, 4, 0]}}
    env = begun("Ant", {"kind": "wind", "value": 10, **across})
    np.testing.assert_allclose(env.model.opt.wind, [6, 8, 0])
    env = begun("Ant", {"kind": "slope", "value": 30, **across})
    np.testing.assert_allclose(env.model.opt.gravity, 9.81 * np.array([-0.3, -0.4, -np.sqrt(0.75)]))


def test_a_wind_that_turns_blows_as_hard_back() -> None:
    env = begun("Ant", {"kind": "wind", "value": 10, "schedule": {"form": "periodic", "period": 4}})
    seen = []
    for _ in range(4):
        env.step(np.zeros(8, np.float32))
        seen.append([env.model.opt.wind[0], env.model.opt.density])
    np.testing.assert_allclose(seen, [[0, 0], [10, 1.2], [0, 0], [-10, 1.2]], atol=1e-12)


# -- terrain -----------------------------------------------------------------------------------------------------------


def test_a_robot_stands_on_rough_ground() -> None:
    env = begun("Ant", {"kind": "terrain", "value": 0.5, "params": {"seed": 0, "flat": 0.0}})
    rows, columns = np.unravel_index(np.argsort(env.robot.heights, axis=None), env.robot.heights.shape)
    x, y = columns[-1] * 0.5 - 10, rows[-1] * 0.5 - 20
    assert env.robot.ground(x, y) > 0.49  # a peak
    env.data.qpos[:3] = x, y, 1.0
    for _ in range(40):
        env.step(np.zeros(8, np.float32))
    assert env.data.qpos[2] > env.robot.ground(*env.data.qpos[:2]) + 0.2  # of the torso, a sphere of 0.25 m


def test_the_height_of_rough_ground_is_where_mujocos_ray_meets_it() -> None:
    env = begun("Ant", {"kind": "terrain", "value": 0.5, "params": {"seed": 0, "flat": 0.0}})
    env.data.qpos[2] = 100.0  # out of the ray's way
    mujoco.mj_forward(env.model, env.data)
    rng, down, met = np.random.default_rng(0), np.array([0.0, 0.0, -1.0]), np.zeros(1, np.int32)
    for x, y in rng.uniform(-8, 8, (50, 2)):
        far = mujoco.mj_ray(env.model, env.data, np.array([x, y, 5.0]), down, None, 1, -1, met)
        assert met[0] == env.model.geom("terrain").id
        assert 5.0 - far == pytest.approx(env.robot.ground(x, y), abs=1e-5)


def test_where_rough_ground_is_level_nothing_but_it_is_touched() -> None:
    env = begun("Ant", {"kind": "terrain", "value": 0.5, "params": {"flat": 8.0}})
    touched = set()
    for _ in range(30):
        env.step(np.zeros(8, np.float32))
        touched |= {int(geom) for geom in env.data.contact.geom.ravel()}
    assert env.model.geom("terrain").id in touched
    assert env.robot.planes[0] not in touched


def test_the_ground_of_a_planar_robot_is_the_same_across() -> None:
    heights = begun("Hopper", {"kind": "terrain", "value": 0.2, "params": {"flat": 0.0}}).robot.heights
    assert (np.ptp(heights, axis=0) == 0).all()
    assert np.ptp(heights) > 0.1
    assert np.ptp(begun("Ant", {"kind": "terrain", "value": 0.2}).robot.heights, axis=0).min() > 0.1


def test_of_two_grounds_the_last_is_there_and_the_plane_is_as_low_as_below_one() -> None:
    rough, rougher = ({"kind": "terrain", "value": value, "params": {"seed": 1}} for value in (0.1, 0.3))
    both, alone = begun("Ant", rough, rougher), begun("Ant", rougher)
    assert model_bytes(both.model) == model_bytes(alone.model)


def test_beyond_the_edge_the_ground_goes_on_as_at_the_edge() -> None:
    robot = begun("Ant", {"kind": "terrain", "value": 0.2, "params": {"flat": 0.0}}).robot
    assert robot.ground(-99.0, 3.0) == robot.ground(-10.0, 3.0)
    assert robot.ground(7.0, -99.0) == robot.ground(7.0, -20.0)
    assert robot.ground(999.0, 3.0) == pytest.approx(robot.ground(390.0, 3.0), abs=1e-3)
    assert robot.ground(7.0, 99.0) == pytest.approx(robot.ground(7.0, 20.0), abs=1e-3)


def test_the_ground_is_level_within_a_circle_around_the_start() -> None:
    robot = begun("Ant", {"kind": "terrain", "value": 0.2, "params": {"flat": 3.0}}).robot
    assert robot.ground(3.0, 0.0) == robot.ground(0.0, -3.0) == robot.ground(-2.0, 2.0) == 0
    assert robot.ground(0.0, 4.0) > 0
    assert robot.ground(2.5, 2.5) > 0


def test_where_the_terrain_was_the_ground_is_level_again() -> None:
    env = begun("Hopper", {"kind": "terrain", "value": 0.2})
    assert env.robot.ground(20.25, 0.0) > 0
    env.reset(options={"perturbations": []})
    assert env.robot.ground(20.25, 0.0) == 0


def test_terrain_that_comes_in_leaves_the_draws_of_the_episodes_as_they_were() -> None:
    def drawn(**kwargs) -> list[tuple]:
        env = make("Hopper", perturbations=[{"kind": "mass", "value": {"uniform": [0.5, 1.5]}}], **kwargs)
        infos = [env.reset(seed=3)[1], env.reset()[1]]
        later = [*env.perturber.perturbations, {"kind": "terrain", "value": 0.1}]
        infos.append(env.reset(options={"perturbations": later})[1])
        return [info["perturbation_values"][0] for info in infos]

    assert drawn() == drawn(terrain=True)


def test_terrain_that_comes_in_is_seen_in_pictures() -> None:
    env = make("Hopper", render_mode="rgb_array", width=64, height=64)
    env.reset(seed=0)
    level = env.render()
    env.reset(seed=0, options={"perturbations": [{"kind": "terrain", "value": 0.4, "params": {"flat": 0.0}}]})
    rough = env.render()
    env.reset(seed=0, options={"perturbations": []})
    assert (rough != level).any(axis=2).mean() > 0.05
    assert (env.render() != rough).any(axis=2).mean() > 0.05
    env.close()


# -- environments ------------------------------------------------------------------------------------------------------


def test_pictures_may_be_larger_than_the_robots_file_foresees() -> None:
    env = begun("Hopper", render_mode="rgb_array", width=800, height=600)
    seen = env.render()
    env.close()
    assert seen.shape == (600, 800, 3)
    assert seen[:, -100:].any(axis=2).mean() > 0.8  # of what is beyond the frame buffer, MuJoCo gives black


def test_an_oracle_on_terrain_survives_cloudpickle() -> None:
    env = make("Hopper", perturbations=[{"kind": "gravity", "value": 1.2}], observe_context=True, terrain=True)
    copied = cloudpickle.loads(cloudpickle.dumps(env))
    assert copied.observation_space == env.observation_space
    assert copied.robot.terrain
    assert copied.reset(seed=0)[0][-1] == pytest.approx(0.2)


@pytest.mark.parametrize("index", [-1, 11])
def test_an_index_of_a_sensor_is_from_0_to_the_last(index) -> None:
    with pytest.raises(PerturbationError, match=rf"Unknown component: {index}.*an index from 0 to 10"):
        make("Hopper", perturbations=[{"kind": "obs_bias", "value": 1.0, "target": [0, index]}])


def test_a_kind_that_edits_the_model_names_what_it_writes() -> None:
    with pytest.raises(PerturbationError, match=r"names the fields of the MjModel that it writes, fields=\(\.\.\.\)"):
        kind("model", "rust", "factor", ops=("scale",), limits={"scale": (1, 2)})


def test_a_field_that_the_model_lacks_is_refused_with_the_one_meant(monkeypatch) -> None:
    monkeypatch.setitem(KINDS, "friction", dataclasses.replace(KINDS["friction"], fields=("geom_frictoin",)))
    with pytest.raises(PerturbationError, match=r"'friction' names: 'geom_frictoin'\. Did you mean 'geom_friction'\?"):
        make("Hopper", perturbations=[{"kind": "friction", "value": 2.0}])


@pytest.mark.parametrize("name", ["action_bias", "obs_bias"])
@pytest.mark.parametrize("returned", [None, np.zeros(1)])
def test_a_filter_that_returns_no_such_vector_is_refused_at_once(name, returned, monkeypatch) -> None:
    monkeypatch.setitem(KINDS, name, dataclasses.replace(KINDS[name], apply=lambda active, x: returned))
    with pytest.raises(PerturbationError, match=rf"'{name}' must return .*shape \(\d+,\),.* returned (None|array)"):
        begun("Hopper", {"kind": name, "value": 0.1}).step(np.zeros(3))
