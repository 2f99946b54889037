"""Memory of the fused kernels: many arrays in one allocation, known to compiled code by addresses and shapes."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.snn.scan.simd import padded

Shape = tuple[int, ...]


def empty(shape: Shape, dtype: torch.dtype) -> Tensor:
    """
    Every buffer without content comes from here, so that a test can poison it; and from torch, whose tensors begin at
    a multiple of 64 bytes. Arrays of numpy's own begin anywhere, and vector instructions then take 1.6 times as long.
    """
    return torch.empty(shape, dtype=dtype)


class Block(NamedTuple):
    """Arrays in one piece of memory, each from a multiple of the vectors' length: one allocation for a dozen."""

    shapes: tuple[Shape, ...]
    places: tuple[tuple[int, int], ...]  # from, to, in numbers
    offsets: np.ndarray  # in bytes
    size: int  # of all, in numbers

    def addresses(self, memory: Tensor) -> list[int]:
        """
        :param memory: of this block, [size]
        :return: where the arrays begin
        """
        return (self.offsets + memory.data_ptr()).tolist()

    def array(self, memory: np.ndarray, i: int) -> np.ndarray:
        """
        :param memory: of one or several of this block, [..., size]
        :param i: number of an array
        :return: that array, a view, with the same leading axes
        """
        start, end = self.places[i]
        return memory[..., start:end].reshape(*memory.shape[:-1], *self.shapes[i])


@lru_cache(maxsize=1024)
def block(shapes: tuple[Shape, ...], dtype: torch.dtype) -> Block:
    """
    :param shapes: of the arrays
    :param dtype: type of number
    :return: where they lie
    """
    lengths = [math.prod(shape) for shape in shapes]
    *starts, size = accumulate(map(padded, lengths), initial=0)
    places = tuple((start, start + n) for start, n in zip(starts, lengths, strict=True))
    return Block(shapes, places, np.array(starts, np.int64) * dtype.itemsize, size)


@lru_cache(maxsize=1024)
def shape_table(shapes: tuple[Shape, ...]) -> np.ndarray:
    """
    :param shapes: of arrays of up to 4 axes
    :return: the same as int64 [arrays, 4], as compiled code takes them
    """
    return np.array([(*shape, *[1] * (4 - len(shape))) for shape in shapes], np.int64)
