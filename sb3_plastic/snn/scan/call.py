"""The record that crosses from Python to compiled code: sizes, flags and arrays of one layer, by name.

A step of a rollout takes the kernels some ten microseconds per layer: fewer than it takes to hand over and unpack a
hundred arrays one by one. So arrays cross as *entries* of a numpy structure: address, bytes from one row to the next,
shape of a row. In compiled code ``row(call.spikes, 0, number)`` is such an array, and ``rows(LayerState, call.state,
r, number)`` the state of row r, as a named tuple. Shapes are worked out here once per kind of call, and checked: in
compiled code a wrong shape is a wild pointer. Whoever calls a kernel keeps the memory alive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.snn.rules import Rule
from sb3_plastic.snn.scan.compile import rule_functions, surrogate_function
from sb3_plastic.snn.scan.reference import TENSORS, LayerConfig, LayerParameters, Sizes, sizes_of
from sb3_plastic.snn.scan.simd import padded
from sb3_plastic.snn.scan.tick import MODULATIONS, Start, Tick, Ticks, Walk, axes_of
from sb3_plastic.snn.state import LayerState

SEGMENT_TICKS = 4, 32
"""Ticks per segment, at least and at most, whose fast weights are held at once in the backward pass."""

SEGMENT_NUMBERS = 2**20
"""Fast weights per segment, if it has more than the fewest ticks: 4 MB in float32, about a second cache."""

NUMBERS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
Shape = tuple[int, ...]

# ----------------------------------------------------------------------------------------------------------- the record

_STATE = {"v": 1, "z": 1, "x_trace": 1, "y_trace": 1, "theta": 1, "h": 2, "e": 2}  # axes of a row
_STARTS = {name: 1 + _STATE[name] for name in Start._fields}
_PARAMETERS = {name: 2 if name in ("w", "alpha", "eta") else 1 for name in LayerParameters._fields}

_NUMBERS = (
    "T", "K", "B", "N", "modulation", "sliding", "keep_fast_weights", "detach_reset", "local", "derivative",
    "surrogate", "interval", "segment", "want_grho", "want_gx_trace", "want_gx",
)  # fmt: skip
"""Sizes (N without padding); flags; addresses of the rule's function, its derivative and the surrogate's; steps per
checkpoint interval, 0 to save nothing, and per segment; which gradients are wanted."""

_ARRAYS: dict[str, Any] = {
    "x": 4,  # given: [T, K or 1, B, M_in]
    "episode_start": 2,  # [T, B]
    "external": 3,  # [T, B, N or 1 or 0]
    "state": _STATE,
    "p": _PARAMETERS,
    "spikes": 4,  # made: [T, K, B, N]
    "out": _STATE,  # the outgoing state
    "saved_v": 3,  # for the backward pass, by row: membranes of all ticks, [T, K, N]
    "checkpoints": _STARTS,  # and the rest of the state at the start of each checkpoint interval after the first
    "gspikes": 4,  # gradients
    "gx": 4,
    "gexternal": 3,
    "gstate": _STATE,  # of the outgoing state, and on return of the incoming one
    "gp": _PARAMETERS,  # by group of rows
    "now": _STATE,  # workspaces, by thread: the state during the scan, where it is not in ``out``
    "g": _STATE,  # its gradient, where it is not in ``gstate``
    "starts": _STARTS,  # the same at the start of an interval's segments
    "tick": {name: len(axes) for name, axes in axes_of(Tick).items()},
    "ticks": {name: len(axes) for name, axes in axes_of(Ticks).items()},
    "walk": {name: len(axes) for name, axes in axes_of(Walk).items()},
}


def structure(arrays: Mapping[str, Any], integers: Sequence[str], numbers: Sequence[str], dtype: torch.dtype) -> Any:
    """
    :param arrays: entries by name: the axes of a row, or a group of entries by name
    :param integers: names of integers
    :param numbers: names of numbers of the layer's type, an even number of them
    :param dtype: that type
    :return: numpy's type of such a record, in whole words of 8 bytes
    """

    def entry(axes: Any) -> Any:
        if isinstance(axes, dict):
            return np.dtype([(name, entry(of)) for name, of in axes.items()])
        return np.dtype([("address", np.int64), ("stride", np.int64), ("shape", np.int64, (axes,))])

    fields = [(name, np.int64) for name in integers] + [(name, entry(axes)) for name, axes in arrays.items()]
    return np.dtype([*fields, *((name, NUMBERS[dtype]) for name in numbers)])


RECORDS = {dtype: structure(_ARRAYS, _NUMBERS, ("threshold", "h_max"), dtype) for dtype in NUMBERS}


def place(record: Any, name: str) -> int:
    """
    :param record: type of a record
    :param name: of an entry, such as ``x`` or ``state.h``
    :return: where its address stands, in words of 8 bytes
    """
    offset = 0
    for part in name.split("."):
        record, further = record.fields[part][:2]
        offset += further
    return offset // 8


def describe(record: np.ndarray, shapes: Mapping[str, Shape], stride: int = 0) -> None:
    """
    Set entries, but for their addresses.

    :param record: [1]
    :param shapes: of a row of each, by name
    :param stride: bytes from one row to the next
    """
    for name, shape in shapes.items():
        at = place(record.dtype, name)
        record.view(np.int64)[at + 1 : at + 2 + len(shape)] = stride, *shape


# --------------------------------------------------------------------------------------------------------------- memory


def empty(shape: Shape, dtype: torch.dtype) -> Tensor:
    """
    Every buffer without content comes from here, so that a test can poison it; and from torch, whose tensors begin at
    a multiple of 64 bytes. Arrays of numpy's own begin anywhere, and vector instructions then take 1.6 times as long.
    """
    return torch.empty(shape, dtype=dtype)


class Block(NamedTuple):
    """Arrays in one piece of memory, each from a multiple of the vectors' length: one allocation for a dozen."""

    shapes: dict[str, Shape]
    places: dict[str, slice]  # in numbers
    size: int  # of all, in numbers
    at: np.ndarray  # where their addresses stand in a record
    offsets: np.ndarray  # where they begin, in bytes

    def put(self, words: np.ndarray, memory: Tensor) -> None:
        """
        :param words: of a record, in which the addresses are set
        :param memory: of this block, [size] or several times that
        """
        words[self.at] = self.offsets + memory.data_ptr()

    def array(self, memory: np.ndarray, name: str) -> np.ndarray:
        """
        :param memory: of one or several of this block, [..., size]
        :param name: of an array
        :return: that array, a view, with the same leading axes
        """
        return memory[..., self.places[name]].reshape(*memory.shape[:-1], *self.shapes[name])


