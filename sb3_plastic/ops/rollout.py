"""Layers whose parameters stay for many steps: all of a rollout's step in one compiled call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.ops import fused
from sb3_plastic.ops.functions import rule_addresses
from sb3_plastic.ops.kernels_rollout import network_at
from sb3_plastic.ops.layout import Layout
from sb3_plastic.ops.simd import padded
from sb3_plastic.ops.threads import PARALLEL_WORK, run_compiled
from sb3_plastic.ops.types import LayerConfig, LayerParameters
from sb3_plastic.state import LayerState

Place = tuple[int, int, tuple[int, ...]]  # from, to, shape
STATE, STATE_AFTER = slice(2, 9), slice(10, 17)
"""Columns of the addresses that ``network_at`` takes."""

NUMBERS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}


class FusedLayers:
    """
    Layers one after the other, on the fused kernel and without gradients. Parameters are read when this is made, and
    kept: make another when they have changed.

    :param layers: configuration and parameters of each
    :param in_place: overwrite what was returned, spikes and states, when these very states come back: for a caller who
        keeps none of them. A step then takes half of the memory, and nothing is checked or laid out again
    """

    def __init__(self, layers: Sequence[tuple[LayerConfig, LayerParameters]], in_place: bool = False) -> None:
        self.layers = layers
        self.in_place = in_place
        self._checked: list[Any] = []
        self._returned: tuple[list[Tensor], list[LayerState]] | None = None
        self._addresses: np.ndarray  # those of the last step, with the states it returned as its incoming ones

    def __call__(
        self,
        x: Tensor,
        episode_start: Tensor,
        states: Sequence[LayerState],
        externals: Sequence[Tensor | None],
    ) -> tuple[list[Tensor], list[LayerState]]:
        """
        The same as :func:`sb3_plastic.ops.plastic_scan`, layer by layer, bit for bit.

        :param x: inputs of the first layer, [T, K, B, M_in]
        :param episode_start: bool [T, B]
        :param states: states before the first step
        :param externals: external modulators, or None
        :return: spikes of each layer, [T, K, B, N], and the states after
        """
        K = x.shape[1]
        if K > 1 and x.stride(1) == 0:
            x = x[:, :1]
        inputs = [x, *(e for e in externals if e is not None), *[episode_start] * len(states)]
        seen = [K, *(e is None for e in externals), *[(tensor.shape, tensor.dtype) for tensor in inputs]]
        if self._returned is not None and seen == self._checked[: len(seen)] and self._come_back(states):
            inputs = [tensor.contiguous() for tensor in inputs]
            self._addresses[self._inputs] = [tensor.data_ptr() for tensor in inputs]
            run_compiled(network_at, K, *self._tables, self._addresses, self._numbers)
            return self._returned
        given = [tensor for state in states for tensor in state]
        seen += [(tensor.shape, tensor.dtype) for tensor in given]
        if seen != self._checked:
            self._plan(K, x, episode_start, states, externals)
            self._checked = seen
        if not self._small:
            return self._one_by_one(K, x, episode_start, states, externals)
        memory = fused.empty((self._size,), x.dtype)
        inputs, given = [tensor.contiguous() for tensor in inputs], [tensor.contiguous() for tensor in given]
        addresses = self._offsets + memory.data_ptr()
        addresses[self._inputs] = [tensor.data_ptr() for tensor in inputs]
        addresses[:, STATE] = np.reshape([tensor.data_ptr() for tensor in given], (len(states), -1))
        run_compiled(network_at, K, *self._tables, addresses, self._numbers)

        # Views of one piece of memory by way of numpy: torch takes twice as long.
        array, tensor_of = memory.numpy(), torch.from_numpy
        trains = [tensor_of(array[start:end].reshape(shape)) for start, end, shape in self._spikes]
        after = []
        for state, places in zip(states, self._states, strict=True):
            new = list(state)  # what is empty stays
            for i, start, end, shape in places:
                new[i] = tensor_of(array[start:end].reshape(shape))
            after.append(LayerState._make(new))
        if self.in_place:
            self._returned, self._addresses = (trains, after), addresses
            addresses[:, STATE] = addresses[:, STATE_AFTER]
        return trains, after

    def _come_back(self, states: Sequence[LayerState]) -> bool:
        """Whether these are the states that were returned."""
        assert self._returned is not None
        return all(a is b for pair in zip(states, self._returned[1], strict=True) for a, b in zip(*pair, strict=True))

    def _one_by_one(self, K: int, x: Tensor, episode_start: Tensor, states: Any, externals: Any) -> Any:
        """By :func:`plastic_scan_fused`, which has threads."""
        x = x.expand(-1, K, -1, -1)
        trains, after = [], []
        for (config, p), state, external in zip(self.layers, states, externals, strict=True):
            x, state = fused.plastic_scan_fused(x, episode_start, state, p, config, external)
            trains.append(x)
            after.append(state)
        return trains, after

    def _plan(self, K: int, x: Tensor, episode_start: Tensor, states: Any, externals: Any) -> None:
        """Check the shapes, and lay down all that does not change from step to step."""
        dtype = x.dtype
        sizes: list[Layout] = []
        kinds, lengths, offsets = [], [], []
        self._arrays: list[tuple[np.ndarray, ...]] = []  # padded parameters, kept while their addresses are in use
        self._spikes: list[Place] = []
        self._states: list[list[tuple[int, int, int, tuple[int, ...]]]] = []
        self._size = 0
        for i, ((config, p), state, external) in enumerate(zip(self.layers, states, externals, strict=True)):
            modulator = x.new_empty(*x.shape[0:3:2], 0) if external is None else external
            layer = fused.layer_layout(config, (x, modulator, *state, *p, episode_start))
            sizes.append(layer)
            arrays = fused.parameter_arrays(layer, p, dtype)
            self._arrays.append(arrays)
            rule = 0 if config.rule == "none" else rule_addresses(config.rule, dtype)[0]
            kinds.append((rule, fused.MODULATION[config.modulation], config.keep_fast_weights))
            wide_m, wide_n = padded(layer.M), padded(layer.N)
            lengths.append((*(array.shape[-1] for array in arrays), wide_m))
            spikes = self._place(layer.T, K, layer.B, layer.N)
            places = [None if 0 in shape else self._place(*shape) for shape in layer.state_shapes()]
            matrices = (layer.M_plastic, wide_n), (layer.M_retroactive, wide_n)
            work = [self._place(*shape) for shape in ((2, wide_m), (9, wide_n), *matrices)]
            # As ``network_at`` takes them: x, external, STATE, spikes, STATE_AFTER, working memory, episode_start.
            row = [self._spikes[-1] if i else None, None, *[None] * 7, spikes, *places, *work, None]
            offsets.append([0 if place is None else place[0] * x.element_size() for place in row])
            self._spikes.append(spikes)
            self._states.append([(i, *place) for i, place in enumerate(places) if place is not None])
            x = x.new_empty(1).expand(layer.T, K, layer.B, layer.N)

        # Where the addresses of inputs belong: x, external modulators, episode_start of each layer.
        columns = len(offsets[0])
        inputs = [0, *(i * columns + 1 for i, external in enumerate(externals) if external is not None)]
        inputs += [i * columns - 1 for i in range(1, len(states) + 1)]
        self._inputs = np.unravel_index(inputs, (len(offsets), columns))
        self._offsets = np.array(offsets, np.int64)
        self._small = sum(size.T * K * size.B * size.M * size.N for size in sizes) < PARALLEL_WORK
        addresses = [[array.ctypes.data for array in arrays] for arrays in self._arrays]
        tables = [size[:-1] for size in sizes], [size.rows for size in sizes], lengths, addresses, kinds
        self._tables = tuple(np.array(table, np.int64) for table in tables)
        thresholds = [(config.threshold, config.h_max) for config, _ in self.layers]
        self._numbers = np.array(thresholds, NUMBERS[dtype])

    def _place(self, *shape: int) -> Place:
        """Room in the memory of a step, from a multiple of the vectors' length."""
        start, n = self._size, math.prod(shape)
        self._size += padded(n)
        return start, start + n, shape
