"""All options of a plastic spiking network, as one frozen value of plain data, and all checks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sb3_plastic.errors import UserError, check_choice, check_names, check_number
from sb3_plastic.snn.encoders import ENCODERS
from sb3_plastic.snn.readouts import READOUTS
from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan import BACKENDS, LayerConfig

RATES = ("beta", "lam_pre", "lam_post", "rho", "kappa", "kappa_e")
"""Rates per tick that ``learn`` can name."""

PerLayer = Sequence
"""One value serves all layers, a sequence chooses per layer."""


@dataclass(frozen=True)
class LayerInit:
    """
    With which parameters a layer starts, and which of its rates are learned.

    :param rates: value of each of ``RATES``, in [0, 1]; strictly inside for those that are learned
    :param learn: names in ``RATES`` that are learned, each per neuron (``lam_pre``: per input)
    :param rate_spread: learned rates start spread over the neurons by so much to either side, in logits
    :param gain: standard deviation of the fixed weights is ``gain / sqrt(M)``
    :param alpha_init: standard deviation of the gains of the fast weights, above 0
    :param eta_init: plasticity rate, above 0
    :param eta_per: ``synapse``, ``neuron`` or ``layer``: how many plasticity rates there are
    """

    rates: Mapping[str, float]
    learn: Sequence[str] = ()
    rate_spread: float = 0.0
    gain: float = 1.0
    alpha_init: float = 0.02
    eta_init: float = 0.1
    eta_per: str = "synapse"


def rates_of(config: LayerConfig) -> tuple[str, ...]:
    """The rates that a layer of this kind has, of ``RATES``."""
    rule = RULES[config.rule]
    if rule is None:
        return ("beta",)
    sliding, retroactive = rule.sliding_threshold, config.modulation == "retroactive"
    return ("beta", "lam_pre", "lam_post", "rho", *["kappa"] * sliding, *["kappa_e"] * retroactive)


@dataclass(frozen=True)
class SNNConfig:
    """
    Options of a :class:`~sb3_plastic.snn.network.PlasticSNN`. Those marked * take one value for all layers, or a list
    with one per layer.

    :param n_ticks: ticks of the network per environment step, K. 1 is fastest; 2 to 4 let a signal pass the layers
    :param rule: * plasticity rule: ``none`` (the static network), ``hebb``, ``oja`` or ``bcm``
    :param modulation: * ``none``, ``simple`` or ``retroactive``
    :param external_modulation: multiply each modulator by ``1 + tanh(features U)``, with a learned U. With the previous
        reward among the features (:class:`~sb3_plastic.wrappers.PreviousActionReward`) it can tell when things go wrong
    :param recurrent: * whether a layer's spikes are among its own inputs at the next tick
    :param encoder: ``current`` or ``population``
    :param encoder_kwargs: further arguments of the encoder
    :param readout: ``leaky`` or ``rate``
    :param readout_kwargs: further arguments of the readout
    :param gain: * scale of the fixed weights, ``N(0, gain^2 / M)``; by default .7 in the first layer, 1.4 in the others
    :param alpha_init: * scale of the gains of the fast weights at the start. Small ones start as the static network and
        leave it where plasticity pays. Where a task cannot be done without memory, .2 or more lets learning start
    :param eta_init: * plasticity rate at the start
    :param eta_per: ``synapse``, ``neuron`` or ``layer``
    :param beta: * decay of the membrane per tick
    :param lam_pre: * decay of the presynaptic trace per tick; long traces mix what follows in time
    :param lam_post: * decay of the postsynaptic trace per tick
    :param rho: * decay of the fast weights per tick; ``1 / rho`` ticks is how long they remember
    :param kappa: * rate of the sliding threshold per tick (``bcm``)
    :param kappa_e: * rate of the eligibility per tick (``retroactive``)
    :param learn: which of these six rates are learned too
    :param rate_spread: how far, in logits, learned rates are spread over the neurons at the start. Different time
        constants help where memory is asked for (Perez-Nieves et al., 2021): 2 spreads a beta of .85 from .43 to .98
    :param fast_weights: ``episode``: they start at zero in each episode; ``lifetime``: they are kept, for continual use
    :param neuron: * ``lif``
    :param threshold: firing threshold
    :param surrogate: ``fast_sigmoid``, ``arctan`` or ``triangle``
    :param slope: slope of the surrogate
    :param h_max: bound of the fast weights
    :param detach_reset: leave the neuron's reset out of the gradient
    :param backend: backend of the scan, a name in ``sb3_plastic.snn.scan.BACKENDS``
    :raises UserError: on an unknown name, or a number out of range
    """

    n_ticks: int = 2
    rule: str | PerLayer[str] = "oja"
    modulation: str | PerLayer[str] = "simple"
    external_modulation: bool = False
    recurrent: bool | PerLayer[bool] = False
    encoder: str = "current"
    encoder_kwargs: Mapping[str, Any] | None = None
    readout: str = "leaky"
    readout_kwargs: Mapping[str, Any] | None = None
    gain: float | PerLayer[float] | None = None
    alpha_init: float | PerLayer[float] = 0.02
    eta_init: float | PerLayer[float] = 0.1
    eta_per: str = "synapse"
    beta: float | PerLayer[float] = 0.5
    lam_pre: float | PerLayer[float] = 0.8
    lam_post: float | PerLayer[float] = 0.8
    rho: float | PerLayer[float] = 0.02
    kappa: float | PerLayer[float] = 0.05
    kappa_e: float | PerLayer[float] = 0.2
    learn: Sequence[str] = ()
    rate_spread: float = 0.0
    fast_weights: str = "episode"
    neuron: str | PerLayer[str] = "lif"
    threshold: float = 1.0
    surrogate: str = "fast_sigmoid"
    slope: float = 2.0
    h_max: float = 1.0
    detach_reset: bool = False
    backend: str = "auto"

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, list):  # so that two equal configurations compare equal
                object.__setattr__(self, option.name, tuple(value))
        if isinstance(self.learn, str):  # YAML invites to name a single one
            object.__setattr__(self, "learn", (self.learn,))
        for option in fields(self):
            if option.type == "bool":
                check_choice(option.name, getattr(self, option.name), (True, False))
        check_number("n_ticks", self.n_ticks, at_least=1, integer=True)
        check_choice("backend", self.backend, BACKENDS)
        check_choice("encoder", self.encoder, ENCODERS)
        check_choice("readout", self.readout, READOUTS)
        check_choice("fast_weights", self.fast_weights, ("episode", "lifetime"))
        check_choice("eta_per", self.eta_per, ("synapse", "neuron", "layer"))
        check_number("rate_spread", self.rate_spread, at_least=0)
        for name in self.learn:
            check_choice("rate to learn", name, RATES)
        n_layers = max(len(value) if isinstance(value, tuple) else 1 for value in self._per_layer().values())
        for i in range(n_layers):
            self._check_layer(*self.layer(i, n_layers))

    @staticmethod
    def names() -> list[str]:
        """The names of all options."""
        return [option.name for option in fields(SNNConfig)]

    def with_options(self, options: Mapping[str, Any]) -> SNNConfig:
        """
        The same with other values of some options.

        :param options: values by name
        :raises UserError: on an unknown name, or a number out of range
        """
        check_names("A plastic network", options, self.names())
        return replace(self, **options)

    def _per_layer(self) -> dict[str, Any]:
        """The options that may be chosen per layer."""
        names = ("rule", "modulation", "recurrent", "neuron", "gain", "alpha_init", "eta_init", *RATES)
        return {name: getattr(self, name) for name in names}

    def layer(self, i: int, n_layers: int) -> tuple[LayerConfig, LayerInit]:
        """
        One layer's part.

        :param i: number of the layer, from 0
        :param n_layers: how many layers there are
        :raises UserError: if a list is not as long as there are layers
        """
        own = {name: _value_of_layer(name, value, i, n_layers) for name, value in self._per_layer().items()}
        own["keep_fast_weights"] = self.fast_weights == "lifetime"
        own["rates"] = {name: own[name] for name in RATES}
        if own["gain"] is None:
            own["gain"] = 0.7 if i == 0 else 1.4
        options = vars(self) | own  # a layer takes those that it has a field of the same name for
        config = LayerConfig(**{field.name: options[field.name] for field in fields(LayerConfig)})
        init = LayerInit(**{field.name: options[field.name] for field in fields(LayerInit)})
        return config, init

    @staticmethod
    def _check_layer(config: LayerConfig, init: LayerInit) -> None:
        check_choice("recurrent", config.recurrent, (True, False))
        check_number("gain", init.gain)
        for name in rates_of(config):
            value = init.rates[name]
            check_number(f"{name}, a rate per tick,", value, at_least=0, at_most=1)
            if name in init.learn and not 0 < value < 1:
                raise UserError(f"{name} is to be learned, so it must start strictly between 0 and 1, got {value}.")
        if config.rule != "none":
            check_number("alpha_init", init.alpha_init, above=0)
            check_number("eta_init", init.eta_init, above=0)


def _value_of_layer(name: str, value: Any, i: int, n_layers: int) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if len(value) != n_layers:
        raise UserError(
            f"{name} names {len(value)} layers, but there are {n_layers}: give one value, or one per layer."
        )
    return value[i]
