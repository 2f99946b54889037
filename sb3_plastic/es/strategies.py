"""Evolution strategies: they draw individuals around a mean, and move the mean by the individuals' fitness.

:class:`~sb3_plastic.es.PlasticES` uses a strategy through :class:`Strategy` alone. To add one, write such a class, or a
function that makes one, and add it to ``STRATEGIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sb3_plastic.errors import UserError, check_choice, check_number
from sb3_plastic.es.individuals import Individuals, antithetic, normal
from sb3_plastic.es.optimizers import OPTIMIZERS


class Strategy(Protocol):
    """Maximises a fitness. It has no random numbers of its own: equal generators give equal individuals."""

    mean: Tensor  # [D], on the CPU

    def ask(self, rng: np.random.Generator) -> Individuals:
        """
        :param rng: source of all randomness
        :return: the individuals of the next generation
        """

    def tell(self, fitness: np.ndarray, learning_rate: float) -> dict[str, float]:
        """
        Move the mean.

        :param fitness: of the individuals last asked for, [P]; the larger the better
        :param learning_rate: of this step
        :return: what to log, by name
        """

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`ask` and :meth:`tell` depend on: tensors and plain data."""

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """
        The inverse of :meth:`state_dict`.

        :param state: what it returned
        :param strict: refuse keys that are missing, or unknown
        """


def centred_ranks(fitness: Tensor) -> Tensor:
    """
    Ranks scaled to [-1/2, 1/2], so that only the order of individuals counts. Individuals of equal fitness share the
    mean of their ranks: where all balance the pole to the end, none counts for more than another.

    :param fitness: [P]
    :return: [P]
    """
    _, group, sizes = torch.unique(fitness, return_inverse=True, return_counts=True)  # in ascending order
    ranks = sizes.cumsum(0) - (sizes + 1) / 2  # from 0
    return (ranks / (len(fitness) - 1) - 0.5)[group]


def standardised(fitness: Tensor) -> Tensor:
    """
    Fitness minus its mean, divided by its standard deviation; 0 where no fitness differs.

    :param fitness: [P]
    :return: [P]
    """
    if fitness.max() == fitness.min():  # the mean of equal numbers is rounded, and need not be one of them
        return torch.zeros_like(fitness)
    return (fitness - fitness.mean()) / fitness.std(correction=0)


SHAPINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "centred_ranks": centred_ranks,
    "standardised": standardised,
    "raw": lambda fitness: fitness - fitness.mean(),
}
"""What turns fitness into utility, by name."""


SMALLEST_SIGMA = 1e-18
"""Below which no sigma falls: a gradient is divided by it, and Adam squares gradients, in float32."""


