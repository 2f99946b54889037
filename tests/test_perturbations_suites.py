"""Suites: every scenario runs, splits do not overlap, versions are frozen."""

import hashlib
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from perturbation_helpers import rollout
from stable_baselines3 import PPO

from sb3_plastic.cli import main
from sb3_plastic.perturbations import PerturbationError, env_id
from sb3_plastic.perturbations.envs import make_perturbable
from sb3_plastic.perturbations.spec import Distribution
from sb3_plastic.perturbations.suites import SPLITS, SUITES, _draws, find_scenario, load_suite, suite_names

DIGESTS = {
    "sensors-v1": "640aa1f39d160ea8f1edb6b5ff9ba3f837e10a4c3619198c30cbee23c9853285",
    "noise-v1": "c513c0f6c6c5e1be1b5cba8961d1cf14bbd711ccbc901076740241af3ee85ee1",
    "anchors-v1": "f9fea714446d6d7339610ef56c3ad3614c19419e1adb828dbbed9a65cd5e438f",
    "nda-v2": "809434171a04b359f89b9d37c00bd3ca6b568570d10f38ae8d34224844d4008c",
    "nda-v1": "e026c3b04b6699779c1b86de155ad558350a9fb7019e33f842efefd6c4424947",
}
HALF_CHEETAH_DRAWS = "b5b9adc04f664b6ea8672f4d3bb473eac1ff0b97593dd6f33b6b737c5761851c"


pytestmark = pytest.mark.usefixtures("elsewhere")


def robots_of(suite: str) -> list[str]:
    """A published suite has the robots that there were: those that came later are in later ones."""
    return list(dict.fromkeys(s.robot for s in load_suite(suite).scenarios))


@pytest.mark.parametrize("name", suite_names())
def test_a_published_version_is_frozen(name) -> None:
    data = resources.files("sb3_plastic.perturbations").joinpath("data", f"{name}.yaml").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert name in DIGESTS, f"when {name} is finished, add its digest to DIGESTS: {digest}"
    assert digest == DIGESTS[name], f"{name} has changed: results name it, so add a new version"


def test_half_cheetah_draws_in_nda_v1_what_the_published_study_drew() -> None:
    # The file may change for robots without a published result; this robot's scenarios may not.
    digest = hashlib.sha256()
    scenarios = [s for s in load_suite("nda-v1").scenarios if s.robot == "HalfCheetah"]
    for name, p in ((s.name, p) for s in scenarios for p in s.perturbations):
        rng = np.random.default_rng(0)
        laws = (p.value, p.target, p.schedule.at, p.schedule.every)
        drawn = [law.sample(rng) for law in laws if isinstance(law, Distribution) for _ in range(20)]
        digest.update(json.dumps([name, p.to_dict(), drawn]).encode())
    assert digest.hexdigest() == HALF_CHEETAH_DRAWS


def test_a_family_may_be_drawn_log_uniformly_so_that_nominal_lies_in_the_middle() -> None:
    (mass,) = (p for p in find_scenario("nda-v1/id", "Ant").perturbations if p.kind == "mass")
    rng = np.random.default_rng(0)
    drawn = np.array([mass.value.sample(rng) for _ in range(2000)])  # type: ignore[union-attr]
    # ln(1.5 / 0.35) of the ln(6.5 / 0.35) - ln(2.5 / 1.5) of the range are below the gap; uniformly, .22 would be.
    assert abs((drawn < 1.5).mean() - 0.604) < 0.04
    (gap,) = find_scenario("nda-v1/interp/mass", "Ant").perturbations
    assert gap.value == Distribution("log_uniform", (1.5, 2.5))


def test_a_suite_of_a_user_is_known_by_its_name(tmp_path, monkeypatch) -> None:
    text = (resources.files("sb3_plastic.perturbations") / "data/noise-v1.yaml").read_text().replace("0.5}", "0.7}")
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setitem(SUITES, "mine-v1", tmp_path / "mine.yaml")
    assert "mine-v1" in suite_names()
    (noise,) = find_scenario("mine-v1/novel/action_noise", "Ant").perturbations
    assert noise.value == 0.7
    assert gym.make(env_id("Ant"), scenario="mine-v1/novel/action_noise").reset(seed=0)


