"""The state of a plastic spiking network: a value that is passed in and returned, never mutated.

Letters, here and throughout the package: ``B`` environments, ``T`` environment steps, ``K`` ticks of the network per
environment step, ``M`` inputs of a layer (presynaptic), ``N`` neurons of a layer (postsynaptic).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.errors import UserError


class LayerState(NamedTuple):
    """State of one layer, environment axis first. What a layer does not have is empty (a size of 0), never absent."""

    v: Tensor  # [B, N] membrane potentials
    z: Tensor  # [B, N] spikes of the last tick, 0 or 1
    x_trace: Tensor  # [B, M] presynaptic traces, [B, 0] in a static layer
    y_trace: Tensor  # [B, N] postsynaptic traces, [B, 0] in a static layer
    theta: Tensor  # [B, N] sliding threshold, [B, 0] unless the rule has one (bcm)
    h: Tensor  # [B, M, N] fast weights, [B, 0, 0] in a static layer
    e: Tensor  # [B, M, N] eligibility, [B, 0, 0] unless the modulation is retroactive


class SNNState(NamedTuple):
    """State of a whole network: what its encoder, its layers and its readout carry from one step to the next."""

    encoder: Tensor  # [B, 1] key of the encoder's random numbers (int64), [B, 0] if it draws none
    layers: tuple[LayerState, ...]
    readout: Tensor  # [B, N] filtered spikes, [B, 0] if the readout has no memory

    def tensors(self) -> tuple[Tensor, ...]:
        """The same state as a flat tuple, for buffers, ``predict`` and everything else that need not look inside."""
        return (self.encoder, *(tensor for layer in self.layers for tensor in layer), self.readout)

    @staticmethod
    def n_tensors(n_layers: int) -> int:
        """How many tensors the state of a network of so many layers has."""
        return 2 + n_layers * len(LayerState._fields)

    @classmethod
    def from_tensors(cls, tensors: Sequence[Tensor]) -> SNNState:
        """
        The inverse of :meth:`tensors`.

        :param tensors: ``2 + 7 * n_layers`` tensors
        :raises UserError: on any other number of tensors
        """
        size = len(LayerState._fields)
        n_layers, rest = divmod(len(tensors) - 2, size)
        if n_layers < 1 or rest:
            raise UserError(
                f"A state of {len(tensors)} tensors: expected 2 + {size} per layer, with at least one layer."
            )
        layers = tuple(LayerState(*tensors[1 + i * size : 1 + (i + 1) * size]) for i in range(n_layers))
        return cls(tensors[0], layers, tensors[-1])


def tensors_from_arrays(arrays: Sequence[np.ndarray], like: Sequence[Tensor], n_envs: int) -> tuple[Tensor, ...]:
    """
    A state that has been outside, among arrays, as tensors again.

    :param arrays: what ``predict`` returned, environment axis first
    :param like: a state of the same network, of any number of environments
    :param n_envs: number of environments that the arrays must have, B
    :return: tensors of the types, and on the devices, of ``like``
    :raises UserError: if it is a state of another network, or of another number of environments
    """
    shapes = [tuple(np.shape(array)) for array in arrays]
    expected = [(n_envs, *tensor.shape[1:]) for tensor in like]
    if shapes != expected:
        batch = {shape[:1] for shape in shapes}
        if len(shapes) == len(expected) and len(batch) == 1 and batch != {(n_envs,)}:
            what = f"a state of {shapes[0][0]} environment(s) with observations of {n_envs}"
        else:
            what = f"a state of shapes {shapes}, where {expected} are allowed"
        raise UserError(
            f"Got {what}. Pass back the state that predict() returned for these very environments, "
            "or None to start afresh."
        )
    return tuple(
        torch.as_tensor(array, dtype=tensor.dtype, device=tensor.device)
        for array, tensor in zip(arrays, like, strict=True)
    )


def masked_reset(value: Tensor, episode_start: Tensor) -> Tensor:
    """
    Zero the rows whose episode starts. ``where`` rather than a product: it clears NaN, and lets no gradient through.

    :param value: any tensor with the environment axis first, [B, ...]
    :param episode_start: bool [B], True where a new episode starts
    :return: ``value`` with those rows at zero
    """
    mask = episode_start.view(-1, *([1] * (value.ndim - 1)))
    return torch.where(mask, torch.zeros((), dtype=value.dtype, device=value.device), value)


def reset_layer(state: LayerState, episode_start: Tensor, keep_fast_weights: bool) -> LayerState:
    """
    What survives the start of an episode. This is the definition, which the fused kernels follow.

    Nothing does, unless ``keep_fast_weights``: then that which the synapses have learned is kept (fast weights,
    eligibility and sliding threshold), and only the fast variables start afresh (membranes, spikes, traces).

    :param state: the state before the step
    :param episode_start: bool [B]
    :param keep_fast_weights: for continual use over a lifetime of several episodes
    :return: the state from which the step begins
    """
    kept = ("theta", "h", "e") if keep_fast_weights else ()
    return LayerState(
        *(v if name in kept else masked_reset(v, episode_start) for name, v in zip(state._fields, state, strict=True))
    )
