"""A leaky integrator over a sequence of spikes, compiled for the CPU: a loop of tensors costs more than a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sb3_plastic.snn.scan.compile import jit
from sb3_plastic.snn.scan.simd import borrow, flush_subnormals, restore
from sb3_plastic.snn.state import masked_reset


def leaky_scan(
    spikes: Tensor, weights: Tensor, decay: float, episode_start: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """
    ``r[t] = decay r[t-1] + sum_k weights_k spikes[t, k]``, where r starts at 0 with an episode.

    :param spikes: [T, K, B, N]
    :param weights: what a spike of tick k adds, [K]
    :param decay: per step
    :param episode_start: bool [T, B]
    :param state: r before the first step, [B, N]
    :return: r after each step, [T, B, N], and after the last, [B, N]
    """
    if spikes.device.type == "cpu":
        if torch.is_grad_enabled() and (spikes.requires_grad or state.requires_grad):
            integrated = _LeakyScan.apply(spikes, weights, decay, episode_start, state)
        else:
            integrated = _integrate(spikes, weights, decay, episode_start, state)
        return integrated, integrated[-1]
    drive = (spikes * weights.view(-1, 1, 1)).sum(1)
    steps = []
    for t in range(len(drive)):
        state = decay * masked_reset(state, episode_start[t]) + drive[t]
        steps.append(state)
    return torch.stack(steps), state


def _integrate(spikes: Tensor, weights: Tensor, decay: float, episode_start: Tensor, state: Tensor) -> Tensor:
    T, _, B, N = spikes.shape
    integrated = spikes.new_empty(T, B, N)
    arrays = [tensor.detach().contiguous().numpy() for tensor in (spikes, state)]
    leaky_forward(arrays[0], weights.numpy(), decay, episode_start.numpy(), arrays[1], integrated.numpy())
    return integrated


class _LeakyScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, spikes: Tensor, weights: Tensor, decay: float, episode_start: Tensor, state: Tensor
    ) -> Tensor:
        ctx.K, ctx.weights, ctx.decay, ctx.starts = spikes.shape[1], weights.numpy(), decay, episode_start.numpy()
        return _integrate(spikes, weights, decay, episode_start, state)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        T, B, N = grad.shape
        gspikes, gstate = grad.new_empty(T, ctx.K, B, N), grad.new_empty(B, N)
        arrays = (ctx.weights, ctx.decay, ctx.starts, gspikes.numpy(), gstate.numpy())
        leaky_backward(grad.contiguous().numpy(), *arrays)
        return gspikes, None, None, None, gstate


@jit()
def leaky_forward(spikes, weights, decay, starts, state, integrated):  # type: ignore[no-untyped-def]
    """See :func:`leaky_scan`. The inner loops have nothing but sums in them, so that they become vectors."""
    mode = flush_subnormals()
    spikes, state, integrated = borrow((spikes, state, integrated))
    T, K, B, N = spikes.shape
    decay = weights.dtype.type(decay)
    for t in range(T):
        old = integrated[t - 1] if t else state
        for r in range(B):
            old_r, new = old[r], integrated[t, r]
            new[:] = 0
            for k in range(K):
                weight, spikes_k = weights[k], spikes[t, k, r]
                for j in range(N):
                    new[j] += weight * spikes_k[j]
            if not starts[t, r]:
                for j in range(N):
                    new[j] += decay * old_r[j]
    restore(mode)


@jit()
def leaky_backward(g, weights, decay, starts, gspikes, gstate):  # type: ignore[no-untyped-def]
    """Backward of ``leaky_forward``: sets ``gspikes`` and ``gstate``."""
    mode = flush_subnormals()
    g, gspikes, gstate = borrow((g, gspikes, gstate))
    T, K, B, N = gspikes.shape
    decay = weights.dtype.type(decay)
    gstate[:] = 0
    for t in range(T - 1, -1, -1):
        for r in range(B):
            total, g_r = gstate[r], g[t, r]
            for j in range(N):
                total[j] += g_r[j]
            for k in range(K):
                weight, gspikes_k = weights[k], gspikes[t, k, r]
                for j in range(N):
                    gspikes_k[j] = weight * total[j]
            if starts[t, r]:
                total[:] = 0
            else:
                for j in range(N):
                    total[j] *= decay
    restore(mode)