def block(shapes: Mapping[str, Shape], dtype: torch.dtype) -> Block:
    """
    :param shapes: of the arrays, by the names of their entries in the record
    :param dtype: type of number
    :return: where they lie
    """
    lengths = [math.prod(shape) for shape in shapes.values()]
    *starts, size = accumulate(map(padded, lengths), initial=0)
    places = {name: slice(start, start + n) for name, start, n in zip(shapes, starts, lengths, strict=True)}
    at = np.array([place(RECORDS[dtype], name) for name in shapes], np.int64)
    return Block(dict(shapes), places, size, at, np.array(starts, np.int64) * dtype.itemsize)


def readable(tensors: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    """
    :param tensors: any
    :param names: what they are called, for messages
    :return: the same numbers as compiled code reads them, in C order from their first address
    :raises ValueError: if one of them is not in the memory of the CPU
    """
    if any(map(Tensor.is_neg, tensors)):  # Views of complex numbers may have their sign still to come.
        tensors = [tensor.resolve_neg() for tensor in tensors]
    # Tensors that are traced, or known to be zeros, have no memory either.
    missing = [not tensor.is_cpu or not (tensor.data_ptr() or 0 in tensor.shape) for tensor in tensors]
    if any(missing):
        name, tensor = list(zip(names, tensors, strict=True))[missing.index(True)]
        raise ValueError(
            f"{name} is a {type(tensor).__name__} on {tensor.device}: the fused kernel reads the memory of the CPU. "
            "Move all tensors to one device, or use backend='reference'."
        )
    return [tensor.contiguous() for tensor in tensors]


GIVEN = (
    "x", "external", *(f"state.{name}" for name in LayerState._fields),
    *(f"p.{name}" for name in LayerParameters._fields), "episode_start",
)  # fmt: skip
"""Entries of the tensors that a scan is given, in the order of ``TENSORS``."""

OUTPUTS = ("spikes", *(f"out.{name}" for name in LayerState._fields))


def wide(shape: Shape) -> Shape:
    """
    :param shape: of an array whose last axis is gone through as vectors
    :return: the same, padded
    """
    return *shape[:-1], padded(shape[-1])


# ---------------------------------------------------------------------------------------------------------------- plans


def segments(sizes: Sizes) -> tuple[int, int]:
    """
    The fast weights are saved once per checkpoint interval. The interval is so long that they take at most 2 to 4
    (M + N) numbers per tick: memory grows with the neurons, not with the synapses.

    :param sizes: of a layer
    :return: steps per segment, segments per checkpoint interval
    """
    matrices = sizes.M * sizes.N * (sizes.plastic + sizes.retroactive)
    least, most = SEGMENT_TICKS
    segment = max(1, min(most, max(least, SEGMENT_NUMBERS // max(1, matrices))) // sizes.K)
    return segment, max(1, matrices // (2 * (sizes.M + sizes.N)) // (segment * sizes.K))


def _workspaces(sizes: Sizes, groups: Mapping[str, Any], L: int = 0, starts: int = 0) -> dict[str, Shape]:
    """
    :param sizes: of a layer
    :param groups: the kinds of the workspaces, by their names in the record
    :param L: ticks per segment
    :param starts: how many states at the start of segments are kept
    :return: shapes of their arrays, by name
    """
    M, N, plastic, retroactive = padded(sizes.M), padded(sizes.N), sizes.plastic, sizes.retroactive
    lengths = {"M": M, "N": N, "M_p": M * plastic, "N_p": N * plastic, "N_e": N * retroactive, "L": L, "L+1": L + 1}
    lengths |= {"I_p": sizes.M * plastic, "I_e": sizes.M * retroactive}  # rows of matrices are not padded
    shapes: dict[str, Shape] = {}
    for group, kind in groups.items():
        if kind is LayerState:
            state = {name: wide(shape) for name, shape in sizes.state().items()} | {"theta": (N * plastic,)}
            shapes |= {f"{group}.{name}": shape for name, shape in state.items()}
        else:
            named = axes_of(kind).items()
            leading = (starts,) if kind is Start else ()
            shapes |= {f"{group}.{name}": (*leading, *(lengths[axis] for axis in axes)) for name, axes in named}
    return shapes


@dataclass(frozen=True, eq=False)
class ForwardPlan:
    """What does not change between calls of one kind. Records are handled as words: numpy copies field by field."""

    sizes: Sizes
    own_rows: dict[str, bool]  # of each parameter: whether each row of the batch has its own
    dtype: torch.dtype
    words: np.ndarray  # of the record, but for addresses
    given_at: np.ndarray  # where those of the tensors stand, in the order of ``GIVEN``
    outputs_at: np.ndarray  # of the outputs, in the order of ``OUTPUTS``
    outputs: tuple[Shape, ...]
    wide: Block  # copies of parameters that have to be padded
    saved: Block
    work: Block  # of one thread

    def give(self, words: np.ndarray, tensors: Sequence[Tensor]) -> list[Tensor]:
        """
        :param words: of a record, in which the addresses of the tensors are set
        :param tensors: what a scan is given, in the order of ``GIVEN``
        :return: what has to be kept as long as the record is in use
        """
        tensors = readable(tensors, TENSORS)
        words[self.given_at] = [tensor.data_ptr() for tensor in tensors]
        if not self.wide.size:
            return tensors
        memory = empty((self.wide.size,), self.dtype)
        array = memory.numpy()
        array.fill(0)
        for name in self.wide.shapes:
            given = tensors[GIVEN.index(name)].detach().numpy()
            self.wide.array(array, name)[..., : given.shape[-1]] = given
        self.wide.put(words, memory)
        return [*tensors, memory]


@lru_cache(maxsize=256)
def forward_plan(
    config: LayerConfig,
    rule: Rule | None,
    surrogate: Any,
    K: int,
    save: bool,
    shapes: tuple[torch.Size, ...],
    dtypes: tuple[torch.dtype, ...],
) -> ForwardPlan:
    """
    :param config: of the layer
    :param rule: what its name stands for
    :param surrogate: likewise
    :param K: ticks per step
    :param save: whether a backward pass will follow
    :param shapes: of the tensors, in the order of ``GIVEN``
    :param dtypes: likewise
    :return: the plan of such calls
    """
    sizes, own_rows = sizes_of(config, rule, K, shapes, dtypes)
    dtype, T, B, N = dtypes[0], sizes.T, sizes.B, sizes.N
    record, spikes = np.zeros(1, RECORDS[dtype]), (T, K, B, N)
    segment, count = segments(sizes)
    interval = segment * count if save else 0
    record["T"], record["K"], record["B"], record["N"] = T, K, B, N
    record["modulation"], record["sliding"] = MODULATIONS[config.modulation], sizes.sliding
    record["keep_fast_weights"], record["detach_reset"] = config.keep_fast_weights, config.detach_reset
    record["threshold"], record["h_max"] = config.threshold, config.h_max
    record["interval"], record["segment"] = interval, segment
    record["surrogate"] = surrogate_function(surrogate, config.slope, dtype).address
    if rule is not None:
        local, derivative = rule_functions(rule.local, rule.derivative, dtype)
        record["local"], record["derivative"] = local.address, derivative.address

    describe(record, {"x": (T, sizes.K_x, B, sizes.M_in), "episode_start": (T, B), "external": (T, B, sizes.E)})
    describe(record, {"spikes": spikes})
    for name, shape in sizes.state().items():
        describe(record, {f"state.{name}": shape, f"out.{name}": shape}, math.prod(shape) * dtype.itemsize)
    uneven = {}
    for name, shape in sizes.parameters().items():
        rows, row = (B if own_rows[name] else 1), wide(shape)
        describe(record, {f"p.{name}": row}, math.prod(row) * dtype.itemsize if own_rows[name] else 0)
        if row != shape and 0 not in shape:
            uneven[f"p.{name}"] = (rows, *row)
    checkpoints = (T - 1) // interval if save else 0
    saved = {f"checkpoints.{name}": (checkpoints, *wide(sizes.state()[name])) for name in Start._fields}
    saved["saved_v"] = (T if save else 0, K, padded(N))
    for name, shape in saved.items():
        describe(record, {name: shape}, math.prod(shape) * dtype.itemsize)
    work = block(_workspaces(sizes, {"now": LayerState, "tick": Tick}), dtype)
    describe(record, work.shapes, work.size * dtype.itemsize)
    return ForwardPlan(
        sizes, own_rows, dtype, record.view(np.int64),
        given_at=np.array([place(record.dtype, name) for name in GIVEN], np.int64),
        outputs_at=np.array([place(record.dtype, name) for name in OUTPUTS], np.int64),
        outputs=(spikes, *((B, *shape) for shape in sizes.state().values())),
        wide=block(uneven, dtype),
        saved=block({name: (B, *shape) for name, shape in saved.items()}, dtype),
        work=work,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class BackwardPlan:
    """The same for a backward pass, whose record has the addresses of its forward pass as well."""

    words: np.ndarray
    forward_at: np.ndarray  # where those of the forward pass stand
    gspikes_at: int
    zeros: Block  # gradients that begin at 0 or at what comes in
    gp: Block  # of the parameters, of one group
    gx: Block
    work: Block


@lru_cache(maxsize=256)
def backward_plan(
    plan: ForwardPlan, has_gspikes: bool, has_gstate: tuple[bool, ...], want_grho: bool, want_gx_trace: bool,
    want_gx: bool,
) -> BackwardPlan:  # fmt: skip
    """
    :param plan: of the forward pass
    :param has_gspikes: whether the gradient of the spikes comes in
    :param has_gstate: of the seven tensors of the state, whether their gradients come in or are wanted
    :param want_grho: whether that of rho is wanted
    :param want_gx_trace: whether that of x_trace is needed
    :param want_gx: whether that of x is
    :return: the plan of such calls
    """
    sizes, dtype = plan.sizes, plan.dtype
    record = plan.words.copy().view(RECORDS[dtype])
    record["want_grho"], record["want_gx_trace"], record["want_gx"] = want_grho, want_gx_trace, want_gx
    gspikes, gexternal = (sizes.T, sizes.K, sizes.B, sizes.N), (sizes.T, sizes.B, sizes.E)
    gx = (sizes.T, sizes.K_x, sizes.B, sizes.M_in) if want_gx else (0, 0, 0, 0)
    gstate = {
        f"gstate.{name}": shape if has else (0,) * len(shape)
        for (name, shape), has in zip(sizes.state().items(), has_gstate, strict=True)
    }
    gp = block({f"gp.{name}": wide(shape) for name, shape in sizes.parameters().items()}, dtype)
    segment, count = segments(sizes)
    starts = min(count, (sizes.T - 1) // segment + 1) - 1
    groups = {"now": LayerState, "g": LayerState, "starts": Start, "tick": Tick, "ticks": Ticks, "walk": Walk}
    shapes = _workspaces(sizes, groups, min(segment, sizes.T) * sizes.K, starts)
    shapes |= {"now.h": (0, 0), "now.e": (0, 0)}  # They are in ``ticks``.
    work = block(shapes, dtype)
    describe(record, {"gspikes": gspikes, "gx": gx, "gexternal": gexternal})
    for name, shape in gstate.items():
        describe(record, {name: shape}, math.prod(shape) * dtype.itemsize)
    for part in (gp, work):
        describe(record, part.shapes, part.size * dtype.itemsize)
    zeros = {"gexternal": gexternal} | {name: (sizes.B, *shape) for name, shape in gstate.items()}
    return BackwardPlan(
        record.view(np.int64), np.concatenate((plan.given_at, plan.saved.at)), place(record.dtype, "gspikes"),
        zeros=block(zeros if has_gspikes else zeros | {"gspikes": gspikes}, dtype),
        gp=gp, gx=block({"gx": gx}, dtype), work=work,
    )  # fmt: skip
