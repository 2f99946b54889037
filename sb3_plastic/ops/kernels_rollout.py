"""
The forward kernels for tensors given by their addresses.

One step of a rollout takes a kernel some ten microseconds, fewer than it takes to wrap two dozen tensors as arrays. So
they are wrapped in compiled code, in no time. The kernels are those that training uses, bit for bit.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numba
from numba import types
from numba.extending import intrinsic

from sb3_plastic.ops.kernels import forward, jit, static_forward


@intrinsic
def pointer(typing_context, address, like):
    """An address as a pointer to numbers of the type of ``like``."""
    result = types.CPointer(like)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(address, like), generate


@jit(forceinline=True)
def array_at(address, shape, like):
    """The array of that shape, in C order."""
    return numba.carray(pointer(address, like), shape)


@jit(forceinline=True)
def state_at(v, z, x_trace, y_trace, theta, h, e, sizes, like):
    """The seven tensors of a state."""
    _, _, B, _, _, _, N, M_p, N_p, N_s, M_r, N_r, _ = sizes
    return (
        array_at(v, (B, N), like), array_at(z, (B, N), like), array_at(x_trace, (B, M_p), like),
        array_at(y_trace, (B, N_p), like), array_at(theta, (B, N_s), like), array_at(h, (B, M_p, N_p), like),
        array_at(e, (B, M_r, N_r), like),
    )  # fmt: skip


@jit(forceinline=True)
def parameters_at(a, rows, sizes, like):
    """The fourteen parameters, at addresses 9 to 22."""
    _, _, _, _, _, M, N, M_p, N_p, N_s, _, N_r, N_m = sizes
    return (
        array_at(a[9], (rows[0], M, N), like), array_at(a[10], (rows[1], N), like), array_at(a[11], (rows[2], N), like),
        array_at(a[12], (rows[3], M_p, N_p), like), array_at(a[13], (rows[4], M_p, N_p), like),
        array_at(a[14], (rows[5], M_p), like), array_at(a[15], (rows[6], N_p), like),
        array_at(a[16], (rows[7], N_p), like), array_at(a[17], (rows[8], N_s), like),
        array_at(a[18], (rows[9], N_r), like), array_at(a[19], (rows[10], N_m), like),
        array_at(a[20], (rows[11], N_m), like), array_at(a[21], (rows[12], min(1, N_m)), like),
        array_at(a[22], (rows[13], N_m), like),
    )  # fmt: skip


@jit()
def forward_at(
    first, last, part, K, sizes, rows, a, local, modulation, keep_fast_weights, threshold, h_max
):  # fmt: skip
    """
    :func:`sb3_plastic.ops.kernels.forward` without saving anything.

    :param part: the number of this part of the batch, each of which has its own working memory
    :param sizes: a ``Layout`` without its rows, ``rows`` those
    :param a: addresses of x, external, state, parameters, episode_start; of the spikes and the state to be set; and of
        working memory, [parts, M] and [parts, 6, N]
    """
    T, K_x, B, M_in, E, M, N, M_p, N_p, N_s, M_r, N_r, _ = sizes
    nothing = (
        array_at(0, (B, 0, K, N), h_max), array_at(0, (0, B, M_p), h_max), array_at(0, (0, B, N_p), h_max),
        array_at(0, (0, B, N_s), h_max), array_at(0, (0, B, M_p, N_p), h_max), array_at(0, (0, B, M_r, N_r), h_max),
    )  # fmt: skip
    work = array_at(a[33], (part + 1, 6, N), h_max)[part]
    forward(
        first, last, K, 0, array_at(a[0], (T, K_x, B, M_in), h_max), array_at(a[23], (T, B), True),
        array_at(a[1], (T, B, E), h_max), state_at(a[2], a[3], a[4], a[5], a[6], a[7], a[8], sizes, h_max),
        state_at(a[25], a[26], a[27], a[28], a[29], a[30], a[31], sizes, h_max), parameters_at(a, rows, sizes, h_max),
        array_at(a[24], (T, K, B, N), h_max), nothing, local, modulation, keep_fast_weights, threshold, h_max,
        array_at(a[32], (part + 1, M), h_max)[part], (work[0], work[1], work[2], work[3], work[4], work[5])
    )  # fmt: skip


@jit()
def static_forward_at(first, last, part, K, sizes, rows, a, threshold):
    """:func:`sb3_plastic.ops.kernels.static_forward` without saving anything; see :func:`forward_at`."""
    T, K_x, B, M_in, _, M, N, _, _, _, _, _, _ = sizes
    static_forward(
        first, last, K, False, array_at(a[0], (T, K_x, B, M_in), threshold), array_at(a[23], (T, B), True),
        state_at(a[2], a[3], a[4], a[5], a[6], a[7], a[8], sizes, threshold),
        state_at(a[25], a[26], a[27], a[28], a[29], a[30], a[31], sizes, threshold),
        parameters_at(a, rows, sizes, threshold), array_at(a[24], (T, K, B, N), threshold),
        array_at(0, (B, 0, K, N), threshold), threshold, array_at(a[32], (part + 1, M), threshold)[part],
        array_at(a[33], (part + 1, 6, N), threshold)[part, 0]
    )  # fmt: skip
