"""
A step of a whole network in one compiled call, for tensors given by their addresses.

A step of a rollout takes the kernels some ten microseconds per layer, fewer than it takes to wrap two dozen tensors as
arrays. So they are wrapped in compiled code, in no time. The kernels are those that training uses, bit for bit.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numba
from numba import types
from numba.extending import intrinsic

from sb3_plastic.ops.kernels import forward, jit
from sb3_plastic.ops.kernels_static import static_forward


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
def state_at(a, sizes, like):
    """The seven tensors of a state, at seven addresses."""
    B, N, M_p, N_p, N_s, M_r, N_r = sizes[2], sizes[6], sizes[7], sizes[8], sizes[9], sizes[10], sizes[11]
    return (
        array_at(a[0], (B, N), like), array_at(a[1], (B, N), like), array_at(a[2], (B, M_p), like),
        array_at(a[3], (B, N_p), like), array_at(a[4], (B, N_s), like), array_at(a[5], (B, M_p, N_p), like),
        array_at(a[6], (B, M_r, N_r), like),
    )  # fmt: skip


@jit(forceinline=True)
def parameters_at(a, rows, lengths, M, M_p, like):
    """The fourteen parameters, with their ``rows`` and the ``lengths`` of their last axes."""
    return (
        array_at(a[0], (rows[0], M, lengths[0]), like), array_at(a[1], (rows[1], lengths[1]), like),
        array_at(a[2], (rows[2], lengths[2]), like), array_at(a[3], (rows[3], M_p, lengths[3]), like),
        array_at(a[4], (rows[4], M_p, lengths[4]), like), array_at(a[5], (rows[5], lengths[5]), like),
        array_at(a[6], (rows[6], lengths[6]), like), array_at(a[7], (rows[7], lengths[7]), like),
        array_at(a[8], (rows[8], lengths[8]), like), array_at(a[9], (rows[9], lengths[9]), like),
        array_at(a[10], (rows[10], lengths[10]), like), array_at(a[11], (rows[11], lengths[11]), like),
        array_at(a[12], (rows[12], lengths[12]), like), array_at(a[13], (rows[13], lengths[13]), like),
    )  # fmt: skip


@jit()
def network_at(K, sizes, rows, lengths, parameters, kinds, tensors, numbers):
    """
    Layers one after the other, without saving anything; the spikes of each are the input of the next. By layer:

    :param sizes: a ``Layout`` without its rows
    :param rows, lengths, parameters: by parameter
    :param kinds: address of the rule, 0 in a static layer; modulation; whether fast weights are kept
    :param tensors: addresses of x, external, the seven of the state; of the spikes and the state to be set; of working
        memory, [2, M], [9, N] and [M, N] twice, all padded; and of episode_start
    :param numbers: threshold, h_max
    """
    for layer in range(sizes.shape[0]):
        size, a, like = sizes[layer], tensors[layer], numbers[layer, 0]
        T, K_x, B, M_in, E, M, N = size[0], size[1], size[2], size[3], size[4], size[5], size[6]
        M_p, N_p, N_s, M_r, N_r = size[7], size[8], size[9], size[10], size[11]
        wide_m, wide_n = lengths[layer, 14], lengths[layer, 0]
        x, starts = array_at(a[0], (T, K_x, B, M_in), like), array_at(a[21], (T, B), True)
        state, out = state_at(a[2:9], size, like), state_at(a[10:17], size, like)
        p = parameters_at(parameters[layer], rows[layer], lengths[layer], M, M_p, like)
        spikes = array_at(a[9], (T, K, B, N), like)
        work_m, work_n = array_at(a[17], (2, wide_m), like), array_at(a[18], (9, wide_n), like)
        if kinds[layer, 0] == 0:
            saved_v = array_at(0, (B, 0, K, wide_n), like)
            static_forward(0, B, K, False, x, starts, state, out, p, spikes, saved_v, like, work_m, work_n)
            continue
        work_h, work_e = array_at(a[19], (M_p, wide_n), like), array_at(a[20], (M_r, wide_n), like)
        saved = (
            array_at(0, (B, 0, K, wide_n), like), array_at(0, (0, B, M_p), like), array_at(0, (0, B, N_p), like),
            array_at(0, (0, B, N_s), like), array_at(0, (0, B, M_p, N_p), like), array_at(0, (0, B, M_r, N_r), like),
        )  # fmt: skip
        forward(
            0, B, K, 0, x, starts, array_at(a[1], (T, B, E), like), state, out, p, spikes, saved, kinds[layer, 0],
            kinds[layer, 1], kinds[layer, 2] != 0, like, numbers[layer, 1], work_m, work_n, work_h, work_e
        )  # fmt: skip
