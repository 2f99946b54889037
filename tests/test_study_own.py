"""Studies of agents in environments of one's own: the suites that are for all, and what has no meaning there."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC

from sb3_plastic.cli import main
from sb3_plastic.studies.results import read_results

SLED, LONE = "own/Sled-v0", "own/LoneSled-v0"
PERTURBED = "sb3_plastic.perturbations.wrapper.PerturbSignals"


class Sled(gym.Env):
    """Thrusters push it along, each its own axis; its speed alone is paid for, and it glides by itself."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self) -> None:
        (self.n,) = self.action_space.shape
        self.observation_space = spaces.Box(-np.inf, np.inf, (self.n + 1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.speed = 0, self.np_random.normal(size=self.n) * 0.1
        return self._see(), {}

    def step(self, action):
        self.t += 1
        self.speed = 0.8 * self.speed + 0.3 * np.asarray(action) + 0.01 * self.np_random.normal(size=self.n)
        return self._see(), 1 + float(self.speed.mean()), False, False, {}

    def _see(self):
        return np.append(self.speed, np.sin(0.3 * self.t))


class LoneSled(Sled):
    action_space = spaces.Box(-1, 1, (1,), np.float32)


@pytest.fixture(autouse=True)
def _registered(tmp_path, monkeypatch):
    registry = dict(gym.registry)
    for name, cls, steps in ((SLED, Sled, 1000), (LONE, LoneSled, 200)):
        gym.register(name, entry_point=cls, max_episode_steps=steps)
    monkeypatch.chdir(tmp_path)
    yield
    gym.registry.clear()
    gym.registry.update(registry)


def trained(env: str, wrapper: str | None = PERTURBED) -> str:
    """A run of RL Zoo, of an agent of SAC that has hardly learned."""
    model = SAC("MlpPolicy", gym.make(env), policy_kwargs=dict(net_arch=[8]), seed=0, device="cpu")
    Path("run/own").mkdir(parents=True)
    model.save("run/m.zip")
    Path("run/own/args.yml").write_text(f"env: {env}")
    Path("run/own/config.yml").write_text(f"env_wrapper: {wrapper}" if wrapper else "{}")
    return "run"


def test_an_agent_of_another_environment_is_judged_in_all_arms_but_told(capsys):
    fit = ["--steps", "4000", "--n-envs", "4", "--net-arch", "8", "--members", "1", "--epochs", "30", "--no-progress"]
    run = ["--model", trained(SLED, None), "--wrapper", PERTURBED]
    assert main(["adapt", *run, *fit, "--out", "adapted"]) == 0
    arguments = ["study", "adaptation", "--agents", "own=adapted", "--out", "out", "--episodes", "1"]
    scenarios = ["nominal", "novel/reversed/onset", "novel/sensors_far_off/onset"]
    assert main([*arguments, "--arms", "told"]) == 2
    assert "own moves no robot of ours (told): judge it in some of the arms frozen, ada" in capsys.readouterr().err
    assert main([*arguments, "--arms", "frozen", "adaptive", "told", "lms", "--scenarios", *scenarios]) == 0
    results = read_results(Path("out")).values()
    assert {(r["robot"], r["arm"]) for r in results if "scores" in r} == {
        (SLED, arm) for arm in ("frozen", "adaptive", "lms")
    }
    printed = capsys.readouterr().out
    assert "| own/Sled-v0, own, nda-v2 | frozen | adaptive | adaptive - frozen | lms |" in printed
    assert Path("out/own_Sled_v0-own.png").is_file()
    speeds = {r["arm"]: {s["split"]: s.get("kept") for s in r["scores"]} for r in results if "scores" in r}
    assert all(speeds[arm]["novel"] is not None for arm in speeds)


def test_what_cannot_act_on_an_environment_is_refused_before_a_layer_is_fitted_naming_what_can(capsys):
    arguments = ["study", "adaptation", "--agents", f"own={trained(LONE)}", "--out", "out", "--episodes", "1"]
    assert main(arguments) == 2
    assert "begins at step 250 or later, and episodes have 200 steps: --episode-steps" in capsys.readouterr().err
    arguments += ["--episode-steps", "520"]
    assert main(["evaluate", "--model", "run", "--suite", "nda-v2", "--out", "e", *arguments[-2:]]) == 2
    told = capsys.readouterr().err
    assert not Path("e").exists()
    assert main(arguments) == 2
    assert told.partition(": error: ")[2] == capsys.readouterr().err.partition(": error: ")[2]
    assert "nda-v2/id/reversed/onset cannot act here." in told
    assert "Nor can nda-v2/id/gains/onset, nda-v2/novel/weak/onset" in told
    possible = told.partition("--scenarios ")[2].split()
    assert possible[:2] == ["nominal", "novel/reversed/onset"]
    assert main([*arguments, "--arms", "frozen", "--scenarios", *possible]) == 0
    (result,) = read_results(Path("out")).values()
    assert result["episode_steps"] == 520
    assert 4 < len(result["curves"]["nda-v2/novel/reversed/onset"][0]) < 24  # until the episode ends
    assert Path("out/own_LoneSled_v0-own.png").is_file()


def test_an_environment_that_cannot_be_perturbed_and_a_model_that_tells_none_are_refused(capsys):
    arguments = ["study", "adaptation", "--out", "out", "--agents"]
    assert main([*arguments, f"own={trained(SLED, None)}"]) == 2
    assert "own/Sled-v0 cannot be perturbed" in capsys.readouterr().err
    Path("run/m.zip").rename("m.zip")
    assert main([*arguments, "own=m.zip"]) == 2
    assert "`sb3-plastic adapt --model m.zip --env ID` writes" in capsys.readouterr().err


def test_a_suite_that_has_nothing_for_an_environment_is_left_out(capsys):
    arguments = ["study", "robustness", "--agents", f"own={trained(SLED)}", "--out", "out", "--episodes", "1"]
    assert main([*arguments, "--suites", "nda-v1"]) == 2
    assert "nda-v1 has no scenarios for own/Sled-v0, only for HalfCheetah, " in capsys.readouterr().err
    assert main([*arguments, "--tier", "smoke"]) == 0
    assert "; there are some in nda-v2, noise-v1, sensors-v1. It is left out." in capsys.readouterr().out
    assert {r["suite"] for r in read_results(Path("out")).values()} == {"noise-v1", "faults"}
