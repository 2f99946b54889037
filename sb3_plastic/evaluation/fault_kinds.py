"""The kinds of faults of an agent, as data: their laws and limits, which a command names without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sb3_plastic.errors import UserError, check_choice


@dataclass(frozen=True)
class FaultKind:
    """
    What a fault is.

    :param law: in words
    :param limits: of its value
    :param whole: whether the value is a whole number
    """

    law: str
    limits: tuple[float, float]
    whole: bool = False


FAULTS: dict[str, FaultKind] = {
    "weight_noise": FaultKind("each weight w becomes w (1 + value * N(0, 1))", (0, 10)),
    "weights_quantised": FaultKind("weights have so many bits, in equal steps up to a layer's largest", (2, 16), True),
    "neurons_ablated": FaultKind("each hidden neuron is silent with this probability", (0, 1)),
    "spikes_dropped": FaultKind("in each step, what a hidden neuron sends is lost with this probability", (0, 1)),
    "thresholds_drift": FaultKind("each spiking neuron's threshold times exp(value * N(0, 1))", (0, 3)),
    "fast_weights_reset": FaultKind("fast weights are set to zero every so many steps", (1, 10_000), True),
}
"""Faults by name."""


class Fault(NamedTuple):
    """A fault. :param kind: a name in `FAULTS`  :param value: how much"""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind}={self.value:g}"


def parse_fault(text: str) -> Fault:
    """
    Read a fault.

    :param text: such as ``weight_noise=0.3``
    :raises UserError: on an unknown kind, or a value that is missing or out of range
    """
    name, _, value = text.partition("=")
    check_choice("fault", name, FAULTS)
    kind = FAULTS[name]
    try:
        number = float(value)
    except ValueError:
        raise UserError(f"A fault is KIND=VALUE, such as weight_noise=0.3; got {text!r}. {name}: {kind.law}.") from None
    low, high = kind.limits
    if not low <= number <= high or (kind.whole and number != int(number)):
        what = "a whole number" if kind.whole else "a number"
        raise UserError(f"{name} takes {what} from {low:g} to {high:g}, got {value}. {name}: {kind.law}.")
    return Fault(name, number)
