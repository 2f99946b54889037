"""A leaky integrator over a sequence of spikes, compiled for the CPU: a loop of tensors costs more than a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sb3_plastic.ops.kernels import jit
from sb3_plastic.ops.simd import flush_subnormals, restore
from sb3_plastic.ops.threads import run_compiled
from sb3_plastic.state import masked_reset


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
        integrated = _LeakyScan.apply(spikes, weights, decay, episode_start, state)
        return integrated, integrated[-1]
    drive = (spikes * weights.view(-1, 1, 1)).sum(1)
    steps = []
    for t in range(len(drive)):
        state = decay * masked_reset(state, episode_start[t]) + drive[t]
        steps.append(state)
    return torch.stack(steps), state


class _LeakyScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, spikes: Tensor, weights: Tensor, decay: float, episode_start: Tensor, state: Tensor
    ) -> Tensor:
        ctx.K, ctx.weights, ctx.decay, ctx.starts = spikes.shape[1], weights.numpy(), decay, episode_start.numpy()
        T, _, B, N = spikes.shape
        integrated = spikes.new_empty(T, B, N)
        arrays = [tensor.detach().contiguous().numpy() for tensor in (spikes, state)]
        run_compiled(leaky_forward, arrays[0], ctx.weights, decay, ctx.starts, arrays[1], integrated.numpy())
        return integrated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        T, B, N = grad.shape
        gspikes, gstate = grad.new_empty(T, ctx.K, B, N), grad.new_empty(B, N)
        arrays = (ctx.weights, ctx.decay, ctx.starts, gspikes.numpy(), gstate.numpy())
        run_compiled(leaky_backward, grad.contiguous().numpy(), *arrays)
        return gspikes, None, None, None, gstate


@jit()
def leaky_forward(spikes, weights, decay, starts, state, integrated):  # type: ignore[no-untyped-def]
    """See :func:`leaky_scan`."""
    mode = flush_subnormals()
    T, K, B, N = spikes.shape
    decay, zero = weights.dtype.type(decay), weights.dtype.type(0)
    for t in range(T):
        old = integrated[t - 1] if t else state
        for r in range(B):
            for j in range(N):
                kept = zero if starts[t, r] else decay * old[r, j]
                drive = weights[0] * spikes[t, 0, r, j]
                for k in range(1, K):
                    drive += weights[k] * spikes[t, k, r, j]
                integrated[t, r, j] = kept + drive
    restore(mode)


@jit()
def leaky_backward(g, weights, decay, starts, gspikes, gstate):  # type: ignore[no-untyped-def]
    """Backward of ``leaky_forward``: sets ``gspikes`` and ``gstate``."""
    mode = flush_subnormals()
    T, K, B, N = gspikes.shape
    decay, zero = weights.dtype.type(decay), weights.dtype.type(0)
    gstate[:] = 0
    for t in range(T - 1, -1, -1):
        for r in range(B):
            for j in range(N):
                total = gstate[r, j] + g[t, r, j]
                for k in range(K):
                    gspikes[t, k, r, j] = weights[k] * total
                gstate[r, j] = zero if starts[t, r] else decay * total
    restore(mode)
