"""The plastic scan: one layer over a whole sequence, in one call. One signature, several backends."""

from __future__ import annotations

from torch import Tensor

from sb3_plastic.snn.scan.compile import get_num_threads, set_num_threads
from sb3_plastic.snn.scan.fused import BACKENDS, FusedLayers, plastic_scan_fused, resolve_backend
from sb3_plastic.snn.scan.reference import LayerConfig, LayerParameters, plastic_scan_reference, plastic_tick
from sb3_plastic.snn.state import LayerState

__all__ = [
    "BACKENDS",
    "FusedLayers",
    "LayerConfig",
    "LayerParameters",
    "get_num_threads",
    "plastic_scan",
    "plastic_tick",
    "resolve_backend",
    "set_num_threads",
]


def plastic_scan(
    x: Tensor,
    episode_start: Tensor,
    state: LayerState,
    p: LayerParameters,
    config: LayerConfig,
    external: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, LayerState]:
    """
    Run one layer over T environment steps of K ticks each. Differentiable in everything, the incoming and the outgoing
    state included. Two scans one after the other equal one over the whole; the result of a row of the batch depends on
    no other row.

    Numbers are taken to be finite. Backends may differ in what becomes of NaN and infinity: the fused kernel passes
    over inputs that are 0, so that ``0 * inf`` is 0 there and NaN in the reference. With both, a NaN in the fast
    weights stays until a reset, and nothing crosses from one row to another.

    :param x: inputs, [T, K, B, M_in]; a view expanded over K for currents that stay for the whole step
    :param episode_start: bool [T, B]; where True, the state starts afresh before the first tick of that step
    :param state: state before the first step
    :param p: parameters
    :param config: what kind of layer it is
    :param external: an external modulator that multiplies the layer's own, [T, B, N] or [T, B, 1]
    :param backend: a name in ``BACKENDS``; :func:`resolve_backend` says what ``auto`` means for a layer
    :return: spikes [T, K, B, N], and the state after the last step
    """
    scan = (
        plastic_scan_fused if resolve_backend(backend, config, x.device, x.dtype) == "fused" else plastic_scan_reference
    )
    return scan(x, episode_start, state, p, config, external)
