"""Where a generation is played: one interface, in this process or by workers (:mod:`sb3_plastic.es.workers`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sb3_plastic.errors import UserError
from sb3_plastic.es.rollout import Generation, Outcome, Step, SubBatch, SubBatchPlayer

SHARED_SEEDS = ("pair", "population", "none")
"""Which individuals play environments of the same seed."""


class Evaluator(Protocol):
    """Plays the sub-batches of a generation. Equal arguments give equal outcomes, whoever plays them."""

    def evaluate(
        self, generation: Generation, batches: Sequence[SubBatch], on_step: Callable[[Step], bool]
    ) -> list[Outcome] | None:
        """
        :param generation: what the sub-batches have in common
        :param batches: who plays what
        :param on_step: called for each step of each sub-batch, in their order; False stops
        :return: what came of each sub-batch, None if ``on_step`` stopped
        """

    def statistics(self) -> dict[str, float]:
        """What to log of the last generation, by name."""

    def close(self) -> None:
        """Give back what it holds."""


class LocalEvaluator:
    """
    Plays one sub-batch after the other, in this process.

    :param player: plays them
    """

    def __init__(self, player: SubBatchPlayer) -> None:
        self.player = player

    def evaluate(
        self, generation: Generation, batches: Sequence[SubBatch], on_step: Callable[[Step], bool]
    ) -> list[Outcome] | None:
        """See :meth:`Evaluator.evaluate`."""
        outcomes = []
        for batch in batches:
            outcome = self.player.play(generation, batch, on_step)
            if outcome is None:
                return None
            outcomes.append(outcome)
        return outcomes

    def statistics(self) -> dict[str, float]:
        """See :meth:`Evaluator.statistics`."""
        return {}

    def close(self) -> None:
        """See :meth:`Evaluator.close`."""


def reset_options(scenario: str | Sequence[Any] | Mapping[str, Any]) -> Mapping[str, Any]:
    """
    A scenario as options of an environment's ``reset``.

    :param scenario: name of a scenario of a suite, a list of perturbations, or the options themselves
    :raises UserError: if it is none of these
    """
    if isinstance(scenario, str):
        return {"scenario": scenario}
    if not isinstance(scenario, Sequence | Mapping):
        raise UserError(f"A scenario is a name, a list of perturbations or a mapping of options, got {scenario!r}.")
    return dict(scenario) if isinstance(scenario, Mapping) else {"perturbations": list(scenario)}


def environment_seeds(rng: np.random.Generator, population_size: int, shared: str) -> np.ndarray:
    """
    Seeds of the environments, one per individual.

    :param rng: source of randomness
    :param population_size: P
    :param shared: ``pair``: the antithetic individuals k and k + P/2 have the same; ``population``: all have the
        same; ``none``: each has its own
    :return: int [P]
    """
    n = {"pair": -(-population_size // 2), "population": 1, "none": population_size}[shared]
    return np.resize(rng.integers(2**31 - 2**16, size=n), population_size)


def sub_batches(seeds: np.ndarray, scenarios: Sequence[Any] | None, n_envs: int) -> Iterator[SubBatch]:
    """
    Cut a generation into pieces of the size of a vector environment. How many workers there are has no influence.

    :param seeds: of the environments, one per individual, [P]
    :param scenarios: that each individual plays, S; None: the environment as it is
    :param n_envs: environments of an evaluator
    :return: sub-batches, in which row j of all is individual ``j // S`` in scenario ``j % S``
    """
    options = None if scenarios is None else [reset_options(scenario) for scenario in scenarios]
    n_scenarios = 1 if options is None else len(options)
    individuals, numbers = np.divmod(np.arange(len(seeds) * n_scenarios), n_scenarios)
    for start in range(0, len(individuals), n_envs):
        part = slice(start, start + n_envs)
        chosen = options and [options[number] for number in numbers[part]]
        yield SubBatch(individuals[part], seeds[individuals[part]], chosen)
