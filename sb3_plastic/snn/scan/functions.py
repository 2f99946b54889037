"""Rules and surrogates as compiled functions over all neurons of a layer, which the kernels call by address."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import torch
from numba import types

from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan.compile import OPTIONS
from sb3_plastic.snn.surrogate import SURROGATES

FLOATS: dict[torch.dtype, Any] = {torch.float32: types.float32, torch.float64: types.float64}


def _signature(n_arrays: int, dtype: torch.dtype) -> Any:
    return types.void(*[types.CPointer(FLOATS[dtype])] * n_arrays, types.intp)


@cache
def _rule_functions(local: Callable[..., Any], derivative: Callable[..., Any], dtype: torch.dtype) -> tuple[Any, Any]:
    local, derivative = numba.njit(**OPTIONS)(local), numba.njit(**OPTIONS)(derivative)

    @numba.cfunc(_signature(4, dtype), **OPTIONS)
    def local_of_all(y, theta, b, g, n):  # type: ignore[no-untyped-def]
        for j in range(n):
            b[j], g[j] = local(y[j], theta[j])

    @numba.cfunc(_signature(6, dtype), **OPTIONS)
    def derivative_of_all(y, theta, db_dy, db_dtheta, dg_dy, dg_dtheta, n):  # type: ignore[no-untyped-def]
        for j in range(n):
            db_dy[j], db_dtheta[j], dg_dy[j], dg_dtheta[j] = derivative(y[j], theta[j])

    return local_of_all, derivative_of_all


def rule_addresses(name: str, dtype: torch.dtype) -> tuple[int, int]:
    """
    A rule's functions, compiled. By function, not by name: a rule may be replaced under its name.

    :param name: a name in ``RULES``, not that of the static network, with a derivative
    :param dtype: float32 or float64
    :return: addresses of ``(y, theta, b, g, n)`` and ``(y, theta, db_dy, db_dtheta, dg_dy, dg_dtheta, n)``
    """
    rule = RULES[name]
    assert rule is not None
    assert rule.derivative is not None
    local, derivative = _rule_functions(rule.local, rule.derivative, dtype)
    return local.address, derivative.address


@cache
def _surrogate_function(derivative: Callable[..., Any], slope: float, dtype: torch.dtype) -> Any:
    derivative = numba.njit(**OPTIONS)(derivative)

    @numba.cfunc(_signature(2, dtype), **OPTIONS)
    def derivative_of_all(u, out, n):  # type: ignore[no-untyped-def]
        for j in range(n):
            out[j] = derivative(u[j], slope)

    return derivative_of_all


def surrogate_address(name: str, slope: float, dtype: torch.dtype) -> int:
    """
    :param name: a name in ``SURROGATES``
    :param slope: its slope
    :param dtype: float32 or float64
    :return: address of its derivative, ``(u, out, n)``
    """
    return _surrogate_function(SURROGATES[name], slope, dtype).address
