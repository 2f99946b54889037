"""The plastic spiking network: a module that owns parameters, and the functions that run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sb3_plastic.errors import UserError, check_names, check_number
from sb3_plastic.snn import encoders, readouts
from sb3_plastic.snn.config import SNNConfig
from sb3_plastic.snn.encoders import ENCODERS, Encoder
from sb3_plastic.snn.layer import PlasticLayer, without_plasticity
from sb3_plastic.snn.readouts import READOUTS, Readout
from sb3_plastic.snn.scan import FusedLayers, LayerConfig, LayerParameters, plastic_scan, resolve_backend
from sb3_plastic.snn.scan.reference import modulator
from sb3_plastic.snn.state import LayerState, SNNState

Layers = Sequence[tuple[LayerConfig, LayerParameters]]
"""What kind of layer each one is, and its parameters in their own units."""

RunLayers = Callable[
    [Tensor, Tensor, Sequence[LayerState], Sequence[Tensor | None]], tuple[list[Tensor], list[LayerState]]
]
"""``(inputs, episode_start, states, external modulators) -> (spikes of each layer, states)``."""


class LayerSignals(NamedTuple):
    """What one layer did in a scan, and with what."""

    config: LayerConfig
    parameters: LayerParameters
    spikes: Tensor  # [T, K, B, N]
    state: LayerState  # after the scan
    modulator: Tensor | None  # [B, N] after the last step, None if nothing modulates the layer's plasticity


class PlasticSNN(nn.Module):
    """
    Encoder, plastic spiking layers, readout.

    :param n_inputs: number of features, F
    :param layer_sizes: neurons per layer
    :param config: all other options
    :param options: options of :class:`~sb3_plastic.snn.config.SNNConfig` by name, in place of those of ``config``
    :raises UserError: on an unknown name, or a number out of range
    """

    def __init__(
        self,
        n_inputs: int,
        layer_sizes: Sequence[int] = (64, 64),
        config: SNNConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.config = config = (config or SNNConfig()).with_options(options)
        n_layers, n_ticks = len(layer_sizes), config.n_ticks
        if n_layers < 1:
            raise UserError("A network needs at least one layer, got none.")
        for size in layer_sizes:
            check_number("neurons of a layer", size, at_least=1, integer=True)
        self.backend = config.backend
        make_encoder, make_readout = ENCODERS[config.encoder], READOUTS[config.readout]
        _check_arguments(f"The encoder {config.encoder!r}", make_encoder, config.encoder_kwargs)
        _check_arguments(f"The readout {config.readout!r}", make_readout, config.readout_kwargs)
        self.encoder: Encoder = make_encoder(n_inputs, n_ticks, **(config.encoder_kwargs or {}))
        sizes: list[int] = [self.encoder.n_outputs, *layer_sizes]
        n_external = n_inputs * config.external_modulation
        self.layers: Sequence[PlasticLayer] = nn.ModuleList(  # type: ignore[assignment]
            PlasticLayer(sizes[i], sizes[i + 1], *config.layer(i, n_layers), n_external) for i in range(n_layers)
        )
        self.n_inputs, self.n_outputs = n_inputs, sizes[-1]
        self.readout: Readout = make_readout(self.n_outputs, n_ticks, **(config.readout_kwargs or {}))
        K, B, M = n_ticks, 3, sizes[0]
        _check_shapes(f"The encoder {config.encoder!r}", self.encoder, (2, B, n_inputs), (2, K, B, M))
        _check_shapes(f"The readout {config.readout!r}", self.readout, (2, K, B, sizes[-1]), (2, B, sizes[-1]))

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

        :raises UserError: if ``backend="fused"`` was asked for, and a layer cannot be
        """
        return [resolve_backend(self.backend, layer.config, layer.w.device, layer.w.dtype) for layer in self.layers]

    def prepared(
        self, frozen: bool = False, keep_fast_weights: bool | None = None, in_place: bool = False
    ) -> PreparedSNN:
        """
        The network with its parameters as they are now, for many steps without gradients.

        :param frozen: all rates of plasticity are zero, so that nothing that synapses have learned changes
        :param keep_fast_weights: whether fast weights survive the start of an episode; None: as the layers say
        :param in_place: a step overwrites the layers' states that the step before has returned, and that are passed in
            again: for a caller who keeps none of them
        """
        layers = []
        for layer in self.layers:
            with torch.no_grad():
                p = LayerParameters(*(tensor.detach() for tensor in layer.effective_parameters()))
            keep = layer.config.keep_fast_weights if keep_fast_weights is None else keep_fast_weights
            config = replace(layer.config, keep_fast_weights=keep)
            layers.append((config, without_plasticity(p) if frozen else p))
        return PreparedSNN(self, layers, in_place)

    def _run_layers(self) -> RunLayers:
        """The layers with their present parameters, differentiable."""
        return layer_by_layer([(layer.config, layer.effective_parameters()) for layer in self.layers], self.backend)

    def spike_trains(self, features: Tensor, episode_start: Tensor, state: SNNState) -> tuple[list[Tensor], SNNState]:
        """
        Run encoder and layers.

        :param features: [T, B, F]
        :param episode_start: bool [T, B]
        :param state: state before the first step
        :return: spikes of each layer, [T, K, B, N]; the state after, with the readout's as it was
        """
        return _spike_trains(self, self._run_layers(), features, episode_start, state)

    def scan(self, features: Tensor, episode_start: Tensor, state: SNNState) -> tuple[Tensor, SNNState]:
        """
        Run T environment steps.

        :param features: [T, B, F]
        :param episode_start: bool [T, B]; where True, the state starts afresh before that step
        :param state: state before the first step
        :return: latent code [T, B, N] of the last layer's neurons, and the state after the last step
        """
        return _scan(self, self._run_layers(), features, episode_start, state)

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


