"""Plasticity rules: what a synapse learns from the activity on its two sides.

Every rule here is one gated outer product per synapse (i, j)::

    D_ij    = x_i b_j - g_j h_ij
    h_ij   <- clip((1 - rho) h_ij + eta_ij m_j D_ij, -h_max, h_max)

with the presynaptic trace ``x_i`` and two scalars per postsynaptic neuron, ``b_j`` (drive) and ``g_j`` (decay of the
fast weight), which the rule computes from the postsynaptic trace ``y_j`` and a sliding threshold ``theta_j``.

A new rule is a function with these two scalars and a line in ``RULES``::

    def covariance(y, theta):          # strengthens what is more active than it usually is
        return y - theta, 0.0 * y

    RULES["covariance"] = Rule(covariance, sliding_threshold=True)

With a ``derivative`` it also runs in the fused kernel; without, on the reference backend, which then says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Local = Callable[[Any, Any], tuple[Any, Any]]
Derivative = Callable[[Any, Any], tuple[Any, Any, Any, Any]]


@dataclass(frozen=True)
class Rule:
    """
    A plasticity rule.

    The functions are plain arithmetic without branches, so that they serve tensors and, compiled, scalars alike.

    :param local: ``(y, theta) -> (b, g)``
    :param derivative: ``(y, theta) -> (db/dy, db/dtheta, dg/dy, dg/dtheta)``, for the fused kernel
    :param sliding_threshold: whether ``theta <- (1 - kappa) theta + kappa y^2`` is part of the state
    """

    local: Local
    derivative: Derivative | None = None
    sliding_threshold: bool = False


def hebb(y: Any, theta: Any) -> tuple[Any, Any]:
    """``D = x y`` (Hebb, 1949)."""
    return y, 0.0 * y


def hebb_derivative(y: Any, theta: Any) -> tuple[Any, Any, Any, Any]:
    """Derivative of :func:`hebb`."""
    return 0.0 * y + 1.0, 0.0 * y, 0.0 * y, 0.0 * y


def oja(y: Any, theta: Any) -> tuple[Any, Any]:
    """``D = y (x - y h)`` (Oja, 1982): Hebb with a decay that keeps the weights bounded."""
    return y, y * y


def oja_derivative(y: Any, theta: Any) -> tuple[Any, Any, Any, Any]:
    """Derivative of :func:`oja`."""
    return 0.0 * y + 1.0, 0.0 * y, 2.0 * y, 0.0 * y


def bcm(y: Any, theta: Any) -> tuple[Any, Any]:
    """``D = x y (y - theta)`` (Bienenstock, Cooper & Munro, 1982): above the threshold strengthen, below weaken."""
    return y * (y - theta), 0.0 * y


def bcm_derivative(y: Any, theta: Any) -> tuple[Any, Any, Any, Any]:
    """Derivative of :func:`bcm`."""
    return 2.0 * y - theta, -y, 0.0 * y, 0.0 * y


RULES: dict[str, Rule | None] = {
    "none": None,
    "hebb": Rule(hebb, hebb_derivative),
    "oja": Rule(oja, oja_derivative),
    "bcm": Rule(bcm, bcm_derivative, sliding_threshold=True),
}
"""Rules by name. ``none`` is the static network, the control for every claim: no fast weights at all."""

MODULATIONS = ("none", "simple", "retroactive")
"""What gates learning: nothing, the layer's own activity, or the same through an eligibility trace."""
