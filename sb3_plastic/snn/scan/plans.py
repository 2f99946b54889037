"""Where the kernels find their arrays: the shapes of all, worked out once for all calls of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.snn.scan import memory
from sb3_plastic.snn.scan.layout import Layout
from sb3_plastic.snn.scan.memory import Block, Shape, block, shape_table
from sb3_plastic.snn.scan.simd import padded

SEGMENT_TICKS = 4, 32
"""Ticks per segment, at least and at most, whose fast weights are held at once in the backward pass."""

SEGMENT_NUMBERS = 2**20
"""Fast weights per segment, if it has more than the fewest ticks: 4 MB in float32, about a second cache."""


def segments(sizes: Layout, K: int) -> tuple[int, int]:
    """
    The forward pass saves the fast weights at the start of each stretch, which is long enough that they come to
    2 to 4 (M + N) numbers per tick at most, as many as neurons need, not synapses.

    :param sizes: of the layer
    :param K: ticks per step
    :return: steps per segment, segments per stretch
    """
    matrices = sizes.M_plastic * sizes.N_plastic + sizes.M_retroactive * sizes.N_retroactive
    least, most = SEGMENT_TICKS
    segment = max(1, min(most, max(least, SEGMENT_NUMBERS // max(1, matrices))) // K)
    return segment, max(1, matrices // (2 * (sizes.M + sizes.N)) // (segment * K))


class Plan(NamedTuple):
    """The arrays of a kernel, in the order in which it takes them."""

    shapes: np.ndarray  # int64 [arrays, 4]
    made: tuple[Block, ...]  # what a call makes
    work: Block  # working memory of one thread, the last arrays

    def tables(self, known: list[int], threads: int, dtype: torch.dtype) -> tuple[np.ndarray, Tensor]:
        """
        :param known: addresses of all arrays but the working memory
        :param threads: how many threads
        :param dtype: type of number
        :return: addresses and shapes of all, for each thread, [threads, arrays, 5]; and the working memory, to be kept
            meanwhile
        """
        n, size = len(known), self.work.size
        work = memory.empty((threads * size,), dtype)
        tables = np.empty((threads, len(self.shapes), 5), np.int64)
        tables[:, :, 1:] = self.shapes
        tables[:, :n, 0] = known
        for i in range(threads):
            tables[i, n:, 0] = self.work.offsets + (work.data_ptr() + i * size * dtype.itemsize)
        return tables, work


def _parameters(sizes: Layout, rows: Sequence[int]) -> list[Shape]:
    """Shapes of padded parameters with leading axes of these sizes."""
    return [(n, *shape[:-1], padded(shape[-1])) for n, shape in zip(rows, sizes.parameter_shapes(), strict=True)]


@lru_cache(maxsize=256)
def uneven_parameters(sizes: Layout, dtype: torch.dtype) -> tuple[tuple[int, ...], Block]:
    """
    :param sizes: of a layer
    :param dtype: type of number
    :return: which of its fourteen parameters have to be padded, and room for them
    """
    wide = _parameters(sizes, sizes.rows)
    shapes = enumerate(zip(sizes.parameter_shapes(), wide, strict=True))
    uneven = tuple(i for i, (shape, padded_shape) in shapes if shape[-1] != padded_shape[-1] and 0 not in shape)
    return uneven, block(tuple(wide[i] for i in uneven), dtype)


def _given(sizes: Layout) -> tuple[Shape, ...]:
    """Shapes of what a kernel is given: x, episode_start, the external modulator, state, parameters."""
    T, K_x, B, M_in, E = sizes[:5]
    return (T, K_x, B, M_in), (T, B), (T, B, E), *sizes.state_shapes(), *_parameters(sizes, sizes.rows)


def _states(sizes: Layout, *axes: int) -> list[Shape]:
    """Shapes of what is kept of states, padded: all but membranes and spikes."""
    return [(*axes, *shape[1:-1], padded(shape[-1])) for shape in sizes.state_shapes()[2:]]


def _matrices(sizes: Layout) -> list[Shape]:
    """Shapes of working memory for fast weights and eligibility."""
    return [(sizes.M_plastic, padded(sizes.N_plastic)), (sizes.M_retroactive, padded(sizes.N_retroactive))]


@lru_cache(maxsize=256)
def forward_plan(sizes: Layout, K: int, period: int, dtype: torch.dtype) -> Plan:
    """
    It makes spikes and state, and what the backward pass needs: the membranes of all ticks, and the state once per
    period.

    :param sizes: of the layer
    :param K: ticks per step
    :param period: steps from one saved state to the next; 0 to save nothing
    :param dtype: type of number
    :return: arrays of :func:`sb3_plastic.snn.scan.kernels.forward`
    """
    T, B, M, N = sizes.T, sizes.B, sizes.M, sizes.N
    outputs = block(((T, K, B, N), *sizes.state_shapes()), dtype)
    membranes = block(((B, T if period else 0, K, padded(N)),), dtype)
    states = block(tuple(_states(sizes, (T - 1) // period if period else 0, B)), dtype)
    work = block(((2, padded(M)), (9, padded(N)), *_matrices(sizes)), dtype)
    made = outputs, membranes, states
    shapes = *_given(sizes), *(shape for part in (*made, work) for shape in part.shapes)
    return Plan(shape_table(shapes), made, work)


@lru_cache(maxsize=256)
def backward_plan(
    sizes: Layout,
    K: int,
    segment: int,
    stretch: int,
    has_gspikes: bool,
    has_gstate: tuple[bool, ...],
    want_gx: bool,
    dtype: torch.dtype,
) -> Plan:
    """
    It makes gradients: from zeros those of the external modulator, of the state and, if none comes in, of the spikes;
    those of the parameters, once per group; and that of x.

    :param sizes: of the layer
    :param K: ticks per step
    :param segment: steps
    :param stretch: segments
    :param has_gspikes: whether the gradient of the spikes comes in
    :param has_gstate: of the seven tensors of the state, whether their gradients come in or are wanted
    :param want_gx: whether the gradient of x is wanted
    :param dtype: type of number
    :return: arrays of :func:`sb3_plastic.snn.scan.kernels_backward.backward_queue`
    """
    T, K_x, B, M_in, E, M, N = sizes[:7]
    gstate = [
        shape if has else (B, *[0] * (len(shape) - 1))
        for shape, has in zip(sizes.state_shapes(), has_gstate, strict=True)
    ]
    gspikes = (T, K, B, N)
    zeros = block(((T, B, E), *gstate, *[gspikes] * (not has_gspikes)), dtype)
    gp = block(tuple(_parameters(sizes, [1] * len(sizes.rows))), dtype)
    gx = block(((T, K_x, B, M_in) if want_gx else (0, 0, 0, 0),), dtype)
    _, membranes, states = forward_plan(sizes, K, segment * stretch, dtype).made
    L, wide_m, wide_n = min(segment, T) * K, padded(M), padded(N)
    kept = min(stretch, (T - 1) // segment + 1) - 1
    work = [(3, L, wide_m), (15, L, wide_n), (4, wide_m), (18, wide_n)]
    work += [*((L + 1, *shape) for shape in _matrices(sizes)), *_matrices(sizes), *_states(sizes, kept)]
    gradients = gspikes, *gx.shapes, *zeros.shapes[:8], *gp.shapes
    shapes = *_given(sizes), *membranes.shapes, *states.shapes, *gradients, *work
    return Plan(shape_table(shapes), (zeros, gp, gx), block(tuple(work), dtype))
