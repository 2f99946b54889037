"""What a plastic layer is made of: its parameters (tensors) and its configuration (plain data)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sb3_plastic.errors import check_choice, check_number
from sb3_plastic.snn.neurons import NEURONS
from sb3_plastic.snn.rules import MODULATIONS, RULES
from sb3_plastic.snn.surrogate import SURROGATES

NOTHING = torch.empty(0)
"""A parameter that the layer does not have."""


class LayerParameters(NamedTuple):
    """
    Parameters of one layer, in their own units (rates in [0, 1], not their raw form). What a layer has no use for is
    empty. ``M`` counts the layer's inputs and, in a recurrent layer, its own N neurons after them. Each tensor may have
    a leading axis [B, ...]: then each row of the batch is a network of its own (a population).
    """

    w: Tensor  # [M, N] fixed weights
    b: Tensor  # [N] bias currents
    beta: Tensor  # [N] decay of the membrane per tick, in [0, 1]
    alpha: Tensor = NOTHING  # [M, N] gain of the fast weights
    eta: Tensor = NOTHING  # [M, N] plasticity rates, above 0
    lam_pre: Tensor = NOTHING  # [M] decay of the presynaptic trace per tick, in [0, 1]
    lam_post: Tensor = NOTHING  # [N] decay of the postsynaptic trace per tick, in [0, 1]
    rho: Tensor = NOTHING  # [N] decay of the fast weights per tick, in [0, 1]
    kappa: Tensor = NOTHING  # [N] rate of the sliding threshold per tick, in [0, 1]
    kappa_e: Tensor = NOTHING  # [N] rate of the eligibility per tick, in [0, 1]
    a: Tensor = NOTHING  # [N] gain of the modulator
    u: Tensor = NOTHING  # [N] weights of the modulator's signal
    c: Tensor = NOTHING  # [1] bias of the modulator's signal
    d: Tensor = NOTHING  # [N] offset of the modulator


@dataclass(frozen=True)
class LayerConfig:
    """
    What kind of layer it is.

    :param rule: plasticity rule, a name in ``RULES``
    :param modulation: ``none``, ``simple`` or ``retroactive``
    :param neuron: a name in ``NEURONS``
    :param recurrent: whether the layer's spikes of the last tick are among its inputs
    :param threshold: firing threshold, above 0; 1 by convention, since weights scale with it
    :param surrogate: a name in ``SURROGATES``
    :param slope: slope of the surrogate, above 0
    :param h_max: bound of the fast weights, above 0
    :param detach_reset: whether the gradient leaves out the neuron's reset
    :param keep_fast_weights: whether fast weights survive the start of an episode
    :raises ValueError: on an unknown name or a number out of range
    """

    rule: str = "oja"
    modulation: str = "none"
    neuron: str = "lif"
    recurrent: bool = False
    threshold: float = 1.0
    surrogate: str = "fast_sigmoid"
    slope: float = 2.0
    h_max: float = 1.0
    detach_reset: bool = False
    keep_fast_weights: bool = False

    def __post_init__(self) -> None:
        check_choice("plasticity rule", self.rule, RULES)
        check_choice("modulation", self.modulation, MODULATIONS)
        check_choice("neuron", self.neuron, NEURONS)
        check_choice("surrogate", self.surrogate, SURROGATES)
        for name in ("threshold", "slope", "h_max"):
            check_number(name, getattr(self, name), above=0)
