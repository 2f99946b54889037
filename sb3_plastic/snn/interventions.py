"""Interventions in a policy's plasticity, for controlled experiments: freeze it, zero it, keep it over episodes.

They are what :mod:`sb3_plastic.evaluation.controls` asks of a policy. Frozen is exact: with ``eta = rho = kappa =
kappa_e = 0`` the equations themselves keep ``h``, ``e`` and ``theta`` as they are, at every tick and on every backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.state import LayerState

State = tuple[np.ndarray, ...]
LEARNED = ("theta", "h", "e")
"""What synapses have learned, as opposed to what neurons presently do."""


class PlasticityInterventions:
    """Mix-in of a policy that has spiking networks, of which the first is the actor's."""

    def networks(self) -> list[PlasticSNN]:
        """The policy's spiking networks. Abstract: the policy that mixes this in has them, this class has not."""
        raise NotImplementedError

    def n_plastic_layers(self) -> int:
        """How many layers of the actor have fast weights."""
        return sum(layer.config.rule != "none" for layer in self.networks()[0].layers)

    @contextmanager
    def plasticity(self, frozen: bool = False, keep_fast_weights: bool | None = None) -> Iterator[None]:
        """
        Inside this context the networks' plasticity is changed.

        :param frozen: nothing that synapses have learned changes
        :param keep_fast_weights: whether it survives the start of an episode; None: as the policy was made
        """
        layers = [layer for net in self.networks() for layer in net.layers]
        configs = [layer.config for layer in layers]
        try:
            if keep_fast_weights is not None:
                for layer, config in zip(layers, configs, strict=True):
                    layer.config = replace(config, keep_fast_weights=keep_fast_weights)
            with ExitStack() as stack:
                for net in self.networks():  # with the configurations of this moment
                    stack.enter_context(net.cached_parameters(frozen))
                yield
        finally:
            for layer, config in zip(layers, configs, strict=True):
                layer.config = config

    def zero_fast_weights(self, state: State, rows: NDArray[np.bool_]) -> State:
        """
        Forget what synapses have learned.

        :param state: what ``predict`` returned
        :param rows: in which environments, [B]
        :return: the state with fast weights, eligibility and sliding threshold at zero there
        """
        names = _names(self.networks())
        mask = np.asarray(rows, dtype=bool)
        return tuple(
            np.where(mask.reshape(-1, *[1] * (array.ndim - 1)), array.dtype.type(0), array)
            if name in LEARNED
            else array
            for name, array in zip(names, state, strict=True)
        )

    def fast_weight_norms(self, state: State) -> np.ndarray:
        """
        Root mean square of the fast weights of the actor's plastic layers.

        :param state: what ``predict`` returned
        :return: [B, L]
        """
        fast = [array for name, array in zip(_names(self.networks()[:1]), state, strict=False) if name == "h"]
        norms = [np.sqrt(np.einsum("bmn,bmn->b", h, h) / h[0].size) for h in fast if h[0].size]
        return np.stack(norms, axis=1) if norms else np.zeros((len(state[0]), 0), np.float32)


def _names(networks: list[PlasticSNN]) -> list[str]:
    """What each array of a state is, in the order of ``SNNState.tensors``."""
    return [name for net in networks for name in ("encoder", *LayerState._fields * len(net.layers), "readout")]
