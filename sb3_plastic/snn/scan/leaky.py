"""A leaky integrator over a sequence of spikes, compiled for the CPU: a loop of tensors costs more than a layer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor
from torch.autograd.function import once_differentiable

from sb3_plastic.snn.scan import call
from sb3_plastic.snn.scan.compile import jit
from sb3_plastic.snn.scan.simd import flush_subnormals, restore_mode, row
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
    :raises ValueError: on shapes that do not fit together, or tensors on different devices
    """
    T, K, B, N = spikes.shape
    expected = {"weights": (weights, (K,)), "episode_start": (episode_start, (T, B)), "state": (state, (B, N))}
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}: expected {shape}.")
    # The kernel has no gradient of its weights: a readout may learn them.
    learned = torch.is_grad_enabled() and weights.requires_grad
    if spikes.is_cpu and spikes.dtype in _RECORDS and spikes.numel() and not learned:
        weights, state, episode_start = weights.to(spikes.dtype), state.to(spikes.dtype), episode_start.bool()
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
    return torch.stack(steps) if steps else drive, state


class _LeakyScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, spikes: Tensor, weights: Tensor, decay: float, episode_start: Tensor, state: Tensor
    ) -> Tensor:
        ctx.K, ctx.weights, ctx.decay, ctx.episode_start = spikes.shape[1], weights, decay, episode_start
        return _integrate(spikes, weights, decay, episode_start, state)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        T, B, N = grad.shape
        gspikes, gstate = call.empty((T, ctx.K, B, N), grad.dtype), call.empty((B, N), grad.dtype)
        _run(leaky_backward, ctx.decay, gspikes, ctx.weights, ctx.episode_start, gstate, grad)
        return gspikes, None, None, None, gstate


def _integrate(spikes: Tensor, weights: Tensor, decay: float, episode_start: Tensor, state: Tensor) -> Tensor:
    T, _, B, N = spikes.shape
    integrated = call.empty((T, B, N), spikes.dtype)
    _run(leaky_forward, decay, spikes, weights, episode_start, state, integrated)
    return integrated


_AXES = {"spikes": 4, "weights": 1, "episode_start": 2, "state": 2, "integrated": 3}
_RECORDS = {dtype: call.structure(_AXES, (), ("decay", "unused"), dtype) for dtype in call.NUMBERS}


@lru_cache(maxsize=256)
def _record(dtype: torch.dtype, decay: float, shapes: tuple[torch.Size, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The words of the record of a call, but for addresses; and where these stand."""
    record = np.zeros(1, _RECORDS[dtype])
    record["decay"] = decay
    call.describe(record, dict(zip(_AXES, shapes, strict=True)))
    return record.view(np.int64), np.array([call.place(record.dtype, name) for name in _AXES], np.int64)


def _run(kernel: Any, decay: float, *tensors: Tensor) -> None:
    """Call a kernel with one record of tensors, in the order of ``_AXES``; what it sets is in C order as it is."""
    given = call.readable(tensors, list(_AXES))
    template, at = _record(given[0].dtype, decay, tuple([tensor.shape for tensor in given]))
    words = template.copy()
    words[at] = [tensor.data_ptr() for tensor in given]
    kernel(np.frombuffer(words, _RECORDS[given[0].dtype]))


@jit()
def leaky_forward(calls: Array) -> None:
    """See :func:`leaky_scan`. The inner loops have nothing but sums in them, so that they become vectors."""
    mode = flush_subnormals()
    call, decay = calls[0], calls[0].decay
    spikes, state, integrated = row(call.spikes, 0, decay), row(call.state, 0, decay), row(call.integrated, 0, decay)
    weights, episode_start = row(call.weights, 0, decay), row(call.episode_start, 0, True)
    T, K, B, N = spikes.shape
    for t in range(T):
        before = integrated[t - 1] if t else state
        for r in range(B):
            before_r, now = before[r], integrated[t, r]
            now[:] = 0
            for k in range(K):
                weight, spikes_k = weights[k], spikes[t, k, r]
                for j in range(N):
                    now[j] += weight * spikes_k[j]
            if not episode_start[t, r]:
                for j in range(N):
                    now[j] += decay * before_r[j]
    restore_mode(mode)


@jit()
def leaky_backward(calls: Array) -> None:
    """Backward of ``leaky_forward``, with gradients in the places of ``spikes`` and ``state``, which it sets."""
    mode = flush_subnormals()
    call, decay = calls[0], calls[0].decay
    gspikes, gstate, g = row(call.spikes, 0, decay), row(call.state, 0, decay), row(call.integrated, 0, decay)
    weights, episode_start = row(call.weights, 0, decay), row(call.episode_start, 0, True)
    T, K, B, N = gspikes.shape
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
            if episode_start[t, r]:
                total[:] = 0
            else:
                for j in range(N):
                    total[j] *= decay
    restore_mode(mode)
