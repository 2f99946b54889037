"""The fused form of the plastic scan for the CPU: one compiled call per layer, forward and backward.

The kernels are in :mod:`sb3_plastic.ops.kernels`; here is what surrounds them: which layers they serve, the border
between tensors and arrays, and autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sb3_plastic.ops import kernels, kernels_backward, kernels_static
from sb3_plastic.ops.functions import FLOATS, rule_addresses, surrogate_address
from sb3_plastic.ops.layout import NAMES, Layout, layout
from sb3_plastic.ops.simd import padded
from sb3_plastic.ops.threads import run, threads_for
from sb3_plastic.ops.types import LayerConfig, LayerParameters, check_choice
from sb3_plastic.plasticity import RULES
from sb3_plastic.state import LayerState

BACKENDS = ("auto", "reference", "fused")
MODULATION = {
    "none": kernels.MODULATION_NONE,
    "simple": kernels.MODULATION_SIMPLE,
    "retroactive": kernels.MODULATION_RETROACTIVE,
}

SEGMENT_TICKS = 4, 32
"""Ticks per segment, at least and at most, whose fast weights are held at once in the backward pass."""

SEGMENT_NUMBERS = 2**20
"""Fast weights per segment, if it has more than the fewest ticks: 4 MB in float32, about a second cache."""

GROUPS = 16
"""Rows share the sums of their parameters' gradients in so many groups, whatever the number of threads."""


