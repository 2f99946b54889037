"""How fast does PlasticES play a generation, beside what it could reach and what others do? Prints tables, writes JSON.

    OMP_NUM_THREADS=1 python scripts/bench/es.py --json es.json
    OMP_NUM_THREADS=1 python scripts/bench/es.py --only growth

Ant without its early end, so that each episode has the same number of steps; 64 individuals with 64 hidden neurons,
oja + simple, two ticks. Rates are environment steps per second of wall time. The candidates take turns in each round;
figures are medians over rounds, ratios those of medians. A generation is all that `learn` does for one: draw, play,
rank, move the mean.

environments  LocomotionVecEnv under zero actions: no network at all
network       the population's actions for as many observations: no environment at all
limit         1 / (1 / environments + 1 / network): both after one another, and nothing else
ARS           sb3-contrib's, one process, an MLP with 64 hidden units, the same robot
GymNE         EvoTorch's, likewise, if it is installed

No rate is printed unless two Ray workers give the fitness of one process, bit for bit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, medians, now, print_table
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_plastic import PlasticES
from sb3_plastic.es.evaluator import Evaluator
from sb3_plastic.es.population import Population
from sb3_plastic.files import replace_file
from sb3_plastic.perturbations import env_id, register_envs
from sb3_plastic.perturbations.vec_env import LocomotionVecEnv

ANT = env_id("Ant", latent=True)
HIDDEN = 64


def ants(n_envs: int, n_steps: int, cls: type[VecEnv] = LocomotionVecEnv) -> VecEnv:
    """Ants that play ``n_steps`` steps, whether they stand or not."""
    kwargs = dict(terminate_when_unhealthy=False, max_episode_steps=n_steps)
    return make_vec_env(ANT, n_envs, env_kwargs=kwargs, vec_env_cls=cls)  # type: ignore[arg-type]


class Evolution:
    """
    PlasticES, ready to play one generation after the other.

    :param population_size: individuals
    :param n_envs: environments of each process
    :param n_steps: of each episode
    :param n_workers: Ray actors; 0: this process
    """

    def __init__(self, population_size: int, n_envs: int, n_steps: int, n_workers: int = 0) -> None:
        self.model = PlasticES(
            "PlasticPolicy",
            ants(n_envs, n_steps),
            population_size=population_size,
            n_workers=n_workers,
            policy_kwargs=dict(rule="oja", modulation="simple", n_ticks=2, net_arch=[HIDDEN]),
            seed=0,
            device="cpu",
        )
        self.evaluator: Evaluator = self.model.evaluator()
        _, self.callback = self.model._setup_learn(1)

    def fitness(self) -> np.ndarray:
        """Play a generation. :return: [P, 1]"""
        individuals = self.model.strategy.ask(self.model._rng(0))
        evaluated = self.model.evaluate_population(individuals, self.callback, self.evaluator)
        assert evaluated is not None
        return evaluated[0]

    def generation(self) -> None:
        """Play a generation and move the mean."""
        self.model.train(self.fitness())


def environments(n_envs: int, n_steps: int) -> Callable[[], None]:
    """The vector environment alone."""
    env = ants(n_envs, n_steps)
    actions = np.zeros((n_envs, *(env.action_space.shape or ())), np.float32)

    def run() -> None:
        env.reset()
        for _ in range(n_steps):
            env.step(actions)

    return run


def network(evolution: Evolution, n_steps: int) -> Callable[[], None]:
    """The population's network alone."""
    model = evolution.model
    individuals = model.strategy.ask(model._rng(0))
    population = Population(model.policy)
    population.load(individuals.vectors(np.arange(len(individuals))))
    shape = (len(individuals), *(model.observation_space.shape or ()))
    observations = np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32)
    started, going = np.ones(len(individuals), bool), np.zeros(len(individuals), bool)

    def run() -> None:
        for t in range(n_steps):
            population.act(observations[t % 16], going if t else started)

    return run


