"""Evolution strategies: a mean, and individuals scattered around it, by whose fitness it moves.

All that :class:`~sb3_plastic.es.PlasticES` knows of one is :class:`Strategy`. A new one is such a class, or a function
that makes one, and a line in ``STRATEGIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sb3_plastic.errors import check_choice


class Strategy(Protocol):
    """Maximises a fitness. It keeps no random numbers: to ask twice of the same generator is to get the same."""

    mean: Tensor  # [D], on the CPU

    def ask(self, rng: np.random.Generator) -> Tensor:
        """
        :param rng: source of all randomness
        :return: parameters of the individuals, [P, D]
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
    Ranks scaled to [-1/2, 1/2], so that only the order of individuals counts. Equals share the mean of their ranks:
    where all balance the pole to the end, none of them shall count for more.

    :param fitness: [P]
    :return: [P]
    """
    _, group, sizes = torch.unique(fitness, return_inverse=True, return_counts=True)  # in ascending order
    ranks = sizes.cumsum(0) - (sizes + 1) / 2  # from 0
    return (ranks / (len(fitness) - 1) - 0.5)[group]


class ClipUp(torch.optim.Optimizer):
    """
    ClipUp (Toklu, Liskowski and Srivastava, 2020): steps of a fixed length, with momentum and a speed limit. Its two
    numbers have the parameters' own unit, so that they are chosen by looking at sigma::

        v <- momentum v + lr g / |g|
        v <- v min(1, max_speed / |v|)
        p <- p - v

    :param params: one tensor
    :param lr: length of a step
    :param momentum: of the velocity
    :param max_speed: bound of the velocity's length, in learning rates
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.9, max_speed: float = 2.0) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, max_speed=max_speed))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """As in torch."""
        for group in self.param_groups:
            for parameter in group["params"]:
                v = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
                direction = parameter.grad / parameter.grad.norm().clamp(min=1e-12)
                v.mul_(group["momentum"]).add_(direction, alpha=group["lr"])
                v.mul_((group["lr"] * group["max_speed"] / v.norm().clamp(min=1e-12)).clamp(max=1))
                parameter.sub_(v)


OPTIMIZERS: dict[str, Any] = {"adam": torch.optim.Adam, "clipup": ClipUp}
"""What turns the estimated gradient into a step, by name."""


