"""One layer's parameters: a module that owns them. The mathematics is in the pure functions of :mod:`.scan`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sb3_plastic.snn.config import LayerInit, rates_of
from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan import LayerConfig, LayerParameters
from sb3_plastic.snn.state import LayerState

Synapses = tuple[Tensor, Tensor | None, Tensor | None, int, bool, Tensor | None]
"""Weights and strengths of fast weights (None: without), [inputs, outputs] both; biases; how many of the inputs, the
last ones, are the layer's own neurons; whether the outputs spike; their weights in the neuromodulator (None: without),
[outputs]."""


def logit(p: float) -> float:
    """The inverse of the sigmoid."""
    return math.log(p / (1 - p))


def softplus_inverse(y: float) -> float:
    """The inverse of the softplus."""
    return y + math.log(-math.expm1(-y))


class PlasticLayer(nn.Module):
    """
    Parameters of one layer. Rates are kept in their range by parametrisation: those that are learned are stored as
    logits, ``eta`` through a softplus.

    :param n_inputs: inputs, M (a recurrent layer adds its own N)
    :param n_neurons: neurons, N
    :param config: what kind of layer it is
    :param init: with which parameters it starts, and which rates are learned
    :param n_external: number of features from which an external modulator is computed; 0 for none
    """

    def __init__(
        self, n_inputs: int, n_neurons: int, config: LayerConfig, init: LayerInit, n_external: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.n_inputs, self.n_neurons = n_inputs, n_neurons
        M, N = n_inputs + n_neurons * config.recurrent, n_neurons
        self.w = nn.Parameter(torch.randn(M, N) * init.gain / M**0.5)
        self.b = nn.Parameter(torch.zeros(N))

        names = rates_of(config)
        self.learned_rates = tuple(name for name in names if name in init.learn)
        self.fixed_rates = tuple(name for name in names if name not in init.learn)
        self.raw_rates = nn.ParameterDict()
        for name in names:
            value, size = init.rates[name], M if name == "lam_pre" else N
            if name in self.fixed_rates:
                self.register_buffer(name, torch.full((size,), float(value)), persistent=False)
            else:
                # One alone is in the middle, not at the low end.
                spread = torch.linspace(-init.rate_spread, init.rate_spread, size) * (size > 1)
                self.raw_rates[name] = nn.Parameter(logit(value) + spread)

        plastic = config.rule != "none"
        if plastic:
            eta_size = {"synapse": (M, N), "neuron": (1, N), "layer": (1, 1)}[init.eta_per]
            self.alpha = nn.Parameter(torch.randn(M, N) * init.alpha_init)
            self.raw_eta = nn.Parameter(torch.full(eta_size, softplus_inverse(init.eta_init)))
            if config.modulation != "none":
                # Nearly unmodulated at the start (d = 1), but not exactly: u has no gradient where a is 0.
                self.a = nn.Parameter(torch.randn(N) * 0.1)
                self.u = nn.Parameter(torch.randn(N) * 2 / N**0.5)
                self.c = nn.Parameter(torch.zeros(1))
                self.d = nn.Parameter(torch.ones(N))
        self.external: nn.Parameter | None
        external = nn.Parameter(torch.zeros(n_external, N)) if n_external and plastic else None
        self.register_parameter("external", external)

    def effective_parameters(self) -> LayerParameters:
        """The layer's parameters in their own units, as the scan takes them."""
        p = {name: getattr(self, name) for name in ("w", "b", *self.fixed_rates)}
        p |= {name: torch.sigmoid(self.raw_rates[name]) for name in self.learned_rates}
        if self.config.rule != "none":
            p["alpha"] = self.alpha
            p["eta"] = nn.functional.softplus(self.raw_eta).expand_as(self.w)
            if self.config.modulation != "none":
                p |= {name: getattr(self, name) for name in ("a", "u", "c", "d")}
        return LayerParameters(**p)

    def synapses(self) -> Synapses:
        """The parameters themselves, to be read or changed in place."""
        alpha = self.alpha if self.config.rule != "none" else None
        return self.w, alpha, self.b, len(self.w) - self.n_inputs, True, getattr(self, "u", None)

    def external_modulator(self, features: Tensor) -> Tensor | None:
        """
        ``1 + tanh(features U)``, in (0, 2), 1 at the start: the environment's own say in what is learned.

        :param features: [T, B, F]
        :return: [T, B, N], or None if the layer has no external modulator
        """
        if self.external is None:
            return None
        # A row at a time, since in a population each has weights of its own.
        return 1 + torch.tanh((features.unsqueeze(-2) @ self.external).squeeze(-2))

    def initial_state(self, n_envs: int) -> LayerState:
        """
        :param n_envs: number of rows, B
        :return: the state at the start of an episode: zero
        """
        M, N = self.w.shape
        rule = RULES[self.config.rule]
        plastic, sliding = rule is not None, rule is not None and rule.sliding_threshold
        retroactive = plastic and self.config.modulation == "retroactive"
        zeros = self.w.new_zeros
        return LayerState(
            v=zeros(n_envs, N),
            z=zeros(n_envs, N),
            x_trace=zeros(n_envs, M * plastic),
            y_trace=zeros(n_envs, N * plastic),
            theta=zeros(n_envs, N * sliding),
            h=zeros(n_envs, M * plastic, N * plastic),
            e=zeros(n_envs, M * retroactive, N * retroactive),
        )


def without_plasticity(p: LayerParameters) -> LayerParameters:
    """
    Parameters with which the fast weights, the eligibility and the sliding threshold stay as they are, exactly.

    :param p: parameters of a layer
    """
    rates = ("eta", "rho", "kappa", "kappa_e")
    return p._replace(**{name: torch.zeros_like(getattr(p, name)) for name in rates})