def ars(population_size: int, n_steps: int) -> Callable[[], None]:
    """One iteration of sb3-contrib's ARS."""
    from sb3_contrib import ARS

    model = ARS(
        "MlpPolicy",
        ants(1, n_steps, DummyVecEnv),
        n_delta=population_size // 2,
        policy_kwargs=dict(net_arch=[HIDDEN]),
        seed=0,
        device="cpu",
    )
    return lambda: model.learn(1)  # type: ignore[return-value]


def gym_ne(population_size: int, n_steps: int) -> Callable[[], None]:
    """One evaluation of a population by EvoTorch's GymNE."""
    from evotorch import SolutionBatch  # type: ignore[import-not-found]
    from evotorch.neuroevolution import GymNE  # type: ignore[import-not-found]

    problem = GymNE(
        ANT,
        f"Linear(obs_length, {HIDDEN}) >> Tanh() >> Linear({HIDDEN}, act_length)",
        env_config=dict(terminate_when_unhealthy=False, max_episode_steps=n_steps),
        num_actors=None,
    )
    return lambda: problem.evaluate(SolutionBatch(problem, popsize=population_size))


def check_equal(n_steps: int) -> None:
    """Exit unless two workers give the fitness of one process."""
    one, two = Evolution(8, 4, n_steps), Evolution(8, 4, n_steps, n_workers=2)
    try:
        if not np.array_equal(one.fitness(), two.fitness()):
            sys.exit("Two workers give another fitness than one process: no rate is worth printing.")
    finally:
        two.evaluator.close()


def speed(repeats: int, population_size: int, n_steps: int) -> list[dict[str, Any]]:
    """All candidates in turns."""
    own = Evolution(population_size, population_size, n_steps)
    workers = Evolution(population_size, population_size // 2, n_steps, n_workers=2)
    candidates: dict[str, Callable[[], object]] = {
        "environments": environments(population_size, n_steps),
        "network": network(own, n_steps),
        "PlasticES": own.generation,
        "PlasticES, 2 workers": workers.generation,
        "ARS": ars(population_size, n_steps),
    }
    if importlib.util.find_spec("evotorch"):
        candidates["GymNE"] = gym_ne(population_size, n_steps)
    try:
        seconds = medians(candidates, repeats)
    finally:
        workers.evaluator.close()
    seconds["limit"] = seconds["environments"] + seconds["network"]
    return [
        {
            "": name,
            "steps/s": population_size * n_steps / taken,
            "PlasticES is": f"{taken / seconds['PlasticES']:.2f}x",
        }
        for name, taken in seconds.items()
    ]


def growth(repeats: int, population_size: int, n_steps: int) -> list[dict[str, Any]]:
    """Populations in one process with as many environments, and workers with equal parts of the population."""
    cases = {f"population {size}": (size, size, 0) for size in (16, 64, 256, 512) if size <= 8 * population_size}
    cases |= {f"{n} workers": (population_size, population_size // 4, n) for n in (1, 2, 4)}
    rows = []
    for name, (size, n_envs, n_workers) in cases.items():  # not in turns: each has a Ray of its own
        evolution = Evolution(size, n_envs, n_steps, n_workers)
        times = []
        for _ in range(repeats + 1):
            start = now()
            evolution.generation()
            times.append(now() - start)
        evolution.evaluator.close()
        rows.append({"": name, "steps/s": size * n_steps / float(np.median(times[1:]))})
    return rows


SECTIONS = {"speed": speed, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections, default all")
    parser.add_argument("--repeats", type=int, default=5, help="runs per median, default 5")
    parser.add_argument("--population", type=int, default=64, help="individuals, default 64")
    parser.add_argument("--steps", type=int, default=200, help="of an episode, default 200")
    arguments = parser.parse_args()
    register_envs()
    check_equal(min(arguments.steps, 50))
    results: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "repeats": arguments.repeats}
    print_table("machine", [results["machine"]])
    for name in arguments.only:
        results[name] = SECTIONS[name](arguments.repeats, arguments.population, arguments.steps)
        print_table(name, results[name])
    if arguments.json:
        replace_file(arguments.json, json.dumps(results, indent=1).encode())


if __name__ == "__main__":
    main()
