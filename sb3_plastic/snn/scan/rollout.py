"""Layers whose parameters stay for many steps: all of a rollout's step in one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.snn.scan import fused, memory
from sb3_plastic.snn.scan.kernels_rollout import network_at
from sb3_plastic.snn.scan.memory import block
from sb3_plastic.snn.scan.plans import forward_plan
from sb3_plastic.snn.scan.threads import PARALLEL_WORK
from sb3_plastic.snn.scan.types import LayerConfig, LayerParameters
from sb3_plastic.snn.state import LayerState

GIVEN = 24
"""Arrays that a layer is given, the first of its table; after them, what it makes."""

STATE, PARAMETERS = slice(3, 10), slice(10, GIVEN)
SPIKES, STATE_AFTER = GIVEN, slice(GIVEN + 1, GIVEN + 8)


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
        self._tables: np.ndarray  # those of the last step, with the states it returned as its incoming ones

    def __call__(
        self,
        x: Tensor,
        episode_start: Tensor,
        states: Sequence[LayerState],
        externals: Sequence[Tensor | None],
    ) -> tuple[list[Tensor], list[LayerState]]:
        """
        The same as :func:`sb3_plastic.snn.scan.plastic_scan`, layer by layer, bit for bit.

        :param x: inputs of the first layer, [T, K, B, M_in]
        :param episode_start: bool [T, B]
        :param states: states before the first step
        :param externals: external modulators, or None
        :return: spikes of each layer, [T, K, B, N], and the states after
        """
        K = x.shape[1]
        if K > 1 and x.stride(1) == 0:
            x = x[:, :1]
        modulators = [external for external in externals if external is not None]
        inputs = [x, *[episode_start] * len(states), *modulators]
        names = ["x", *["episode_start"] * len(states), *["external"] * len(modulators)]
        seen = [K, *(e is None for e in externals), *[(tensor.shape, tensor.dtype) for tensor in inputs]]
        if self._returned is not None and seen == self._checked[: len(seen)] and self._come_back(states):
            inputs = fused.readable(inputs, names)
            self._tables[self._inputs] = [tensor.data_ptr() for tensor in inputs]
            network_at(K, self._tables, *self._layers)
            return self._returned
        given = [tensor for state in states for tensor in state]
        seen += [(tensor.shape, tensor.dtype) for tensor in given]
        if seen != self._checked:
            self._plan(K, x, episode_start, states, externals)
            self._checked = seen
        if not self._together:
            return self._one_by_one(K, x, episode_start, states, externals)
        made = memory.empty((self._made.size,), x.dtype)
        inputs, given = fused.readable(inputs, names), fused.readable(given, LayerState._fields * len(states))
        tables = self._places.copy()
        tables[:, SPIKES:, 0] += made.data_ptr()
        tables[1:, 0, 0] = tables[:-1, SPIKES, 0]
        tables[self._inputs] = [tensor.data_ptr() for tensor in inputs]
        tables[:, STATE, 0] = np.reshape([tensor.data_ptr() for tensor in given], (len(states), -1))
        network_at(K, tables, *self._layers)

        # Views of one piece of memory by way of numpy: torch takes twice as long.
        array, trains, after = made.numpy(), [], []
        for layer, state in enumerate(states):
            first = layer * self._per_layer
            spikes, *new = (self._made.array(array, i) for i in range(first, first + 8))
            trains.append(torch.from_numpy(spikes))
            after.append(LayerState(*(torch.from_numpy(n) if n.size else s for n, s in zip(new, state, strict=True))))
        if self.in_place:
            self._returned, self._tables = (trains, after), tables
            tables[:, STATE, 0] = tables[:, STATE_AFTER, 0]
        return trains, after

    def _come_back(self, states: Sequence[LayerState]) -> bool:
        """Whether these are the states that were returned."""
        assert self._returned is not None
        return all(a is b for pair in zip(states, self._returned[1], strict=True) for a, b in zip(*pair, strict=True))

    def _one_by_one(self, K: int, x: Tensor, episode_start: Tensor, states: Any, externals: Any) -> Any:
        """By :func:`plastic_scan_fused`, which has threads, and the reference for layers without neurons."""
        x = x.expand(-1, K, -1, -1)
        trains, after = [], []
        for (config, p), state, external in zip(self.layers, states, externals, strict=True):
            x, state = fused.plastic_scan_fused(x, episode_start, state, p, config, external)
            trains.append(x)
            after.append(state)
        return trains, after

    def _plan(self, K: int, x: Tensor, episode_start: Tensor, states: Any, externals: Any) -> None:
        """Check the shapes, and lay down all that does not change from step to step."""
        dtype, n = x.dtype, len(states)
        kinds, shapes, parameters, made, work, empty = [], [], [], [], 0, False
        self._kept: list[Tensor] = []  # parameters, while their addresses are in use
        for (config, p), state, external in zip(self.layers, states, externals, strict=True):
            modulator = x.new_empty(*x.shape[0:3:2], 0) if external is None else external
            sizes = fused.layer_layout(config, (x, modulator, *state, *p, episode_start))
            plan = forward_plan(sizes, K, 0, dtype)
            kinds.append(fused.forward_kinds(config, 0, dtype))
            shapes.append(plan.shapes)
            made += [shape for part in (*plan.made, plan.work) for shape in part.shapes]
            addresses, kept = fused.parameter_addresses(sizes, fused.readable(p, p._fields), dtype)
            parameters.append(addresses)
            self._kept += kept
            empty |= 0 in (K, *sizes[:4], sizes.N)
            work += sizes.T * K * sizes.B * sizes.M * sizes.N
            x = x.new_empty(1).expand(sizes.T, K, sizes.B, sizes.N)
        self._together = work < PARALLEL_WORK and not empty
        self._made, self._per_layer = block(tuple(made), dtype), len(made) // n
        values = [fused.numbers(config, dtype) for config, _ in self.layers]
        self._layers = np.array(kinds, np.int64), np.array(values)

        # Where the arrays are: parameters, and, from the start of a step's memory, what the step makes.
        self._places = np.zeros((n, GIVEN + self._per_layer, 5), np.int64)
        self._places[:, :, 1:] = shapes
        self._places[:, PARAMETERS, 0] = parameters
        self._places[:, SPIKES:, 0] = self._made.offsets.reshape(n, -1)
        # Where those of the inputs belong: x, episode_start of each layer, external modulators.
        modulated = [i for i, external in enumerate(externals) if external is not None]
        self._inputs = (0, *range(n), *modulated), (0, *[1] * n, *[2] * len(modulated)), 0