def refusal(config: LayerConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    """
    :param config: what kind of layer it is
    :param device: where its tensors are
    :param dtype: their type
    :return: why the fused kernel does not serve such a layer; None if it does
    """
    rule = RULES[config.rule]
    if device.type != "cpu":
        return f"the fused kernel runs on the CPU, the tensors are on {device}"
    if dtype not in FLOATS:
        return f"the fused kernel computes in float32 or float64, the tensors are {dtype}"
    if config.neuron != "lif":
        return f"the fused kernel has the neuron 'lif' built in, the layer's is {config.neuron!r}"
    if rule is not None and rule.derivative is None:
        return f"the fused kernel needs the derivative of the rule, and {config.rule!r} has none"
    return None


def resolve_backend(backend: str, config: LayerConfig, device: torch.device, dtype: torch.dtype) -> str:
    """
    What ``backend`` means for a layer. ``auto`` is the fused kernel where it serves, else the reference.

    :param backend: ``auto``, ``fused`` or ``reference``
    :param config: what kind of layer it is
    :param device: where its tensors are
    :param dtype: their type
    :return: ``fused`` or ``reference``
    :raises ValueError: on ``fused`` where the fused kernel does not serve, with the reason
    """
    check_choice("backend", backend, BACKENDS)
    if backend == "reference":
        return "reference"
    reason = refusal(config, device, dtype)
    if reason is None:
        return "fused"
    if backend == "fused":
        raise ValueError(f"backend='fused': {reason}. Use backend='reference', or 'auto' to let it choose.")
    return "reference"


def plastic_scan_fused(
    x: Tensor,
    episode_start: Tensor,
    state: LayerState,
    p: LayerParameters,
    config: LayerConfig,
    external: Tensor | None = None,
) -> tuple[Tensor, LayerState]:
    """See :func:`sb3_plastic.ops.plastic_scan`."""
    K = x.shape[1]
    if K > 1 and x.stride(1) == 0 and not (x.requires_grad and x.is_leaf):
        # An input that stays for the whole step is read, and differentiated, once per step: its first tick gets the
        # gradient of all, which comes to the same since the view's own gradient is summed over them.
        x = x[:, :1]
    if external is None:
        external = x.new_empty(*x.shape[0:3:2], 0)
    tensors = (x, external, *state, *p, episode_start)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        # Not *state as one argument: autograd does not look into tuples, and would drop the gradients silently.
        spikes, *new = _Scan.apply(config, K, *tensors)
    else:
        spikes, *new = _forward(config, K, tensors, save=False)[0]
    return spikes, LayerState(*new)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, config: LayerConfig, K: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs, ctx.arrays, ctx.saved = _forward(config, K, tensors)
        ctx.config, ctx.K = config, K
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors  # Asked for first: this complains if one has been changed in place.
        wanted = ctx.needs_input_grad[2:-1]
        return (None, None, *_backward(ctx.config, ctx.K, tensors, ctx.arrays, ctx.saved, grads, wanted), None)


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """
    Every buffer without content comes from here, so that a test can poison it; and from torch, whose tensors begin at
    a multiple of 64 bytes. Arrays of numpy's own begin anywhere, and vector instructions then take 1.6 times as long.
    """
    return torch.empty(shape, dtype=dtype)


def together(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, zero: bool = False) -> tuple[np.ndarray, ...]:
    """
    Arrays in one piece of memory, each from a multiple of the vectors' length: one allocation in place of a dozen.
    Zeros are filled in by this thread: torch's own, once woken, go on spinning for milliseconds and slow the kernels.
    """
    sizes = [math.prod(shape) for shape in shapes]
    ends = [0, *accumulate(padded(size) for size in sizes)]
    memory = empty((ends[-1],), dtype).numpy()
    if zero:
        memory.fill(0)
    parts = zip(shapes, sizes, ends, strict=False)
    return tuple(memory[start : start + size].reshape(shape) for shape, size, start in parts)


class _Arrays(NamedTuple):
    """The tensors of a call as arrays."""

    sizes: Layout
    x: np.ndarray  # [T, K or 1, B, M_in]
    starts: np.ndarray  # [T, B]
    external: np.ndarray  # [T, B, N or 1 or 0]
    state: tuple[np.ndarray, ...]
    p: tuple[np.ndarray, ...]  # each with a leading axis of size B or 1, and padded


def _pad(array: np.ndarray) -> np.ndarray:
    """Zeros after the last axis, for the kernels' vectors."""
    *shape, n = array.shape
    if n == padded(n):
        return array
    wide = np.zeros((*shape, padded(n)), array.dtype)
    wide[..., :n] = array
    return wide


def _arrays(config: LayerConfig, tensors: Sequence[Tensor]) -> _Arrays:
    sizes = layer_layout(config, tensors)
    x, external, *state = (tensor.detach().contiguous().numpy() for tensor in tensors[:9])
    starts = tensors[-1].contiguous().numpy()
    state = [s.astype(x.dtype, copy=False) for s in state]  # What is empty may be of any type.
    p = parameter_arrays(sizes, tensors[9:-1], tensors[0].dtype)
    return _Arrays(sizes, x, starts, external, tuple(state), p)


def parameter_arrays(sizes: Layout, p: Sequence[Tensor], dtype: torch.dtype) -> tuple[np.ndarray, ...]:
    """
    :param sizes: of the layer
    :param p: its fourteen parameters
    :param dtype: type of number
    :return: as the kernels take them, with a leading axis of size B or 1, and padded
    """
    arrays = []
    for tensor, rows, shape in zip(p, sizes.rows, sizes.parameter_shapes(), strict=True):
        tensor = torch.empty(0, dtype=dtype) if 0 in shape else tensor.detach().contiguous()
        arrays.append(_pad(tensor.numpy().reshape(rows, *shape)))
    return tuple(arrays)


def layer_layout(config: LayerConfig, tensors: Sequence[Tensor]) -> Layout:
    """
    :param config: what kind of layer it is
    :param tensors: x, external, state, parameters, episode_start
    :return: the sizes
    """
    return layout(config, RULES[config.rule], tuple(t.shape for t in tensors), tuple(t.dtype for t in tensors))


def _segments(sizes: Layout, K: int) -> tuple[int, int]:
    """
    Steps per segment, and segments per stretch. The forward pass saves the fast weights at the start of each stretch,
    which is long enough that they come to some 2 (M + N) numbers per tick at most, as neurons do, not synapses.
    """
    matrices = sizes.M_plastic * sizes.N_plastic + sizes.M_retroactive * sizes.N_retroactive
    least, most = SEGMENT_TICKS
    segment = max(1, min(most, max(least, SEGMENT_NUMBERS // max(1, matrices))) // K)
    return segment, max(1, matrices // (2 * (sizes.M + sizes.N)) // (segment * K))


def _work(threads: int, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> list[tuple[np.ndarray, ...]]:
    """Working memory of the kernels: by thread, arrays of these shapes, without content."""
    return list(zip(*together([(threads, *shape) for shape in shapes], dtype), strict=True))


def _matrices(sizes: Layout) -> list[tuple[int, int]]:
    """Shapes of working memory for fast weights and eligibility."""
    return [(sizes.M_plastic, padded(sizes.N_plastic)), (sizes.M_retroactive, padded(sizes.N_retroactive))]


def _forward(
    config: LayerConfig, K: int, tensors: Sequence[Tensor], save: bool = True
) -> tuple[tuple[Tensor, ...], _Arrays, tuple[np.ndarray, ...]]:
    """Spikes and state, and what the backward pass needs."""
    arrays = _arrays(config, tensors)
    sizes, x, starts, external, state, p = arrays
    T, B, M, N, dtype = sizes.T, sizes.B, sizes.M, sizes.N, tensors[0].dtype
    outputs = tuple(empty(shape, dtype) for shape in ((T, K, B, N), *sizes.state_shapes()))
    spikes, *out = (tensor.numpy() for tensor in outputs)
    saved_v = empty((B, T * save, K, padded(N)), dtype).numpy()
    threads = threads_for(T * K * B * M * N, B)
    work = _work(threads, [(2, padded(M)), (9, padded(N)), *_matrices(sizes)], dtype)
    threshold, h_max = x.dtype.type(config.threshold), x.dtype.type(config.h_max)
    if config.rule == "none":
        saved: tuple[np.ndarray, ...] = (saved_v,)
        run(kernels_static.static_forward_queue, threads, B, lambda i: (
            K, save, x, starts, state, tuple(out), p, spikes, saved_v, threshold, *work[i][:2]
        ))  # fmt: skip
    else:
        segment, stretch = _segments(sizes, K)
        period = segment * stretch if save else 0
        stretches = (T - 1) // period if save else 0
        shapes = [(*shape[:-1], padded(shape[-1])) for shape in sizes.state_shapes()[2:]]
        saved = (saved_v, *together([(stretches, *shape) for shape in shapes], dtype))
        local, _ = rule_addresses(config.rule, dtype)
        run(kernels.forward_queue, threads, B, lambda i: (
            K, period, x, starts, external, state, tuple(out), p, spikes, saved, local, MODULATION[config.modulation],
            config.keep_fast_weights, threshold, h_max, *work[i]
        ))  # fmt: skip
    return outputs, arrays, saved


def _backward(
    config: LayerConfig,
    K: int,
    tensors: Sequence[Tensor],
    arrays: _Arrays,
    saved: tuple[np.ndarray, ...],
    grads: tuple[Tensor | None, ...],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of x, external, state and parameters."""
    sizes, x, starts, external, state, p = arrays
    T, B, M, N, dtype = sizes.T, sizes.B, sizes.M, sizes.N, tensors[0].dtype
    groups = min(B, GROUPS) if max(sizes.rows) == 1 else B
    spikes_shape = (T, K, B, N) if grads[0] is None else (0,)
    shapes = [spikes_shape, external.shape]
    for array, grad, want in zip(state, grads[1:], wanted[2:9], strict=True):
        shapes.append(array.shape if want or grad is not None else (len(array), *[0] * (array.ndim - 1)))
    gspikes, gexternal, *rest = together(shapes, dtype, zero=True)
    gstate = tuple(rest)
    gp = together([(groups, *array.shape[1:]) for array in p], dtype)
    if grads[0] is not None:
        gspikes = np.ascontiguousarray(grads[0].numpy())
    for array, grad in zip(gstate, grads[1:], strict=True):
        if grad is not None:
            array[...] = grad.numpy()
    want_gx = config.recurrent or wanted[NAMES.index("x")]
    want_gx_trace = want_gx or wanted[NAMES.index("x_trace")] or wanted[NAMES.index("lam_pre")]
    gx = empty(x.shape, dtype).numpy()
    surrogate = surrogate_address(config.surrogate, config.slope, dtype)
    threshold, h_max = x.dtype.type(config.threshold), x.dtype.type(config.h_max)
    threads = threads_for(T * K * B * M * N, groups)
    segment, stretch = _segments(sizes, K)
    L, wide_m, wide_n = min(segment, T) * K, padded(M), padded(N)
    if config.rule == "none":
        work = _work(threads, [(L, wide_m), (L, wide_n), (1, wide_m), (7, wide_n)], dtype)
        run(kernels_static.static_backward_queue, threads, groups, lambda i: (
            K, x, starts, state, p, saved[0], surrogate, config.detach_reset, threshold, gspikes, gstate, want_gx, gx,
            gp, *work[i]
        ))  # fmt: skip
    else:
        local, derivative = rule_addresses(config.rule, dtype)
        kept = min(stretch, (T - 1) // segment + 1) - 1
        shapes = [*((L + 1, *shape) for shape in _matrices(sizes)), (3, L, wide_m), (15, L, wide_n)]
        shapes += [(4, wide_m), (18, wide_n), *_matrices(sizes)]
        shapes += [(kept, *shape[1:-1], padded(shape[-1])) for shape in sizes.state_shapes()[2:]]
        work = _work(threads, shapes, dtype)
        run(kernels_backward.backward_queue, threads, groups, lambda i: (
            K, segment, stretch, x, starts, external, state, p, saved, local, derivative, surrogate,
            MODULATION[config.modulation], config.keep_fast_weights, config.detach_reset, threshold, h_max, gspikes,
            gstate, wanted[NAMES.index("rho")], want_gx_trace, want_gx, gx, gexternal, gp, *work[i][:8], work[i][8:]
        ))  # fmt: skip
        gp[7][...] *= -1  # so far it is the gradient of 1 - rho
    gradients: list[np.ndarray | None] = [gx, gexternal, *gstate]
    for g, rows, shape, want in zip(gp, sizes.rows, sizes.parameter_shapes(), wanted[9:], strict=True):
        # A parameter that serves all rows has the sum of theirs.
        gradients.append((g if rows > 1 or not g.size else g.sum(0))[..., : shape[-1]] if want else None)
    return [
        torch.from_numpy(gradient).reshape(tensor.shape) if want and gradient is not None and gradient.size else None
        for gradient, tensor, want in zip(gradients, tensors[:-1], wanted, strict=True)
    ]