class PreparedSNN:
    """
    A network whose layers' parameters stay as they are for many steps. All layers run in one compiled call if they are
    fused. It has no gradients. :meth:`PlasticSNN.prepared` makes it.

    :param snn: the network
    :param layers: its layers' configurations and parameters
    :param in_place: overwrite states that come back
    """

    def __init__(self, snn: PlasticSNN, layers: Layers, in_place: bool) -> None:
        self.snn, self.layers = snn, layers
        fused = set(snn.resolved_backends()) == {"fused"}
        self._run: RunLayers = FusedLayers(layers, in_place) if fused else layer_by_layer(layers, snn.backend)
        self._of = [*snn.parameters()]
        self._written = self._writes()

    def _writes(self) -> int:
        """How often the network's parameters have been written to: torch counts it, in a microsecond or two."""
        return sum(parameter._version for parameter in self._of)

    def is_current(self) -> bool:
        """Whether nobody has written to the network's parameters since: no optimizer, and no ``load_state_dict``."""
        return self._writes() == self._written

    @torch.no_grad()
    def scan(self, features: Tensor, episode_start: Tensor, state: SNNState) -> tuple[Tensor, SNNState]:
        """See :meth:`PlasticSNN.scan`."""
        return _scan(self.snn, self._run, features, episode_start, state)

    @torch.no_grad()
    def signals(self, features: Tensor, episode_start: Tensor, state: SNNState) -> list[LayerSignals]:
        """
        Run T environment steps, and tell what each layer did.

        :param features: [T, B, F]
        :param episode_start: bool [T, B]
        :param state: state before the first step
        """
        trains, state = _spike_trains(self.snn, self._run, features, episode_start, state)
        found = []
        layers = zip(self.snn.layers, self.layers, trains, state.layers, strict=True)
        for layer, (config, p), spikes, after in layers:
            external = layer.external_modulator(features[-1:])
            m = None if external is None else external[-1]
            if config.rule != "none" and config.modulation != "none":
                own = modulator(after.y_trace, p)
                m = own if m is None else own * m
            found.append(LayerSignals(config, p, spikes, after, m))
        return found


def layer_by_layer(layers: Layers, backend: str) -> RunLayers:
    """
    Layers one after the other, each in a call of its own.

    :param layers: their configurations and parameters
    :param backend: a name in ``sb3_plastic.snn.scan.BACKENDS``
    """

    def run(
        x: Tensor, episode_start: Tensor, states: Sequence[LayerState], externals: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[LayerState]]:
        trains, after = [], []
        for (config, p), state, external in zip(layers, states, externals, strict=True):
            x, state = plastic_scan(x, episode_start, state, p, config, external, backend)
            trains.append(x)
            after.append(state)
        return trains, after

    return run


def _spike_trains(
    snn: PlasticSNN, run: RunLayers, features: Tensor, episode_start: Tensor, state: SNNState
) -> tuple[list[Tensor], SNNState]:
    if features.shape[2:] != (snn.n_inputs,):
        raise UserError(
            f"The network takes {snn.n_inputs} features of each environment, got {[*features.shape[2:]]}: what the "
            "forward of a features extractor returns has the shape [n_envs, features_dim]."
        )
    x, encoder_state = snn.encoder(features, episode_start, state.encoder)  # [T, K, B, M]
    externals = [layer.external_modulator(features) for layer in snn.layers]
    trains, states = run(x, episode_start, state.layers, externals)
    return trains, SNNState(encoder_state, tuple(states), state.readout)


def _scan(
    snn: PlasticSNN, run: RunLayers, features: Tensor, episode_start: Tensor, state: SNNState
) -> tuple[Tensor, SNNState]:
    trains, state = _spike_trains(snn, run, features, episode_start, state)
    latent, readout_state = snn.readout(trains[-1], episode_start, state.readout)
    return latent, state._replace(readout=readout_state)


@torch.no_grad()
def _check_shapes(owner: str, part: Encoder | Readout, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Refuse an encoder or readout of a user with other shapes than ``encoders`` and ``readouts`` say: T = 2, B = 3."""
    B = wanted[-2]
    if type(part).__module__ in (encoders.__name__, readouts.__name__):
        return
    state: Any = part.initial_state(B, False)
    if not isinstance(state, Tensor) or state.shape[:1] != (B,):
        got = tuple(state.shape) if isinstance(state, Tensor) else repr(state)
        raise UserError(f"{owner}: its state is a tensor [n_envs, ...], without memory [n_envs, 0]; got {got} for {B}.")
    output, after = part(torch.zeros(given), torch.zeros(2, B, dtype=torch.bool), state)
    if output.shape != wanted or after.shape != state.shape:
        raise UserError(
            f"{owner}: of {given} it has to make {wanted}, and of a state another of its shape, {tuple(state.shape)}; "
            f"got {tuple(output.shape)} and {tuple(after.shape)}."
        )


def _check_arguments(owner: str, make: Callable[..., Any], given: Mapping[str, Any] | None) -> None:
    """Refuse what a class of an encoder or readout does not take, beside its size and ticks, which come first."""
    parameters = [*inspect.signature(make).parameters.values()]
    if given and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        check_names(owner, given, [p.name for p in parameters[2:]])
