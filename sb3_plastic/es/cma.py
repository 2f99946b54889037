"""Separable CMA-ES, from the package ``cma``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.errors import UserError
from sb3_plastic.es.individuals import Individuals, draw_seeds, normal
from sb3_plastic.es.strategies import check_fitness, check_sigma, check_state


class SeparableCMA:
    """
    Separable CMA-ES (Ros and Hansen, 2008): only the diagonal of the covariance matrix adapts, so its cost grows
    linearly with the number of parameters. It has its own step size: the learning rate is not used.

    :param mean: where to start, [D]
    :param population_size: number of individuals, at least 2
    :param sigma: standard deviation of the individuals at the start
    :param options: further options of ``cma.CMAEvolutionStrategy``
    :raises ImportError: if the package ``cma`` is missing
    :raises UserError: on a number out of range
    """

    def __init__(self, mean: Tensor, population_size: int, sigma: float, **options: Any) -> None:
        try:
            import cma
        except ImportError as error:
            raise ImportError('strategy="sep_cma_es" needs the package cma: pip install "sb3_plastic[cma]"') from error
        if population_size < 2:
            raise UserError(f"population_size must be at least 2, got {population_size}.")
        check_sigma(sigma)
        self.population_size = population_size
        self._seeds = np.zeros(population_size, np.int64)
        fixed = {"CMA_diagonal": True, "popsize": population_size, "verbose": -9, "randn": self._noise}
        # Its defaults change individuals after they were drawn: below six of them, and from 300 parameters on.
        own = {"AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA, "CMA_mirrors": 0}
        self._options = list(options)
        self._start = mean.detach().double().numpy().copy(), sigma, {**own, **options, **fixed}
        self._new = lambda: cma.CMAEvolutionStrategy(*self._start)
        self._es = self._new()
        self.mean = mean.detach().clone()

    def _noise(self, n_rows: int, n: int) -> np.ndarray:
        """The noise of a generation, [P, D]. The package calls it with other numbers of rows to test it."""
        return np.stack([normal(int(seed), n) for seed in np.resize(self._seeds, n_rows)]).astype(np.float64)

    def ask(self, rng: np.random.Generator) -> Individuals:
        """
        See :meth:`~sb3_plastic.es.strategies.Strategy.ask`.

        :param rng: source of all randomness
        :raises UserError: if an option lets ``cma`` change individuals, which are drawn anew where they are played
        """
        if not np.array_equal(self.mean.double().numpy(), self._es.mean.astype(np.float32)):
            self._es.mean = self.mean.double().numpy().copy()  # the user has given the policy other parameters
        self._seeds = draw_seeds(rng, self.population_size)
        asked = self._es.ask()
        sides = np.ones(self.population_size, np.float32)
        individuals = Individuals(self.mean.clone(), self._sigma(), self._seeds.copy(), sides)
        if self._options and not np.allclose(individuals.vectors().numpy(), np.stack(asked), rtol=1e-3, atol=1e-5):
            raise UserError(
                f"The options {', '.join(self._options)} of cma change individuals after they were drawn: others would "
                "be played than cma is told of. Leave out options such as bounds or mirrors."
            )
        return individuals

    def _sigma(self) -> Tensor:
        return torch.from_numpy(self._es.stds.astype(np.float32))

    def tell(self, fitness: np.ndarray, learning_rate: float) -> dict[str, float]:
        """See :meth:`~sb3_plastic.es.strategies.Strategy.tell`."""
        check_fitness(fitness, self.population_size)
        before = self.mean.clone()
        solutions = self._es.ask()  # again, with the same noise: the same individuals in double precision
        self._es.tell(solutions, [-float(value) for value in fitness], check_points=False)
        self.mean.copy_(torch.from_numpy(self._es.mean))
        return {"sigma": self._sigma().mean().item(), "update_norm": (self.mean - before).norm().item()}

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`~sb3_plastic.es.strategies.Strategy.state_dict`: numbers and arrays, nothing pickled."""
        return {"mean": self.mean, "sigma": self._sigma()} | {
            # By numpy, since a number of Python's would lose half of its digits in a tensor.
            part: {name: torch.tensor(np.asarray(value)) for name, value in _numbers(owner).items()}
            for part, owner in self._parts().items()
        }

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """See :meth:`~sb3_plastic.es.strategies.Strategy.load_state_dict`."""
        check_state(state, ("mean", "sigma", *self._parts()), self.mean, strict)
        self.mean.copy_(state["mean"])
        self._es = self._new()
        self._es.ask()  # the package starts its clock at the first call, which is no longer the first after this
        for part, owner in self._parts().items():
            for name, value in _numbers(state[part]).items():
                setattr(owner, name, value.numpy().copy() if value.ndim else value.item())

    def _parts(self) -> dict[str, Any]:
        """The objects of the package whose numbers change from generation to generation."""
        es = self._es
        return {"search": es, "step_size": es.adapt_sigma, "scaling": es.sigma_vec, "sampler": es.sm}


KEYS = ("_mueff", "_lam")
"""Of a sampler's cache, whose content is no number: without these the package fills it again."""


def _numbers(owner: Any) -> dict[str, Any]:
    """The numbers and arrays of an object, or of its saved state."""
    values = owner if isinstance(owner, dict) else vars(owner)
    return {name: value for name, value in values.items() if name not in KEYS and _is_number(value)}


def _is_number(value: Any) -> bool:
    is_array = isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fi")
    return is_array or (isinstance(value, int | float | np.number) and not isinstance(value, np.bool_))
