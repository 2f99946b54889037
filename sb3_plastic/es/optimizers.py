"""Optimisers that turn an estimated gradient into a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class ClipUp(torch.optim.Optimizer):
    """
    ClipUp (Toklu, Liskowski and Srivastava, 2020): steps of a fixed length, with momentum and a speed limit. Its
    learning rate and its limit have the unit of the parameters, so they can be compared with sigma::

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


OPTIMIZERS: dict[str, Any] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "clipup": ClipUp}
"""Optimisers by name."""