class MirroredSearch:
    """
    Gaussian search in mirrored pairs (Brockhoff et al., 2010), the individuals ``mean ± sigma eps_k``. With ``u`` the
    centred ranks of their fitness, and n pairs, the mean follows the gradient of the expected utility::

        g = 1/n sum_k (u_k+ - u_k-) / 2 * eps_k / sigma

    :func:`openai_es` and :func:`pgpe` make it.

    :param mean: where to start, [D]
    :param population_size: number of individuals, even
    :param sigma: standard deviation of the individuals at the start, in the unit of the parameters
    :param sigma_learning_rate: at which each parameter's sigma adapts; 0: sigma stays as it is
    :param max_sigma_change: bound of the relative change of a sigma per generation
    :param weight_decay: pull of the mean to 0, ``g - weight_decay * mean``
    :param optimizer: a name in ``OPTIMIZERS``
    :param optimizer_kwargs: further arguments of it
    :raises ValueError: on an odd population, an unknown name, or a number out of range
    """

    def __init__(
        self,
        mean: Tensor,
        population_size: int,
        sigma: float,
        sigma_learning_rate: float = 0.0,
        max_sigma_change: float = 0.2,
        weight_decay: float = 0.0,
        optimizer: str = "adam",
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if population_size < 2 or population_size % 2:
            raise ValueError(
                f"population_size must be even and at least 2, got {population_size}: individuals come in pairs, "
                "one on either side of the mean."
            )
        if not sigma > 0:
            raise ValueError(f"sigma is a standard deviation, above 0, got {sigma}.")
        if not 0 <= max_sigma_change < 1:
            raise ValueError(f"max_sigma_change is a fraction of sigma in [0, 1), got {max_sigma_change}.")
        check_choice("optimizer", optimizer, OPTIMIZERS)
        self.n_pairs = population_size // 2
        self.sigma_learning_rate, self.max_sigma_change = sigma_learning_rate, max_sigma_change
        self.weight_decay = weight_decay
        self.mean: Tensor = nn.Parameter(mean.detach().clone())
        self.sigma = torch.full_like(mean, sigma)
        self.optimizer = OPTIMIZERS[optimizer]([self.mean], lr=1.0, **(optimizer_kwargs or {}))

    def ask(self, rng: np.random.Generator) -> Tensor:
        """See :meth:`Strategy.ask`: first all ``mean + sigma eps_k``, then all ``mean - sigma eps_k``."""
        self._noise = torch.from_numpy(rng.standard_normal((self.n_pairs, len(self.mean)), np.float32))  # [n, D]
        steps = self.sigma * self._noise
        return torch.cat((self.mean.detach() + steps, self.mean.detach() - steps))

    def tell(self, fitness: np.ndarray, learning_rate: float) -> dict[str, float]:
        """See :meth:`Strategy.tell`."""
        if fitness.shape != (2 * self.n_pairs,):
            raise ValueError(
                f"Got fitness of shape {fitness.shape}: expected {(2 * self.n_pairs,)}, one per individual."
            )
        plus, minus = centred_ranks(torch.as_tensor(fitness)).to(self.mean.dtype).view(2, -1)  # [n] each
        gradient = ((plus - minus) / 2) @ self._noise / self.n_pairs / self.sigma
        # The ranks' mean, 0, is the baseline: where both of a pair are above it, to have gone far was good.
        sigma_gradient = ((plus + minus) / 2) @ (self._noise**2 - 1) / self.n_pairs

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.mean.grad = self.weight_decay * self.mean.detach() - gradient  # optimisers descend
        self.optimizer.step()
        change = self.sigma_learning_rate * sigma_gradient
        self.sigma = self.sigma * (1 + change.clamp(-self.max_sigma_change, self.max_sigma_change))
        return {"sigma": self.sigma.mean().item(), "grad_norm": gradient.norm().item()}

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Strategy.state_dict`."""
        return {"mean": self.mean.detach(), "sigma": self.sigma, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """See :meth:`Strategy.load_state_dict`."""
        if strict and state.keys() != {"mean", "sigma", "optimizer"}:
            raise ValueError(f"The state of a strategy has the keys mean, sigma and optimizer, got {[*state]}.")
        for name in ("mean", "sigma"):
            shape = tuple(state[name].shape)
            if shape != tuple(self.mean.shape):
                raise ValueError(
                    f"The saved {name} has shape {shape}, the policy's parameters {tuple(self.mean.shape)}: "
                    "they are of another network."
                )
        with torch.no_grad():
            self.mean.copy_(state["mean"])
        self.sigma = state["sigma"].to(self.mean, copy=True)
        self.optimizer.load_state_dict(state["optimizer"])


def openai_es(mean: Tensor, population_size: int, sigma: float, **kwargs: Any) -> MirroredSearch:
    """
    The evolution strategy of Salimans et al. (2017), "Evolution strategies as a scalable alternative to reinforcement
    learning": :class:`MirroredSearch` with a sigma that stays as it is, and Adam.

    :param mean: where to start, [D]
    :param population_size: number of individuals, even
    :param sigma: standard deviation of the individuals
    :param kwargs: ``weight_decay``, ``optimizer`` and ``optimizer_kwargs`` of :class:`MirroredSearch`
    """
    return MirroredSearch(mean, population_size, sigma, **kwargs)


def pgpe(
    mean: Tensor, population_size: int, sigma: float, sigma_learning_rate: float = 0.1, **kwargs: Any
) -> MirroredSearch:
    """
    Policy gradients with parameter-based exploration, symmetric sampling (Sehnke et al., 2010):
    :class:`MirroredSearch` in which each parameter's sigma adapts as well::

        sigma <- sigma (1 + sigma_learning_rate / n sum_k ((u_k+ + u_k-) / 2 - mean(u)) (eps_k^2 - 1))

    :param mean: where to start, [D]
    :param population_size: number of individuals, even
    :param sigma: standard deviation of the individuals at the start
    :param sigma_learning_rate: at which sigma adapts
    :param kwargs: further arguments of :class:`MirroredSearch`
    """
    return MirroredSearch(mean, population_size, sigma, sigma_learning_rate, **kwargs)


STRATEGIES: dict[str, Callable[..., Strategy]] = {"openai_es": openai_es, "pgpe": pgpe}
"""Strategies by name."""