def test_a_suite_that_its_user_edits_is_read_anew(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(SUITES, "swing-v1", tmp_path / "swing.yaml")
    text = "title: T\nrobots: {Pendulum-v1: {}}\n"
    text += "tiers: {TIER: {robots: [Pendulum-v1], episodes: 1, scenarios: [nominal]}}\n"
    for tier in ("smoke", "quick"):
        (tmp_path / "swing.yaml").write_text(text.replace("TIER", tier))
        assert list(load_suite("swing-v1").tiers) == [tier]


def test_a_suite_of_a_user_may_change_another_environment(tmp_path, monkeypatch, capsys) -> None:
    page = (Path(__file__).parents[1] / "docs" / "perturbations.md").read_text()
    (tmp_path / "swing.yaml").write_text(
        next(text for text in page.split("```yaml") if "swing-v1" in text).split("```")[0]
    )
    monkeypatch.setitem(SUITES, "swing-v1", tmp_path / "swing.yaml")
    monkeypatch.chdir(tmp_path)
    PPO("MlpPolicy", "Pendulum-v1", n_steps=64).save("m.zip")
    command = "evaluate --model m.zip --env Pendulum-v1 --suite swing-v1 --tier quick --episodes 1 --out results"
    assert main(command.split()) == 2
    assert "not in PerturbSignals (--wrapper" in capsys.readouterr().err
    assert main([*command.split(), "--wrapper", "sb3_plastic.perturbations.wrapper.PerturbSignals"]) == 0
    returns = pd.read_csv("results/records.csv").set_index(["protocol", "split"])["return"]
    assert len(returns) == 3
    assert returns["static", "nominal"] != returns["static", "novel"] != returns["onset", "novel"]


def test_an_unknown_law_of_a_family_is_answered_with_those_that_exist() -> None:
    ranges = dict(train=[0.5, 2], gap=[1.1, 1.2], extrap1=[0.4, 3], extrap2=[0.3, 4])
    with pytest.raises(PerturbationError, match=r"law of mass: 'log'.*log_uniform, uniform"):
        _draws("mass", **ranges, law="log")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "robot"), [(name, robot) for name in suite_names() for robot in robots_of(name)])
def test_every_scenario_runs_and_perturbs(name, robot) -> None:
    env = gym.make(env_id(robot, latent=True)).unwrapped
    nominal, _, _ = rollout(env, 30)
    scenarios = [s for s in load_suite(name).scenarios if s.robot == robot]
    assert scenarios[0].split == "nominal"
    for scenario in scenarios:
        observations, _, infos = rollout(env, 30, options={"scenario": scenario.name})
        assert not infos[-1]["sim_unstable"], scenario.name
        # Level ground is a height field in terrain/onset, whose contacts are not bit-identical to a plane's.
        later = (scenario.onset and "terrain" not in scenario.name) or scenario.split == "nominal"
        assert np.array_equal(observations, nominal) == later, scenario.name


def test_nda_has_all_splits_for_all_robots_each_with_an_onset() -> None:
    scenarios = load_suite("nda-v1").scenarios
    for robot in robots_of("nda-v1"):
        for split in SPLITS[1:-1]:
            names = {s.name for s in scenarios if s.robot == robot and s.split == split}
            assert names, (robot, split)
            assert {f"{name}/onset" for name in names if not name.endswith(("/onset", "/switch"))} <= names
        novel = {s.perturbations[0].kind for s in scenarios if s.robot == robot and s.split == "novel"}
        trained = {p.kind for s in scenarios if s.robot == robot and s.split == "train" for p in s.perturbations}
        assert novel == {"motor_off", "joint_lock", "limb_scale", "slope", "payload", "action_delay", "push", "terrain"}
        assert not novel & trained


