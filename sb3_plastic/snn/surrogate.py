"""Spikes: a step in the forward pass, the derivative of a smooth primitive in the backward pass.

Surrogate gradients after Neftci, Mostafa and Zenke (2019), "Surrogate gradient learning in spiking neural networks".
Each surrogate is given by its *derivative* alone, written with plain arithmetic so that the same function serves
tensors here and scalars inside a compiled kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def fast_sigmoid(u: Any, slope: float) -> Any:
    """``1 / (1 + slope |u|)^2``, of the primitive ``u / (1 + slope |u|)`` (Zenke & Ganguli, 2018, SuperSpike)."""
    s = 1.0 + slope * abs(u)
    return 1.0 / (s * s)


def arctan(u: Any, slope: float) -> Any:
    """``1 / (1 + (pi/2 slope u)^2)``, of the primitive ``2/(pi slope) arctan(pi/2 slope u)`` (Fang et al., 2021)."""
    s = 0.5 * math.pi * slope * u
    return 1.0 / (1.0 + s * s)


def triangle(u: Any, slope: float) -> Any:
    """``max(0, 1 - slope |u|)``, a hat of width ``2/slope`` (Bellec et al., 2018)."""
    s = 1.0 - slope * abs(u)
    return 0.5 * (s + abs(s))


SURROGATES: dict[str, Callable[[Any, float], Any]] = {
    "fast_sigmoid": fast_sigmoid,
    "arctan": arctan,
    "triangle": triangle,
}
"""Derivatives by name. A new one is a function of (u, slope) and a line here."""


class _Spike(torch.autograd.Function):
    # With setup_context and a generated vmap rule it works under torch.func.vmap and grad.
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, derivative: Callable[[Any, float], Any], slope: float) -> Tensor:
        return (u > 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.derivative, ctx.slope = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.derivative(u, ctx.slope), None, None


def spike(u: Tensor, surrogate: str = "fast_sigmoid", slope: float = 2.0) -> Tensor:
    """
    The Heaviside step ``H(u)``, 1 where ``u > 0``, with a surrogate derivative.

    :param u: membrane potential above threshold, any shape
    :param surrogate: a name in ``SURROGATES``
    :param slope: steepness, per unit of potential; 2 keeps silent neurons trainable, 10 is nearer the true step
    :return: 0 or 1, the shape and dtype of ``u``
    """
    return _Spike.apply(u, SURROGATES[surrogate], slope)