class MirroredSearch:
    """
    Gaussian search in antithetic pairs ``mean ± sigma eps_k`` (Brockhoff et al., 2010). With the utilities ``u`` of
    their fitness, whose mean is 0, and n pairs, the mean follows the gradient of the expected utility::

        g = 1/n sum_k (u_k+ - u_k-) / 2 * eps_k / sigma

    :func:`openai_es` and :func:`pgpe` make it.

    :param mean: where to start, [D]
    :param population_size: number of individuals, even
    :param sigma: standard deviation of the individuals at the start, in the unit of the parameters
    :param natural: multiply g by ``sigma^2``, parameter by parameter
    :param sigma_learning_rate: rate at which the sigma of each parameter adapts; 0: it does not
    :param max_sigma_change: bound of the relative change of a sigma per generation by that rate, in [0, 1)
    :param sigma_decay: factor of every sigma per generation, in (0, 1]
    :param min_sigma: bound from below of every sigma, as `SMALLEST_SIGMA` is
    :param weight_decay: pull of the mean to 0, ``g - weight_decay * mean``
    :param fitness_shaping: from fitness to utility: ``centred_ranks``, ``standardised`` or ``raw`` (minus its mean)
    :param optimizer: ``adam``, ``sgd`` or ``clipup``
    :param optimizer_kwargs: further arguments of the optimiser
    :raises UserError: on an odd population, an unknown name, or a number out of range
    """

    def __init__(
        self,
        mean: Tensor,
        population_size: int,
        sigma: float,
        natural: bool = False,
        sigma_learning_rate: float = 0.0,
        max_sigma_change: float = 0.2,
        sigma_decay: float = 1.0,
        min_sigma: float = 0.0,
        weight_decay: float = 0.0,
        fitness_shaping: str = "centred_ranks",
        optimizer: str = "adam",
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if population_size < 2 or population_size % 2:
            raise UserError(
                f"population_size must be even and at least 2, got {population_size}: individuals come in pairs, "
                "one on either side of the mean."
            )
        check_sigma(sigma)
        check_number("max_sigma_change, a fraction of sigma,", max_sigma_change, at_least=0, below=1)
        check_number("sigma_decay, a factor per generation,", sigma_decay, above=0, at_most=1)
        for name, value in dict(
            sigma_learning_rate=sigma_learning_rate, min_sigma=min_sigma, weight_decay=weight_decay
        ).items():
            check_number(name, value, at_least=0)
        check_choice("fitness_shaping", fitness_shaping, SHAPINGS)
        check_choice("optimizer", optimizer, OPTIMIZERS)
        self.n_pairs, self.natural = population_size // 2, natural
        self.sigma_learning_rate, self.max_sigma_change = sigma_learning_rate, max_sigma_change
        self.sigma_decay, self.min_sigma = sigma_decay, min_sigma
        self.weight_decay, self.shape = weight_decay, SHAPINGS[fitness_shaping]
        self.mean: Tensor = nn.Parameter(mean.detach().clone())
        self.sigma = torch.full_like(mean, sigma)
        self.optimizer = OPTIMIZERS[optimizer]([self.mean], lr=1.0, **(optimizer_kwargs or {}))

    def ask(self, rng: np.random.Generator) -> Individuals:
        """See :meth:`Strategy.ask`: first all ``mean + sigma eps_k``, then all ``mean - sigma eps_k``."""
        self._asked = antithetic(self.mean, self.sigma, 2 * self.n_pairs, rng)
        return self._asked

    def tell(self, fitness: np.ndarray, learning_rate: float) -> dict[str, float]:
        """See :meth:`Strategy.tell`."""
        check_fitness(fitness, 2 * self.n_pairs)
        plus, minus = self.shape(torch.as_tensor(fitness)).to(self.mean.dtype).view(2, -1)  # [n] each
        noise = torch.zeros(2, len(self.mean))  # sums over the pairs, one pair at a time: [n, D] may be large
        for seed, difference, excess in zip(self._asked.seeds, (plus - minus) / 2, (plus + minus) / 2, strict=False):
            eps = torch.from_numpy(normal(seed, len(self.mean)))
            noise[0] += difference * eps
            # The mean of all utilities, 0, is the baseline: where both of a pair are above it, it was good to go far.
            noise[1] += excess * (eps**2 - 1)
        direction, sigma_gradient = noise / self.n_pairs
        gradient = direction * self.sigma if self.natural else direction / self.sigma

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        before = self.mean.detach().clone()
        self.mean.grad = self.weight_decay * before - gradient  # optimisers descend
        self.optimizer.step()
        change = (self.sigma_learning_rate * sigma_gradient).clamp(-self.max_sigma_change, self.max_sigma_change)
        self.sigma = (self.sigma * (1 + change) * self.sigma_decay).clamp(min=max(self.min_sigma, SMALLEST_SIGMA))
        return {
            "sigma": self.sigma.mean().item(),
            "grad_norm": gradient.norm().item(),
            "update_norm": (self.mean.detach() - before).norm().item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Strategy.state_dict`."""
        return {"mean": self.mean.detach(), "sigma": self.sigma, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """See :meth:`Strategy.load_state_dict`."""
        check_state(state, ("mean", "sigma", "optimizer"), self.mean, strict)
        own, saved = ({*one["param_groups"][0]} for one in (self.optimizer.state_dict(), state["optimizer"]))
        if own - saved and saved - own:  # a version of torch may add some
            raise UserError(
                f"The saved optimiser has {', '.join(sorted(saved - own))}, {type(self.optimizer).__name__} has "
                f"{', '.join(sorted(own - saved))}: its memory does not serve another one. Start anew from the "
                "policy: PlasticES(..., strategy_kwargs=..., start_from=FILE)."
            )
        with torch.no_grad():
            self.mean.copy_(state["mean"])
        self.sigma = state["sigma"].to(self.mean, copy=True)
        # Its memory alone: its settings are those that this search was given. A copy: torch would share its tensors.
        memory = deepcopy(state["optimizer"]["state"])
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": memory})


def check_sigma(sigma: float) -> None:
    """:raises UserError: unless it can be a standard deviation. :param sigma: it"""
    check_number("sigma, a standard deviation,", sigma, above=0)


def check_fitness(fitness: np.ndarray, population_size: int) -> None:
    """:raises UserError: unless there is one per individual. :param fitness: it  :param population_size: P"""
    if fitness.shape != (population_size,):
        raise UserError(f"Got fitness of shape {fitness.shape}: expected {(population_size,)}, one per individual.")


def check_state(state: dict[str, Any], keys: tuple[str, ...], mean: Tensor, strict: bool) -> None:
    """
    :param state: a strategy's state that is to be loaded
    :param keys: those it has to have
    :param mean: of the strategy, [D]
    :param strict: refuse other keys
    :raises UserError: if the state belongs to another strategy, or to another network
    """
    if strict and state.keys() != {*keys}:
        *most, last = keys
        raise UserError(f"The state of this strategy has the keys {', '.join(most)} and {last}, got {[*state]}.")
    for name in ("mean", "sigma"):
        shape = tuple(state[name].shape)
        if shape != tuple(mean.shape):
            raise UserError(
                f"The saved {name} has shape {shape}, what evolves of the policy {tuple(mean.shape)}: it is of another "
                "network, or of another `evolve`. To evolve something else, start anew from the policy: "
                "PlasticES(..., evolve=..., start_from=FILE)."
            )


def openai_es(mean: Tensor, population_size: int, sigma: float, **kwargs: Any) -> MirroredSearch:
    """
    The evolution strategy of Salimans et al. (2017), "Evolution strategies as a scalable alternative to reinforcement
    learning": :class:`MirroredSearch` with one fixed sigma, and Adam.

    :param mean: where to start, [D]
    :param population_size: number of individuals, even
    :param sigma: standard deviation of the individuals
    :param kwargs: further arguments of :class:`MirroredSearch`
    """
    return MirroredSearch(mean, population_size, sigma, **kwargs)


def pgpe(
    mean: Tensor, population_size: int, sigma: float, sigma_learning_rate: float = 0.1, **kwargs: Any
) -> MirroredSearch:
    """
    Policy gradients with parameter-based exploration, symmetric sampling (Sehnke et al., 2010): :class:`MirroredSearch`
    in which the step of each parameter is proportional to its variance, and its sigma adapts::

        g     =  1/n sum_k (u_k+ - u_k-) / 2 * sigma eps_k
        sigma <- sigma (1 + sigma_learning_rate / n sum_k (u_k+ + u_k-) / 2 * (eps_k^2 - 1))

    :param mean: where to start, [D]
    :param population_size: number of individuals, even
    :param sigma: standard deviation of the individuals at the start
    :param sigma_learning_rate: rate at which sigma adapts
    :param kwargs: further arguments of :class:`MirroredSearch`
    """
    return MirroredSearch(mean, population_size, sigma, True, sigma_learning_rate, **kwargs)


def sep_cma_es(mean: Tensor, population_size: int, sigma: float, **kwargs: Any) -> Strategy:
    """
    Separable CMA-ES: :class:`~sb3_plastic.es.cma.SeparableCMA`.

    :param mean: where to start, [D]
    :param population_size: number of individuals
    :param sigma: standard deviation of the individuals at the start
    :param kwargs: options of the package ``cma``
    """
    from sb3_plastic.es.cma import SeparableCMA

    return SeparableCMA(mean, population_size, sigma, **kwargs)


STRATEGIES: dict[str, Callable[..., Strategy]] = {"openai_es": openai_es, "pgpe": pgpe, "sep_cma_es": sep_cma_es}
"""Strategies by name."""