def test_nda_v2_has_every_fault_for_all_robots_and_an_onset_unless_the_damage_lasts() -> None:
    common = "reversed redrawn weak strong action_bias wires_swapped wires_permuted wires_signed sensors_off"
    common += " sensors_far_off sensor_bias sensor_gain late_1 late_2 dead_motor locked_joint longer_limb"
    for robot in robots_of("nda-v2"):
        names = {s.name.removeprefix("nda-v2/") for s in load_suite("nda-v2").scenarios if s.robot == robot}
        for family in common.split():
            assert {f"novel/{family}", f"novel/{family}/onset"} <= names
        for family in ("reversed", "gains"):
            assert {f"{split}/{family}{late}" for split in ("train", "id") for late in ("", "/onset")} <= names
        assert {"novel/lasting_reversed", "novel/lasting_dead_motor"} <= names


def test_published_set_ups_cripple_what_their_authors_crippled() -> None:
    for name, robot, off in [
        ("cadm/crippled/c1", "HalfCheetah", {4, 5}),
        ("t-mcl/crippled/test", "Ant", {0, 1}),
    ]:
        env = gym.make(env_id(robot), scenario=f"nda-v2/{name}").unwrapped
        env.reset(seed=0)
        assert set(np.flatnonzero(env.model.actuator_gear[:, 0] == 0)) == off


def test_what_training_draws_is_drawn_by_no_other_split() -> None:
    rng = np.random.default_rng(0)
    for robot in robots_of("nda-v1"):
        drawn: dict[tuple[str, str], np.ndarray] = {}
        for s in load_suite("nda-v1").scenarios:
            if s.robot == robot and not s.onset and s.split in ("train", "interp", "extrap1", "extrap2"):
                for p in s.perturbations:
                    drawn[p.kind, s.split] = np.array([p.value.sample(rng) for _ in range(300)])  # type: ignore[union-attr]
        for kind in ("mass", "friction", "strength", "damping"):
            train, gap, near, far = (drawn[kind, split] for split in ("train", "interp", "extrap1", "extrap2"))
            assert not ((train > gap.min()) & (train < gap.max())).any()
            assert not ((near > train.min()) & (near < train.max())).any()
            assert not ((far > near.min()) & (far < near.max())).any()
            assert train.min() < gap.min() < gap.max() < train.max()


def test_tiers_grow_and_select_by_robot_and_split() -> None:
    suite = load_suite("nda-v1")
    smoke, quick, full = (suite.select(tier) for tier in ("smoke", "quick", "full"))
    assert 0 < len(smoke) < len(quick) < len(full)
    assert set(smoke) <= set(full)
    assert set(quick) <= set(full)
    assert "train" not in {s.split for s in full}
    assert {s.robot for s in suite.select("full", robot="Hopper", split="novel")} == {"Hopper"}
    assert suite.tiers["smoke"].episodes < suite.tiers["full"].episodes
    # A robot that is named has the scenarios of any tier, those of its own name that there are.
    named = {robot: [s.name for s in suite.select("quick", robot=robot)] for robot in robots_of("nda-v1")}
    assert {len(names) for names in named.values()} == {len(named["Ant"])}
    assert {s.robot for s in suite.select("quick", robot="Hopper")} == {"Hopper"}


def test_scenarios_are_selected_by_name_whatever_the_tier_and_its_robots() -> None:
    suite = load_suite("nda-v1")
    found = suite.select("smoke", robot="Hopper", patterns=["nominal", "extrap?/mass/onset"])
    assert [s.name for s in found] == ["nda-v1/nominal", "nda-v1/extrap1/mass/onset", "nda-v1/extrap2/mass/onset"]
    assert {s.robot for s in suite.select(patterns=["nominal"])} == {*robots_of("nda-v1")}


