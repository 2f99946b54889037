"""The plastic spiking network: a module that owns parameters. The mathematics is in the pure functions it calls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sb3_plastic.errors import check_choice
from sb3_plastic.snn.coding import ENCODERS, READOUTS, Encoder, Readout
from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan import BACKENDS, FusedLayers, LayerConfig, LayerParameters, plastic_scan, resolve_backend
from sb3_plastic.snn.state import LayerState, SNNState

RATES = ("beta", "lam_pre", "lam_post", "rho", "kappa", "kappa_e")
"""Rates per tick that ``learn`` can name."""


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
    :param rates: value of each of ``RATES``, in [0, 1]; strictly inside for those that are learned
    :param learn: names in ``RATES`` that are learned, each per neuron (``lam_pre``: per input)
    :param rate_spread: learned rates start spread over the neurons by so much to either side, in logits
    :param gain: standard deviation of the fixed weights is ``gain / sqrt(M)``
    :param alpha_init: standard deviation of the gains of the fast weights at the start
    :param eta_init: plasticity rate at the start, above 0
    :param eta_per: ``synapse``, ``neuron`` or ``layer``: how many plasticity rates there are
    :param n_external: number of features from which an external modulator is computed; 0 for none
    """

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        config: LayerConfig,
        rates: dict[str, float],
        learn: Sequence[str] = (),
        rate_spread: float = 0.0,
        gain: float = 1.0,
        alpha_init: float = 0.2,
        eta_init: float = 0.1,
        eta_per: str = "synapse",
        n_external: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.n_inputs, self.n_neurons = n_inputs, n_neurons
        M, N = n_inputs + n_neurons * config.recurrent, n_neurons
        self.w = nn.Parameter(torch.randn(M, N) * gain / M**0.5)
        self.b = nn.Parameter(torch.zeros(N))

        rule = RULES[config.rule]
        used = ["beta"]
        if rule is not None:
            used += ["lam_pre", "lam_post", "rho"]
            used += ["kappa"] * rule.sliding_threshold + ["kappa_e"] * (config.modulation == "retroactive")
        self.learned_rates = tuple(name for name in used if name in learn)
        self.raw_rates = nn.ParameterDict()
        for name in used:
            value, size = rates[name], M if name == "lam_pre" else N
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a rate per tick in [0, 1], got {value}.")
            if name not in learn:
                self.register_buffer(name, torch.full((size,), float(value)), persistent=False)
            elif 0 < value < 1:
                self.raw_rates[name] = nn.Parameter(logit(value) + torch.linspace(-rate_spread, rate_spread, size))
            else:
                raise ValueError(f"{name} is to be learned, so it must start strictly between 0 and 1, got {value}.")

        self.external: nn.Parameter | None
        if rule is None:
            self.register_parameter("external", None)
            return
        check_choice("eta_per", eta_per, ("synapse", "neuron", "layer"))
        if not eta_init > 0 or not alpha_init > 0:
            raise ValueError(f"alpha_init and eta_init must be above 0, got {alpha_init} and {eta_init}.")
        eta_size = {"synapse": (M, N), "neuron": (1, N), "layer": (1, 1)}[eta_per]
        self.alpha = nn.Parameter(torch.randn(M, N) * alpha_init)
        self.raw_eta = nn.Parameter(torch.full(eta_size, softplus_inverse(eta_init)))
        if config.modulation != "none":
            # Nearly unmodulated at the start (d = 1), but not exactly: u has no gradient where a is 0.
            self.a = nn.Parameter(torch.randn(N) * 0.1)
            self.u = nn.Parameter(torch.randn(N) * 2 / N**0.5)
            self.c = nn.Parameter(torch.zeros(1))
            self.d = nn.Parameter(torch.ones(N))
        self.register_parameter("external", nn.Parameter(torch.zeros(n_external, N)) if n_external else None)

    def effective_parameters(self) -> LayerParameters:
        """The layer's parameters in their own units, as the scan takes them."""
        p = {name: getattr(self, name) for name in ("w", "b")}
        p |= {name: getattr(self, name) for name in RATES if hasattr(self, name)}
        p |= {name: torch.sigmoid(self.raw_rates[name]) for name in self.learned_rates}
        if self.config.rule != "none":
            p["alpha"] = self.alpha
            p["eta"] = nn.functional.softplus(self.raw_eta).expand_as(self.w)
            if self.config.modulation != "none":
                p |= {name: getattr(self, name) for name in ("a", "u", "c", "d")}
        return LayerParameters(**p)

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


