"""
Golden trajectories: short hashes of what each robot does under fixed torques, per version of MuJoCo.

If MuJoCo moves a robot differently from one version to the next, the hash of the stock environment changes; if only our
robot moves differently, the error is ours. A version that is not in the table is told, not failed.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from sb3_plastic.perturbations.registration import ROBOTS, env_id

FILE = Path(__file__).parent / "golden.json"
STEPS = 40


def trajectory(name):
    """Observations under fixed torques, rounded, so that compilers may differ in the last bits."""
    with gym.make(name) as env:
        env.reset(seed=3)
        rng = np.random.default_rng(7)
        space = env.action_space
        observations = []
        for _ in range(STEPS):
            action = rng.uniform(space.low, space.high).astype(space.dtype)
            observation, _, terminated, _, _ = env.step(action)
            observations.append(observation)
            if terminated:
                break
    return np.array(observations)


def short_hash(observations):
    return hashlib.sha256(np.round(observations, 6).tobytes()).hexdigest()[:12]


@pytest.mark.parametrize("robot", ROBOTS)
def test_an_unperturbed_robot_moves_as_the_stock_one(robot):
    ours, stock = trajectory(env_id(robot)), trajectory(f"{robot}-v5")
    np.testing.assert_array_equal(ours[:, : stock.shape[1]], stock)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_robot_moves_as_it_did_with_this_version_of_mujoco(robot):
    version = importlib.metadata.version("mujoco")
    golden = json.loads(FILE.read_text()).get(version, {})
    if robot not in golden:
        pytest.skip(f"no golden trajectory of {robot}, MuJoCo {version}: python tests/test_golden.py adds it")
    assert short_hash(trajectory(f"{robot}-v5")) == golden[robot], (
        f"MuJoCo {version} moves {robot} differently from before, in the stock environment: gymnasium's model or "
        "MuJoCo's build has changed"
    )


if __name__ == "__main__":
    table = json.loads(FILE.read_text()) if FILE.exists() else {}
    table[importlib.metadata.version("mujoco")] = {robot: short_hash(trajectory(f"{robot}-v5")) for robot in ROBOTS}
    FILE.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")
