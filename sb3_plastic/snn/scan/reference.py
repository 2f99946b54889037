"""The reference form of the plastic scan: short, clear, slow. It *is* the definition; kernels must agree with it."""

from __future__ import annotations

import torch
from torch import Tensor

from sb3_plastic.snn.neurons import NEURONS
from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan.types import LayerConfig, LayerParameters
from sb3_plastic.snn.state import LayerState, reset_layer
from sb3_plastic.snn.surrogate import spike


def modulator(y_trace: Tensor, p: LayerParameters) -> Tensor:
    """
    The neuromodulator of a layer, one scalar from its own activity fanned out per neuron::

        m_j = a_j tanh(sum_k u_k y_k + c) + d_j

    The simple form of Miconi et al. (2019), "Backpropamine", with a gain and an offset.

    :param y_trace: postsynaptic traces ``y``, [B, N]
    :param p: parameters with a modulator
    :return: m, [B, N]
    """
    signal = torch.tanh((y_trace * p.u).sum(-1, keepdim=True) + p.c)  # [B, 1]
    return p.a * signal + p.d


def plastic_tick(
    x: Tensor, state: LayerState, p: LayerParameters, config: LayerConfig, external: Tensor | None = None
) -> LayerState:
    """
    One tick of one layer. The order of the lines is part of the definition.

    :param x: input of the tick, [B, M_in]; spikes, or currents that stay for the whole environment step
    :param state: state before the tick
    :param p: parameters; each may also have a leading axis [B, ...], one network per row
    :param config: what kind of layer it is
    :param external: an external modulator that multiplies the layer's own, [B, N] or [B, 1]
    :return: state after the tick, its spikes among it
    """
    rule = RULES[config.rule]
    x = torch.cat((x, state.z), dim=-1) if config.recurrent else x  # [B, M]

    w = p.w if rule is None else p.w + p.alpha * state.h  # [M, N] or [B, M, N]
    # One product per row, whatever the number of rows: the result of a row then never depends on the others.
    current = torch.bmm(x.unsqueeze(1), w.expand(x.shape[0], -1, -1)).squeeze(1) + p.b  # [B, N]
    z = state.z.detach() if config.detach_reset else state.z
    v, z = NEURONS[config.neuron](
        state.v, z, current, p.beta, config.threshold, lambda u: spike(u, config.surrogate, config.slope)
    )
    if rule is None:
        return state._replace(v=v, z=z)

    x_trace = p.lam_pre * state.x_trace + (1 - p.lam_pre) * x  # [B, M]
    y_trace = p.lam_post * state.y_trace + (1 - p.lam_post) * z  # [B, N]
    m = torch.ones_like(y_trace) if config.modulation == "none" else modulator(y_trace, p)  # [B, N]
    m = m if external is None else m * external

    drive, decay = rule.local(y_trace, state.theta)  # [B, N] each
    local = x_trace.unsqueeze(-1) * drive.unsqueeze(-2) - decay.unsqueeze(-2) * state.h  # D, [B, M, N]
    gated = state.e if config.modulation == "retroactive" else local
    h = (1 - p.rho.unsqueeze(-2)) * state.h + p.eta * m.unsqueeze(-2) * gated
    # Not clamp alone: whether its gradient passes exactly at the bound, where saturated weights are, depends on torch's
    # version (2.15 stops it).
    h = torch.where(h.abs() <= config.h_max, h, h.detach().clamp(-config.h_max, config.h_max))

    e, theta = state.e, state.theta
    if config.modulation == "retroactive":
        kappa_e = p.kappa_e.unsqueeze(-2)
        e = (1 - kappa_e) * e + kappa_e * local
    if rule.sliding_threshold:
        theta = (1 - p.kappa) * theta + p.kappa * y_trace**2
    return LayerState(v, z, x_trace, y_trace, theta, h, e)


def plastic_scan_reference(
    x: Tensor,
    episode_start: Tensor,
    state: LayerState,
    p: LayerParameters,
    config: LayerConfig,
    external: Tensor | None = None,
) -> tuple[Tensor, LayerState]:
    """See :func:`sb3_plastic.snn.scan.plastic_scan`."""
    T, K = x.shape[:2]
    spikes = []
    for t in range(T):
        state = reset_layer(state, episode_start[t], config.keep_fast_weights)
        for k in range(K):
            state = plastic_tick(x[t, k], state, p, config, None if external is None else external[t])
            spikes.append(state.z)
    if not spikes:  # no step, or no tick per step: only resets have happened
        return x.new_zeros(T, K, *state.z.shape), state
    return torch.stack(spikes).unflatten(0, (T, K)), state
