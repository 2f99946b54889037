"""Throughput of the perturbed environments, side by side in one run; reported only if trajectories are equal.

    OMP_NUM_THREADS=1 python scripts/bench/env.py                        # overhead and vector environments
    OMP_NUM_THREADS=1 python scripts/bench/env.py --robots Ant --learn   # and PPO and PlasticPPO

Rates are environment steps per second: of CPU time for one environment, of wall time for vector environments and
learning, which need idle cores. The candidates take turns in each round; ratios are medians over rounds, and in
brackets the ratio of the best rounds, the least disturbed ones. Heavier and weaker robots move in another way, which
changes what the physics cost; factors of 1 show what perturbing costs by itself. "limit" is the number of threads over
the time that `mj_step` alone needs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_plastic import PlasticPPO
from sb3_plastic.perturbations import ROBOTS, env_id, register_envs
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv, usable_cores

PERTURBED = [
    {"kind": "mass", "value": 1.2},
    {"kind": "strength", "value": 0.8, "schedule": {"form": "onset", "at": 10}},
]
NOTHING = [dict(entry, value=1.0) for entry in PERTURBED]  # the same work in every step, the same trajectory as stock
Rates = dict[str, list[float]]


def take_turns(candidates: dict[str, Callable[[], float]], rounds: int) -> Rates:
    """Rates of all candidates in each round. :param candidates: functions that return a rate"""
    rates: Rates = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            rates[name].append(run())
    return rates


def report(title: str, rates: Rates, baseline: str) -> None:
    """Print median rates, and median and best ratios to the baseline."""
    print(f"{title}")
    for name, values in rates.items():
        ratio, best = compare(rates, name, baseline)
        print(f"  {name:<28}{np.median(values):>10.0f} /s   {ratio:6.3f} ({best:.3f}) x {baseline}", flush=True)


def compare(rates: Rates, name: str, baseline: str) -> tuple[float, float]:
    """Median of the ratios of all rounds, and ratio of the best rounds. :param rates: of `take_turns`"""
    ratio = np.median(np.array(rates[name]) / np.array(rates[baseline]))
    return float(ratio), max(rates[name]) / max(rates[baseline])


def single(env: gym.Env[Any, Any], n_steps: int) -> Callable[[], float]:
    """Rate of one episode under random actions, per second of CPU time: it has one thread."""
    space = env.action_space
    actions = np.random.default_rng(0).uniform(space.low, space.high, (n_steps, *space.shape)).astype(np.float32)  # type: ignore[attr-defined,misc]

    def run() -> float:
        env.reset(seed=0)
        start = time.process_time()
        for action in actions:
            env.step(action)
        return n_steps / (time.process_time() - start)

    return run


def vector(venv: VecEnv, n_steps: int) -> Callable[[], float]:
    """Rate of a vector environment under random actions, resets included."""
    space = venv.action_space
    shape = (n_steps, venv.num_envs, *space.shape)  # type: ignore[misc]
    actions = np.random.default_rng(0).uniform(space.low, space.high, shape).astype(np.float32)  # type: ignore[attr-defined]

    def run() -> float:
        venv.seed(0)
        venv.reset()
        start = time.perf_counter()
        for action in actions:
            venv.step(action)
        return n_steps * venv.num_envs / (time.perf_counter() - start)

    return run


def physics(robot: str, n_steps: int, threads: int) -> Callable[[], float]:
    """The limit: `threads` times the rate of the stock physics, in the states that random actions lead to."""
    env: Any = gym.make(f"{robot}-v5").unwrapped
    space = env.action_space
    actions = np.random.default_rng(0).uniform(space.low, space.high, (n_steps, *space.shape)).astype(np.float64)
    env.reset(seed=0)
    states, size = [], mujoco.mj_stateSize(env.model, mujoco.mjtState.mjSTATE_INTEGRATION)
    for action in actions:
        state = np.empty(size)
        mujoco.mj_getState(env.model, env.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        states.append(state)
        if env.step(action.astype(np.float32))[2]:
            env.reset()

    def run() -> float:
        spent = 0.0
        for state, action in zip(states, actions, strict=True):
            mujoco.mj_setState(env.model, env.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
            env.data.ctrl[:] = action
            start = time.perf_counter()
            mujoco.mj_step(env.model, env.data, nstep=env.frame_skip)
            spent += time.perf_counter() - start
        return threads * n_steps / spent

    return run


def check_equal(robot: str, n_envs: int, latent: bool) -> None:
    """The gate: DummyVecEnv and LocomotionVecEnv give the same 200 steps."""
    kwargs = {"perturbations": PERTURBED}
    venvs = [
        make_vec_env(env_id(robot, latent=latent), n_envs, seed=1, env_kwargs=kwargs, vec_env_cls=cls)
        for cls in (DummyVecEnv, LocomotionVecEnv)
    ]
    space: Any = venvs[0].action_space
    rng = np.random.default_rng(1)
    one, other = (venv.reset() for venv in venvs)
    np.testing.assert_array_equal(one, other)
    for _ in range(200):
        action = rng.uniform(space.low, space.high, (n_envs, *space.shape)).astype(np.float32)
        for a, b in zip(*(venv.step(action)[:3] for venv in venvs), strict=True):
            np.testing.assert_array_equal(a, b)


def learning(algorithm: type, policy: str, venv: VecEnv, n_steps: int) -> Callable[[], float]:
    """Rate of an algorithm with its defaults, collecting and learning, 1 epoch less to wait for: 4."""
    model = algorithm(policy, venv, n_steps=128, batch_size=256, n_epochs=4, seed=0, device="cpu")

    def run() -> float:
        start = time.perf_counter()
        model.learn(n_steps, reset_num_timesteps=False)
        return n_steps / (time.perf_counter() - start)

    return run


def bench_learning(n_envs: int, rounds: int) -> None:
    """PPO and PlasticPPO on the latent Ant with both vector environments."""
    for name, algorithm, policy in (("PPO", PPO, "MlpPolicy"), ("PlasticPPO", PlasticPPO, "PlasticPolicy")):
        venvs = {
            cls.__name__: make_vec_env(env_id("Ant", latent=True), n_envs, seed=0, vec_env_cls=cls)
            for cls in (DummyVecEnv, LocomotionVecEnv)
        }
        runs = {key: learning(algorithm, policy, venv, 128 * n_envs) for key, venv in venvs.items()}
        report(f"{name}, latent Ant, {n_envs} environments", take_turns(runs, rounds), "DummyVecEnv")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", default=list(ROBOTS), choices=ROBOTS)
    parser.add_argument("--n-envs", type=int, default=16)
    parser.add_argument("--n-steps", type=int, default=1000, help="steps of one environment in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--learn", action="store_true", help="also learning on the latent Ant")
    args = parser.parse_args()
    register_envs()
    threads = usable_cores()
    print(f"mujoco {mujoco.__version__}, gymnasium {gym.__version__}, numpy {np.__version__}, {threads} threads")
    for robot in args.robots:
        # Long episodes: what a reset or an onset costs is paid once.
        going_on: dict[str, Any] = {} if robot == "HalfCheetah" else {"terminate_when_unhealthy": False}
        made = {
            "stock": gym.make(f"{robot}-v5", **going_on),
            "perturbable, nominal": gym.make(env_id(robot), **going_on),
            "perturbed by factors of 1": gym.make(env_id(robot), perturbations=NOTHING, **going_on),
            "perturbed": gym.make(env_id(robot), perturbations=PERTURBED, **going_on),
        }
        candidates = {name: single(env, args.n_steps) for name, env in made.items()}
        report(f"{robot}, one environment", take_turns(candidates, args.rounds), "stock")
        for latent in (False, True) if robot in ("Ant", "Humanoid") else (True,):
            check_equal(robot, args.n_envs, latent)
            name = env_id(robot, latent=latent)
            kwargs = {"perturbations": PERTURBED}
            candidates = {
                "limit": physics(robot, args.n_steps, threads),
                "DummyVecEnv": vector(make_vec_env(name, args.n_envs), args.n_steps // args.n_envs),
                "LocomotionVecEnv": vector(
                    make_vec_env(name, args.n_envs, vec_env_cls=LocomotionVecEnv), args.n_steps // args.n_envs
                ),
                "LocomotionVecEnv, perturbed": vector(
                    make_vec_env(name, args.n_envs, env_kwargs=kwargs, vec_env_cls=LocomotionVecEnv),
                    args.n_steps // args.n_envs,
                ),
            }
            rates = take_turns(candidates, args.rounds)
            report(f"{name}, {args.n_envs} environments", rates, "DummyVecEnv")
            share, best = compare(rates, "LocomotionVecEnv", "limit")
            print(f"  LocomotionVecEnv is at {share:.0%} ({best:.0%}) of the limit", flush=True)
    if args.learn:
        bench_learning(args.n_envs, args.rounds)


if __name__ == "__main__":
    main()
