"""The fused form of the plastic scan for the CPU: one compiled call per layer, forward and backward.

The kernels are in :mod:`sb3_plastic.ops.kernels`; here is what surrounds them: which layers they serve, the border
between tensors and arrays, autograd, and threads.

Threads are Python's, one per part of the batch: the kernels release the interpreter's lock. :func:`set_num_threads` or
the variable ``NUMBA_NUM_THREADS`` sets their number. Against the compiler's own parallel loops this needs no threading
layer, survives a fork at any time, costs nothing in processes that never use it, and compiles in a third of the time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import types
from torch import Tensor
from torch.autograd.function import once_differentiable

from sb3_plastic.ops import kernels, kernels_backward, kernels_rollout
from sb3_plastic.ops.layout import Layout, layout
from sb3_plastic.ops.types import LayerConfig, LayerParameters, check_choice
from sb3_plastic.plasticity import RULES
from sb3_plastic.state import LayerState
from sb3_plastic.surrogate import SURROGATES

BACKENDS = ("auto", "reference", "fused")
FLOATS: dict[torch.dtype, Any] = {torch.float32: types.float32, torch.float64: types.float64}
NUMBERS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
MODULATION = {
    "none": kernels.MODULATION_NONE,
    "simple": kernels.MODULATION_SIMPLE,
    "retroactive": kernels.MODULATION_RETROACTIVE,
}

SEGMENT_TICKS = 16
"""Ticks per segment, whose fast weights are held at once in the backward pass: 16 layers of 105 x 64 are 430 kB."""

PARALLEL_WORK = 500_000
"""Synapses x ticks x rows, some 0.1 ms, from which a second thread is worth its start, some 30 microseconds."""

logger = logging.getLogger(__name__)


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
        spikes, *new = _step(config, K, tensors)
    return spikes, LayerState(*new)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, config: LayerConfig, K: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs, ctx.saved = _forward(config, K, tensors)
        ctx.config, ctx.K = config, K
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None, None, *_backward(ctx.config, ctx.K, ctx.saved_tensors, ctx.saved, grads), None)


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """
    Every buffer without content comes from here, so that a test can poison it; and from torch, whose tensors begin at
    a multiple of 64 bytes. Arrays of numpy's own begin anywhere, and vector instructions then take 1.6 times as long.
    """
    return torch.empty(shape, dtype=dtype)


def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    """Filled by this thread: torch's own threads, once woken, go on spinning for milliseconds and slow the kernels."""
    array = empty(shape, dtype).numpy()
    array.fill(0)
    return array


class _Arrays(NamedTuple):
    """The tensors of a call as arrays."""

    x: np.ndarray  # [T, K or 1, B, M_in]
    starts: np.ndarray  # [T, B]
    external: np.ndarray  # [T, B, N or 1 or 0]
    state: tuple[np.ndarray, ...]
    p: tuple[np.ndarray, ...]  # each with a leading axis of size B or 1; [1, 0, ...] what is empty


def _layout(config: LayerConfig, tensors: Sequence[Tensor]) -> Layout:
    return layout(config, RULES[config.rule], tuple(t.shape for t in tensors), tuple(t.dtype for t in tensors))


def _arrays(config: LayerConfig, tensors: Sequence[Tensor]) -> _Arrays:
    sizes = _layout(config, tensors)
    x, external, *state = (tensor.detach().contiguous().numpy() for tensor in tensors[:9])
    starts = tensors[-1].contiguous().numpy()
    state = [s.astype(x.dtype, copy=False) for s in state]  # What is empty may be of any type.
    p = []
    for tensor, rows, shape in zip(tensors[9:-1], sizes.rows, sizes.parameter_shapes(), strict=True):
        unused = 0 in shape
        array = np.empty(0, x.dtype) if unused else tensor.detach().contiguous().numpy()
        p.append(array.reshape(rows, *shape))
    return _Arrays(x, starts, external, tuple(state), tuple(p))