def per_layer(name: str, value: Any, n_layers: int) -> list[Any]:
    """
    One value serves all layers, a list chooses per layer.

    :raises ValueError: if a list is not as long as there are layers
    """
    values = list(value) if isinstance(value, list | tuple) else [value] * n_layers
    if len(values) != n_layers:
        raise ValueError(
            f"{name} names {len(values)} layers, but there are {n_layers}: give one value, or one per layer."
        )
    return values


class PlasticSNN(nn.Module):
    """
    Encoder, plastic spiking layers, readout.

    Every argument is plain data. Those marked * take one value for all layers, or a list with one per layer.

    :param n_inputs: number of features, F
    :param layer_sizes: neurons per layer
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
    :param alpha_init: * scale of the gains of the fast weights at the start. With ``eta_init`` it decides whether
        learning starts
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
    :raises ValueError: on an unknown name, or a number out of range
    """

    def __init__(
        self,
        n_inputs: int,
        layer_sizes: Sequence[int] = (64, 64),
        n_ticks: int = 2,
        rule: str | Sequence[str] = "oja",
        modulation: str | Sequence[str] = "simple",
        external_modulation: bool = False,
        recurrent: bool | Sequence[bool] = False,
        encoder: str = "current",
        encoder_kwargs: dict[str, Any] | None = None,
        readout: str = "leaky",
        readout_kwargs: dict[str, Any] | None = None,
        gain: float | Sequence[float] | None = None,
        alpha_init: float | Sequence[float] = 0.2,
        eta_init: float | Sequence[float] = 0.1,
        eta_per: str = "synapse",
        beta: float | Sequence[float] = 0.5,
        lam_pre: float | Sequence[float] = 0.8,
        lam_post: float | Sequence[float] = 0.8,
        rho: float | Sequence[float] = 0.02,
        kappa: float | Sequence[float] = 0.05,
        kappa_e: float | Sequence[float] = 0.2,
        learn: Sequence[str] = (),
        rate_spread: float = 0.0,
        fast_weights: str = "episode",
        neuron: str | Sequence[str] = "lif",
        threshold: float = 1.0,
        surrogate: str = "fast_sigmoid",
        slope: float = 2.0,
        h_max: float = 1.0,
        detach_reset: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        n_layers = len(layer_sizes)
        if n_layers < 1 or min(layer_sizes) < 1 or n_ticks < 1:
            raise ValueError(f"Need at least one layer, neuron and tick, got {list(layer_sizes)} and {n_ticks} ticks.")
        check_choice("backend", backend, BACKENDS)
        check_choice("encoder", encoder, ENCODERS)
        check_choice("readout", readout, READOUTS)
        check_choice("fast_weights", fast_weights, ("episode", "lifetime"))
        for name in learn:
            check_choice("rate to learn", name, RATES)

        self.n_ticks, self.backend = n_ticks, backend
        self.encoder: Encoder = ENCODERS[encoder](n_inputs, n_ticks, **(encoder_kwargs or {}))
        if gain is None:
            gain = [0.7] + [1.4] * (n_layers - 1)
        rates = dict(beta=beta, lam_pre=lam_pre, lam_post=lam_post, rho=rho, kappa=kappa, kappa_e=kappa_e)
        configs = dict(rule=rule, modulation=modulation, recurrent=recurrent, neuron=neuron)
        scales = dict(gain=gain, alpha_init=alpha_init, eta_init=eta_init)
        shared = dict(threshold=threshold, surrogate=surrogate, slope=slope, h_max=h_max, detach_reset=detach_reset)
        shared["keep_fast_weights"] = fast_weights == "lifetime"

        def of_layer(values: dict[str, Any], i: int) -> dict[str, Any]:
            return {name: per_layer(name, value, n_layers)[i] for name, value in values.items()}

        sizes: list[int] = [self.encoder.n_outputs, *layer_sizes]
        self.layers: Sequence[PlasticLayer] = nn.ModuleList(  # type: ignore[assignment]
            PlasticLayer(
                sizes[i],
                sizes[i + 1],
                LayerConfig(**of_layer(configs, i), **shared),  # type: ignore[arg-type]
                of_layer(rates, i),
                learn,
                rate_spread,
                **of_layer(scales, i),
                eta_per=eta_per,
                n_external=n_inputs * external_modulation,
            )
            for i in range(n_layers)
        )
        self._cached_parameters: list[LayerParameters] | None = None
        self._fused_layers: FusedLayers | None = None
        self.n_outputs = sizes[-1]
        self.readout: Readout = READOUTS[readout](self.n_outputs, n_ticks, **(readout_kwargs or {}))

    def initial_state(self, n_envs: int, random: bool = True) -> SNNState:
        """
        The state at the start of an episode.

        :param n_envs: number of rows, B
        :param random: draw the keys of random encoders from torch's generator; else they are always the same
        :return: state, on the network's device
        """
        device = self.layers[0].w.device
        return SNNState(
            self.encoder.initial_state(n_envs, random).to(device),
            tuple(layer.initial_state(n_envs) for layer in self.layers),
            self.readout.initial_state(n_envs, random).to(self.layers[0].w),
        )

    def resolved_backends(self) -> list[str]:
        """
        The backend on which each layer runs, ``fused`` or ``reference``.

        :raises ValueError: if ``backend="fused"`` was asked for, and a layer cannot be
        """
        return [resolve_backend(self.backend, layer.config, layer.w.device, layer.w.dtype) for layer in self.layers]

    def effective_parameters(self) -> list[LayerParameters]:
        """The layers' parameters in their own units."""
        return self._cached_parameters or [layer.effective_parameters() for layer in self.layers]

    @contextmanager
    def cached_parameters(self, frozen: bool = False, in_place: bool = False) -> Iterator[None]:
        """
        Inside this context the effective parameters are computed once: for many steps between two updates. Without
        gradients, all layers then run in one call if they are fused.

        :param frozen: with all rates of plasticity at zero, so that nothing that synapses have learned changes
        :param in_place: a step overwrites the layers' states that the step before has returned, and that are passed in
            again: for a caller who keeps none of them
        """
        before = self._cached_parameters, self._fused_layers
        with torch.no_grad():
            parameters = self.effective_parameters()
        if frozen:
            parameters = [without_plasticity(p) for p in parameters]
        self._cached_parameters, self._fused_layers = parameters, None
        if set(self.resolved_backends()) == {"fused"}:
            configs = [layer.config for layer in self.layers]
            self._fused_layers = FusedLayers(list(zip(configs, parameters, strict=True)), in_place)
        try:
            yield
        finally:
            self._cached_parameters, self._fused_layers = before

    def spike_trains(self, features: Tensor, episode_start: Tensor, state: SNNState) -> tuple[list[Tensor], SNNState]:
        """
        Run encoder and layers.

        :param features: [T, B, F]
        :param episode_start: bool [T, B]
        :param state: state before the first step
        :return: spikes of each layer, [T, K, B, N]; the state after, with the readout's as it was
        """
        x, encoder_state = self.encoder(features, episode_start, state.encoder)  # [T, K, B, M]
        externals = [layer.external_modulator(features) for layer in self.layers]
        if self._fused_layers is not None and not torch.is_grad_enabled():
            trains, states = self._fused_layers(x, episode_start, state.layers, externals)
            return trains, SNNState(encoder_state, tuple(states), state.readout)
        trains, states = [], []
        layers = zip(self.layers, state.layers, self.effective_parameters(), externals, strict=True)
        for layer, layer_state, p, external in layers:
            x, layer_state = plastic_scan(x, episode_start, layer_state, p, layer.config, external, self.backend)
            trains.append(x)
            states.append(layer_state)
        return trains, SNNState(encoder_state, tuple(states), state.readout)

    def scan(self, features: Tensor, episode_start: Tensor, state: SNNState) -> tuple[Tensor, SNNState]:
        """
        Run T environment steps.

        :param features: [T, B, F]
        :param episode_start: bool [T, B]; where True, the state starts afresh before that step
        :param state: state before the first step
        :return: latent code [T, B, N] of the last layer's neurons, and the state after the last step
        """
        trains, state = self.spike_trains(features, episode_start, state)
        latent, readout_state = self.readout(trains[-1], episode_start, state.readout)
        return latent, state._replace(readout=readout_state)

    def step(self, features: Tensor, episode_start: Tensor, state: SNNState) -> tuple[Tensor, SNNState]:
        """
        Run one environment step: a scan with T = 1.

        :param features: [B, F]
        :param episode_start: bool [B]
        :param state: state before the step
        :return: latent code [B, N], and the state after
        """
        latent, state = self.scan(features.unsqueeze(0), episode_start.unsqueeze(0), state)
        return latent.squeeze(0), state

    def plasticity_parameters(self) -> list[nn.Parameter]:
        """What decides how synapses learn: all of the layers' parameters but ``w``, ``b`` and ``beta``."""
        return [
            parameter
            for layer in self.layers
            for name, parameter in layer.named_parameters()
            if name.rsplit(".", 1)[-1] not in ("w", "b", "beta")
        ]