def test_unknown_names_are_answered_with_those_that_exist() -> None:
    with pytest.raises(PerturbationError, match=r"Unknown suite 'nda_v1'. Did you mean 'nda-v1'.*anchors-v1"):
        load_suite("nda_v1")
    with pytest.raises(
        PerturbationError, match=r"Unknown scenario for Hopper: 'nda-v1/novel/moter_off'.*novel/motor_off"
    ):
        find_scenario("nda-v1/novel/moter_off", "Hopper")
    with pytest.raises(PerturbationError, match=r"Unknown tier 'huge'.*smoke"):
        load_suite("nda-v1").select("huge")
    with pytest.raises(
        PerturbationError, match=r"scenario of nda-v1 for Ant: 'novel/moter_\*'.*nominal.*novel/motor_off"
    ):
        load_suite("nda-v1").select(robot="Ant", patterns=["nominal", "novel/moter_*"])
    with pytest.raises(PerturbationError, match="not both"):
        gym.make(env_id("Ant"), scenario="nda-v1/nominal", perturbations=[{"kind": "mass", "value": 2.0}])


def test_a_robot_that_a_suite_does_not_have_is_answered_with_those_that_it_has() -> None:
    with pytest.raises(
        PerturbationError,
        match=r"nda-v1 has no scenarios for Swimmer, only for HalfC.*; there are some in nda-v2, noise-v1, sensors-v1",
    ):
        make_perturbable(SwimmerEnv)(scenario="nda-v1/novel/slope")


def test_what_a_suite_has_for_all_robots_is_for_any_environment_too() -> None:
    mine = load_suite("nda-v2").select("full", robot="mine/Crawler-v0")
    assert {s.env_id for s in mine} == {"mine/Crawler-v0"}
    named = {s.name for s in load_suite("nda-v2").select("full", robot="HalfCheetah")}
    parts = ("dead_motor", "locked_joint", "longer_limb", "cadm")  # which name parts of the robot
    assert {s.name for s in mine} == {name for name in named if not any(part in name for part in parts)}
    assert find_scenario("nda-v2/novel/reversed/onset", "mine/Crawler-v0") in mine
    swimmer = make_perturbable(SwimmerEnv)(scenario="nda-v2/novel/wires_swapped")
    assert swimmer.reset(seed=0)[1]["perturbation_names"] == ("wires",)


def test_gym_make_takes_a_scenario_by_name() -> None:
    assert find_scenario("anchors-v1/leg-crippled", "Ant").env_id == env_id("Ant", latent=True)
    env = gym.make(env_id("Ant"), scenario="anchors-v1/leg-crippled")
    _, info = env.reset(seed=0)
    assert info["perturbation_active"] == (True,)
    assert len(set(env.unwrapped.model.actuator_gear[:, 0])) == 2
    assert (env.unwrapped.model.actuator_gear[:, 0] == 0).sum() == 2


def test_registering_and_reading_suites_needs_no_mujoco() -> None:
    code = (
        "import sys, sb3_plastic.perturbations as p; from sb3_plastic.perturbations.suites import load_suite;"
        "p.register_envs(); load_suite('nda-v1'); sys.exit('mujoco' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_scenarios_with_switches_draw_anew_in_the_middle_of_half_the_episodes() -> None:
    env = gym.make("sb3_plastic/PerturbedHalfCheetahLatent-v0", scenario="nda-v1/train/switch")
    action = np.zeros(env.action_space.shape)
    episodes_with_a_switch = 0
    for seed in range(20):
        _, info = env.reset(seed=seed)
        before = info["perturbation_values"]
        for _ in range(501):
            *_, info = env.step(action)
        episodes_with_a_switch += info["perturbation_values"] != before
    assert 5 <= episodes_with_a_switch <= 15


@pytest.mark.parametrize("robot", [robot for robot in robots_of("nda-v1") if robot != "HalfCheetah"])
def test_training_scenarios_with_switches_leave_each_family_out_of_a_third_of_the_episodes(robot) -> None:
    for p in find_scenario("nda-v1/train/switch", robot).perturbations:
        rng = np.random.default_rng(0)
        begins = np.array([p.schedule.draw("at", rng) for _ in range(600)])
        assert abs((begins == 0).mean() - 1 / 3) < 0.06
        assert abs((begins > 1000).mean() - 1 / 3) < 0.06