def _segment(K: int) -> int:
    """Steps per segment."""
    return max(1, SEGMENT_TICKS // K)


def _step(config: LayerConfig, K: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Spikes and state, and no gradients: by addresses, see :mod:`sb3_plastic.ops.kernels_rollout`."""
    *sizes, rows = sizes_and_rows = _layout(config, tensors)
    dtype, (T, _, B, _, _, M, N, *_) = tensors[0].dtype, sizes
    threads = _threads(T * K * B * M * N, B)
    shapes = ((T, K, B, N), *sizes_and_rows.state_shapes(), (threads, M), (threads, 6, N))
    outputs = [empty(shape, dtype) for shape in shapes]
    tensors = [tensor if tensor.is_contiguous() else tensor.contiguous() for tensor in tensors]
    addresses = tuple([tensor.data_ptr() for tensor in (*tensors, *outputs)])
    layer, number = (K, tuple(sizes), rows, addresses), NUMBERS[dtype]
    threshold, h_max = number(config.threshold), number(config.h_max)
    if config.rule == "none":
        _run(kernels_rollout.static_forward_at, threads, B, lambda i: (i, *layer, threshold))
    else:
        learning = (_rule(config.rule, dtype)[0], MODULATION[config.modulation], config.keep_fast_weights)
        _run(kernels_rollout.forward_at, threads, B, lambda i: (i, *layer, *learning, threshold, h_max))
    return outputs[:-2]


def _forward(
    config: LayerConfig, K: int, tensors: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], tuple[np.ndarray, ...]]:
    """Spikes and state, and what the backward pass needs."""
    x, starts, external, state, p = _arrays(config, tensors)
    T, B, (M, N), dtype = x.shape[0], x.shape[2], p[0].shape[1:], tensors[0].dtype
    outputs = tuple(empty(shape, dtype) for shape in ((T, K, B, N), *(array.shape for array in state)))
    spikes, *out = (tensor.numpy() for tensor in outputs)
    saved_v = empty((B, T, K, N), dtype).numpy()
    threads = _threads(T * K * B * M * N, B)
    work_m, work_n = empty((threads, M), dtype).numpy(), empty((threads, 6, N), dtype).numpy()
    threshold, h_max = x.dtype.type(config.threshold), x.dtype.type(config.h_max)
    if config.rule == "none":
        saved: tuple[np.ndarray, ...] = (saved_v,)
        _run(kernels.static_forward, threads, B, lambda i: (
            K, True, x, starts, state, tuple(out), p, spikes, saved_v, threshold, work_m[i], work_n[i, 0]
        ))  # fmt: skip
    else:
        segment = _segment(K)
        saved = (saved_v, *(empty(((T - 1) // segment, *array.shape), dtype).numpy() for array in state[2:]))
        local, _ = _rule(config.rule, dtype)
        _run(kernels.forward, threads, B, lambda i: (
            K, segment, x, starts, external, state, tuple(out), p, spikes, saved, local, MODULATION[config.modulation],
            config.keep_fast_weights, threshold, h_max, work_m[i], tuple(work_n[i]),
        ))  # fmt: skip
    return outputs, saved


def _backward(
    config: LayerConfig,
    K: int,
    tensors: Sequence[Tensor],
    saved: tuple[np.ndarray, ...],
    grads: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """Gradients of x, external, state and parameters."""
    x, starts, external, state, p = _arrays(config, tensors)
    T, B, (M, N), dtype = x.shape[0], x.shape[2], p[0].shape[1:], tensors[0].dtype
    gspikes = zeros((T, K, B, N), dtype) if grads[0] is None else np.ascontiguousarray(grads[0].numpy())
    gstate = tuple(zeros(array.shape, dtype) for array in state)
    for array, grad in zip(gstate, grads[1:], strict=True):
        if grad is not None:
            array[...] = grad.numpy()
    gx, gexternal = empty(x.shape, dtype).numpy(), zeros(external.shape, dtype)
    gp = tuple(zeros((B, *array.shape[1:]), dtype) for array in p)
    surrogate = _surrogate(config.surrogate, config.slope, dtype)
    threshold, h_max = x.dtype.type(config.threshold), x.dtype.type(config.h_max)
    threads = _threads(T * K * B * M * N, B)
    if config.rule == "none":
        work_m, work_n = empty((threads, 2, 1, M), dtype).numpy(), empty((threads, 5, 1, N), dtype).numpy()
        _run(kernels_backward.static_backward, threads, B, lambda i: (
            K, x, starts, state, p, saved[0], surrogate, config.detach_reset, threshold, gspikes, gstate, gx,
            gp, tuple(work_m[i]), tuple(work_n[i]),
        ))  # fmt: skip
    else:
        segment = _segment(K)
        L = min(segment, T) * K
        M_e, N_e = state[6].shape[1:]
        local, derivative = _rule(config.rule, dtype)
        h, e = empty((threads, L + 1, M, N), dtype).numpy(), empty((threads, L + 1, M_e, N_e), dtype).numpy()
        ticks_m, work_m = empty((threads, 3, L, M), dtype).numpy(), empty((threads, 2, M), dtype).numpy()
        ticks_n, work_n = empty((threads, 12, L, N), dtype).numpy(), empty((threads, 14, N), dtype).numpy()
        _run(kernels_backward.backward, threads, B, lambda i: (
            K, segment, x, starts, external, state, p, saved, local, derivative, surrogate,
            MODULATION[config.modulation], config.keep_fast_weights, config.detach_reset, threshold, h_max, gspikes,
            gstate, gx, gexternal, gp, (h[i], e[i]), tuple(ticks_m[i]), tuple(ticks_n[i]), tuple(work_m[i]),
            tuple(work_n[i]),
        ))  # fmt: skip
    # A parameter that serves all rows has the sum of theirs.
    gp = tuple(g if tensor.shape == g.shape else g.sum(0) for g, tensor in zip(gp, tensors[9:-1], strict=True))
    gradients = [torch.from_numpy(array) for array in (gx, gexternal, *gstate, *gp)]
    return [g if g.shape == tensor.shape else None for g, tensor in zip(gradients, tensors[:-1], strict=True)]


# ------------------------------------------------------------------- rules and surrogates as functions of a whole layer


@cache
def _rule_functions(local: Callable[..., Any], derivative: Callable[..., Any], dtype: torch.dtype) -> tuple[Any, Any]:
    vector = types.Array(FLOATS[dtype], 1, "C")
    local, derivative = numba.njit(local), numba.njit(derivative)

    @numba.cfunc(types.void(*[vector] * 4))
    def local_of_all(y, theta, b, g):  # type: ignore[no-untyped-def]
        for j in range(y.shape[0]):
            b[j], g[j] = local(y[j], theta[j])

    @numba.cfunc(types.void(*[vector] * 6))
    def derivative_of_all(y, theta, db_dy, db_dtheta, dg_dy, dg_dtheta):  # type: ignore[no-untyped-def]
        for j in range(y.shape[0]):
            db_dy[j], db_dtheta[j], dg_dy[j], dg_dtheta[j] = derivative(y[j], theta[j])

    return local_of_all, derivative_of_all


def _rule(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """A rule's functions, compiled. By function, not by name: a rule may be replaced under its name."""
    rule = RULES[name]
    assert rule is not None
    assert rule.derivative is not None
    return _rule_functions(rule.local, rule.derivative, dtype)


@cache
def _surrogate_function(derivative: Callable[..., Any], slope: float, dtype: torch.dtype) -> Any:
    vector = types.Array(FLOATS[dtype], 1, "C")
    derivative = numba.njit(derivative)

    @numba.cfunc(types.void(vector, vector))
    def derivative_of_all(u, out):  # type: ignore[no-untyped-def]
        for j in range(u.shape[0]):
            out[j] = derivative(u[j], slope)

    return derivative_of_all


def _surrogate(name: str, slope: float, dtype: torch.dtype) -> Any:
    return _surrogate_function(SURROGATES[name], slope, dtype)


# -------------------------------------------------------------------------------------------------------------- threads

# Numba's convention: the variable NUMBA_NUM_THREADS, or all cores.
_num_threads: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
_pool: ThreadPoolExecutor | None = None
_compiled: set[Any] = set()  # kernels that have run in this process


def get_num_threads() -> int:
    """How many threads the kernels use at most."""
    return _num_threads


def set_num_threads(n: int) -> None:
    """
    Torch's threads and these are set apart: networks this small want one of torch's, and all cores for the kernels.

    :param n: how many threads the kernels may use, above 0; results do not depend on it
    :raises ValueError: if it is not above 0
    """
    global _num_threads
    if n < 1:
        raise ValueError(f"The kernels need at least 1 thread, got {n}.")
    _num_threads = n


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # Threads do not survive a fork.


def _threads(work: int, B: int) -> int:
    return min(_num_threads, B) if work >= PARALLEL_WORK else 1


def _run(kernel: Any, threads: int, B: int, arguments: Callable[[int], tuple[Any, ...]]) -> None:
    """Call the kernel for all rows, a contiguous part of them on each thread."""
    if kernel not in _compiled:
        with _notice():
            kernel(0, 0, *arguments(0))  # no rows: it only compiles, or loads what was compiled before
        _compiled.add(kernel)
    if threads == 1:
        kernel(0, B, *arguments(0))
        return
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="plastic_scan")
    bounds = [i * B // threads for i in range(threads + 1)]
    futures = [_pool.submit(kernel, bounds[i], bounds[i + 1], *arguments(i)) for i in range(1, threads)]
    kernel(bounds[0], bounds[1], *arguments(0))
    for future in futures:
        future.result()


@contextmanager
def _notice() -> Iterator[None]:
    """Say so if a first call takes long."""
    message = "Compiling the fused kernels, once per machine and type of number: some ten seconds."
    timer = threading.Timer(1.0, logger.warning, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
