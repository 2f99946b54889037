"""The oracle by compensation: told the truth about motors, wires and sensors, a model does as if all were well."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import perturbation_helpers  # noqa: F401  (registers the environments)
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_plastic.evaluation.told import Told
from sb3_plastic.perturbations import PerturbationError, env_id
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import measure_admission  # noqa: E402


def track(robot: str, perturbations: list[dict], told: bool = True, n_steps: int = 40) -> np.ndarray:
    """Observations of a policy that is a fixed function of them, [T, 2, D]."""
    venv = make_vec_env(env_id(robot, latent=True), 2, seed=0, vec_env_cls=LocomotionVecEnv)
    venv.set_options({"perturbations": perturbations})
    venv = Told(venv) if told else venv
    weights = np.random.default_rng(0).normal(size=(venv.observation_space.shape[0], venv.action_space.shape[0]))
    seen = [venv.reset()]
    for _ in range(n_steps):
        seen.append(venv.step(0.5 * np.sin(seen[-1] @ weights))[0])
    return np.array(seen)


@pytest.mark.parametrize("robot", ["HalfCheetah", "Ant"])
def test_told_what_can_be_undone_a_model_walks_as_if_nothing_had_happened(robot) -> None:
    entries = [
        {"kind": "strength", "value": {"uniform": [0.6, 1.3]}, "each": True},
        {"kind": "motors_reversed", "value": 0.5},
        {"kind": "wires", "params": {"mode": "permute_signed"}},
        {"kind": "action_gain", "value": -1.0, "target": "*"},
        {"kind": "obs_gain", "value": 0.5},
        {"kind": "obs_bias", "value": {"uniform": [-0.3, 0.3]}, "each": True},
    ]
    nominal = track(robot, [])
    np.testing.assert_allclose(track(robot, entries)[:10], nominal[:10], atol=1e-5)
    assert np.abs(track(robot, entries, told=False)[:10] - nominal[:10]).max() > 0.1


@pytest.mark.parametrize("steps", [1, 2])
def test_told_how_late_commands_are_a_model_sees_the_state_at_their_arrival(steps) -> None:
    late = [{"kind": "action_delay", "value": steps}]
    told = track("HalfCheetah", late)
    venv = make_vec_env(env_id("HalfCheetah", latent=True), 2, seed=0, vec_env_cls=LocomotionVecEnv)
    venv.set_options({"perturbations": late})
    told_venv = Told(venv)
    seen = [told_venv.reset()]
    real = []
    weights = np.random.default_rng(0).normal(size=(17, 6))
    for _ in range(20):
        seen.append(told_venv.step(0.5 * np.sin(seen[-1] @ weights))[0])
        real.append(np.concatenate([venv._qpos[:, 1:], venv._qvel], axis=1))
    np.testing.assert_array_equal(np.array(seen), told[:21])
    for t in range(1, 15):  # what was foreseen happens
        np.testing.assert_allclose(seen[t], real[t - 1 + steps], atol=1e-9)


def test_told_a_model_keeps_the_context_that_it_sees() -> None:
    kwargs = {"observe_context": True, "perturbations": [{"kind": "action_delay", "value": 1}]}
    venv = Told(make_vec_env(env_id("HalfCheetah"), 1, env_kwargs=kwargs, vec_env_cls=LocomotionVecEnv))
    assert venv.reset()[0, 17:].tolist() == [1]
    for _ in range(3):
        assert venv.step(np.zeros((1, 6)))[0][0, 17:].tolist() == [1]


def test_the_truth_is_told_after_the_first_perturbed_step_and_not_before() -> None:
    onset = [{"kind": "obs_bias", "value": 0.5, "schedule": {"form": "onset", "at": 5}}]
    np.testing.assert_allclose(track("HalfCheetah", onset)[:12], track("HalfCheetah", [])[:12], atol=1e-5)
    assert np.abs(track("HalfCheetah", onset, told=False)[6] - track("HalfCheetah", [])[6]).max() > 0.4
    onset = [{"kind": "action_gain", "value": -1.0, "schedule": {"form": "onset", "at": 5}}]
    told, nominal = track("HalfCheetah", onset), track("HalfCheetah", [])
    np.testing.assert_array_equal(told[:6], nominal[:6])
    assert np.abs(told[6] - nominal[6]).max() > 0.01


def test_other_vector_environments_are_refused() -> None:
    with pytest.raises(PerturbationError, match="needs a LocomotionVecEnv"):
        Told(make_vec_env(env_id("HalfCheetah"), 1, vec_env_cls=DummyVecEnv))


def test_a_scenario_is_admitted_where_the_oracle_leads_the_best_of_the_others_by_thirty_percent() -> None:
    def records(label: str, forward: dict[str, float]) -> pd.DataFrame:
        rows = [
            dict(label=label, protocol="static", control="intact", scenario=s, forward_reward=f, steps=100, unstable=0)
            for s, f in forward.items()
        ]
        return pd.DataFrame(rows)

    table = measure_admission.admission(
        records("told", {"a": 130.0, "b": 129.0, "c": 50.0}),
        [records("x", {"a": 100.0, "b": 20.0, "c": -10.0}), records("y", {"a": 10.0, "b": 100.0, "c": -20.0})],
    )
    assert table.admitted.to_dict() == {"a": True, "b": False, "c": True}
    assert table.best.to_dict() == {"a": "x", "b": "y", "c": "x"}
    np.testing.assert_allclose(table.lead, [0.3, 0.29, 6.0])


def test_other_protocols_other_controls_and_simulations_that_broke_admit_nothing() -> None:
    row = dict(label="x", protocol="static", control="intact", scenario="a", steps=100, unstable=0, forward_reward=100)
    asked = pd.DataFrame([row])
    for other in (dict(protocol="lifetime"), dict(control="off"), dict(unstable=1)):
        told = pd.DataFrame([row, {**row, "forward_reward": 900, **other}])
        assert measure_admission.admission(told, [asked]).lead.tolist() == [0.0]
    off = pd.DataFrame([row, {**row, "control": "off", "forward_reward": 50}])
    assert measure_admission.admission(asked, [off]).lead.tolist() == [0.0]


def test_the_script_tabulates_what_is_admitted(capsys) -> None:
    # One short episode says nothing about the tasks, but all of the path is run.
    agents = ROOT / "docs/results/learning/agents/plastic_ppo"
    argv = ["--model", str(agents / "HalfCheetah-v5_1/HalfCheetah-v5.zip"), "--episodes", "1", "--steps", "5"]
    assert measure_admission.main([*argv, "--only", "reversed", "sensor_gain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert rows[2:] == ["nominal", "id/reversed", "novel/reversed", "novel/sensor_gain", "novel/lasting_reversed"]


def test_told_of_a_bias_of_its_commands():
    biased = [{"kind": "action_bias", "value": {"uniform": [-0.4, 0.4]}, "each": True}]
    np.testing.assert_allclose(track("HalfCheetah", biased)[:10], track("HalfCheetah", [])[:10], atol=1e-5)


def test_commands_of_the_told_stay_within_the_action_space():
    venv = make_vec_env(env_id("HalfCheetah", latent=True), 1, seed=0, vec_env_cls=LocomotionVecEnv)
    venv.set_options({"perturbations": [{"kind": "action_gain", "value": 0.25}]})
    told = Told(venv)
    told.reset()
    told.step_async(np.full((1, 6), 0.5, np.float32))
    np.testing.assert_array_equal(venv.actions, np.ones((1, 6), np.float32))
