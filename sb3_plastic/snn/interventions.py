"""Interventions in what synapses have learned, for controlled experiments: pure functions of a policy's state.

Frozen plasticity is :meth:`~sb3_plastic.snn.network.PlasticSNN.prepared` with ``frozen``. It is exact: with
``eta = rho = kappa = kappa_e = 0`` the equations themselves keep ``h``, ``e`` and ``theta`` as they are, on every
backend.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.state import LayerState

LEARNED = ("theta", "h", "e")
"""What synapses have learned, as opposed to what neurons presently do."""


def state_names(networks: Sequence[PlasticSNN]) -> list[str]:
    """What each tensor of the state of networks is, in the order of :meth:`~sb3_plastic.SNNState.tensors`."""
    return [name for net in networks for name in ("encoder", *LayerState._fields * len(net.layers), "readout")]


def zero_learned(state: Sequence[np.ndarray], names: Sequence[str], rows: NDArray[np.bool_]) -> tuple[np.ndarray, ...]:
    """
    Forget what synapses have learned.

    :param state: arrays with the environment axis first
    :param names: what each of them is
    :param rows: in which environments, [B]
    :return: the state with fast weights, eligibility and sliding threshold at zero there
    """
    mask = np.asarray(rows, dtype=bool)
    return tuple(
        np.where(mask.reshape(-1, *[1] * (array.ndim - 1)), array.dtype.type(0), array) if name in LEARNED else array
        for name, array in zip(names, state, strict=True)
    )


def fast_weight_norms(state: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """
    Root mean square of the fast weights of each plastic layer.

    :param state: arrays with the environment axis first; more than there are names are ignored
    :param names: what each of them is
    :return: [B, L]
    """
    fast = [array for name, array in zip(names, state, strict=False) if name == "h"]
    norms = [np.sqrt(np.einsum("bmn,bmn->b", h, h) / h[0].size) for h in fast if h[0].size]
    return np.stack(norms, axis=1) if norms else np.zeros((len(state[0]), 0), np.float32)
