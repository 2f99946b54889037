"""
Arrays in compiled code, given by their addresses and shapes.

A step of a rollout takes the kernels some ten microseconds per layer, a small minibatch a few hundred: fewer than it
takes to wrap, hand over and unpack a hundred arrays one by one. So they come as one table, int64 [arrays, 5], of
addresses and shapes, and are wrapped in compiled code, in no time. Whoever calls a kernel keeps the memory.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.extending import intrinsic


@intrinsic
def pointer(typing_context, address, like):
    """An address as a pointer to numbers of the type of ``like``."""
    result = types.CPointer(like)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(address, like), generate


OPTIONS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}


def inline(function: Callable[..., Any]) -> Any:
    """For what is compiled as part of its callers, and never called from Python."""
    return numba.njit(**OPTIONS)(function)


@inline
def array_2(table, i, like, further=0):
    """The i-th array, or that so many bytes further on, in C order, of 2 axes."""
    return numba.carray(pointer(table[i, 0] + further, like), (table[i, 1], table[i, 2]))


@inline
def array_3(table, i, like, further=0):
    """Of 3 axes."""
    return numba.carray(pointer(table[i, 0] + further, like), (table[i, 1], table[i, 2], table[i, 3]))


@inline
def array_4(table, i, like):
    """Of 4 axes."""
    return numba.carray(pointer(table[i, 0], like), (table[i, 1], table[i, 2], table[i, 3], table[i, 4]))


@inline
def state_at(table, i, like):
    """A state, its first tensor being the i-th."""
    return (
        array_2(table, i, like), array_2(table, i + 1, like), array_2(table, i + 2, like), array_2(table, i + 3, like),
        array_2(table, i + 4, like), array_3(table, i + 5, like), array_3(table, i + 6, like),
    )  # fmt: skip


@inline
def parameters_at(table, i, like, further=0):
    """Parameters, likewise."""
    return (
        array_3(table, i, like, further), array_2(table, i + 1, like, further), array_2(table, i + 2, like, further),
        array_3(table, i + 3, like, further), array_3(table, i + 4, like, further),
        array_2(table, i + 5, like, further), array_2(table, i + 6, like, further),
        array_2(table, i + 7, like, further), array_2(table, i + 8, like, further),
        array_2(table, i + 9, like, further), array_2(table, i + 10, like, further),
        array_2(table, i + 11, like, further), array_2(table, i + 12, like, further),
        array_2(table, i + 13, like, further),
    )  # fmt: skip


@inline
def saved_at(table, i, like):
    """What the forward pass saves, likewise."""
    return (
        array_4(table, i, like), array_3(table, i + 1, like), array_3(table, i + 2, like), array_3(table, i + 3, like),
        array_4(table, i + 4, like), array_4(table, i + 5, like),
    )  # fmt: skip
