"""Compiled loops of the static network: the scan of a layer without fast weights, and its backward pass."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from sb3_plastic.snn.scan.arrays import array_2, array_3, array_4, parameters_at, state_at
from sb3_plastic.snn.scan.compile import jit, piece
from sb3_plastic.snn.scan.kernels import clear, copy, fire, gather, of_row, reset, static_currents
from sb3_plastic.snn.scan.passes_backward import (
    before,
    fire_backward,
    scatter,
    static_currents_backward,
    static_weights_backward,
)
from sb3_plastic.snn.scan.simd import flush_subnormals, restore, take


@piece
def static_forward(first, last, K, table, kinds, numbers):
    """Rows ``first`` to ``last`` of a layer; see :func:`sb3_plastic.snn.scan.kernels.forward`."""
    mode = flush_subnormals()
    threshold, save = numbers[0], kinds[3] != 0
    x, starts, state = array_4(table, 0, threshold), array_2(table, 1, True), state_at(table, 3, threshold)
    p, spikes, out = parameters_at(table, 10, threshold), array_4(table, 24, threshold), state_at(table, 25, threshold)
    saved_v = array_4(table, 32, threshold)
    work_m, work_n = array_2(table, 38, threshold), array_2(table, 39, threshold)
    T, K_x, M = x.shape[0], x.shape[1], p[0].shape[1]
    recurrent = x.shape[3] < M
    x_now, v, z, current = work_m[0], work_n[0], work_n[1], work_n[2]
    for r in range(first, last):
        w, b, beta = p[0][r % len(p[0])], p[1][r % len(p[1])], p[2][r % len(p[2])]
        copy(v, state[0][r])
        copy(z, state[1][r])
        for t in range(T):
            if starts[t, r]:
                reset(v)
                reset(z)
            for k in range(K):
                if k == 0 or K_x > 1 or recurrent:
                    gather(x[t, k % K_x, r], z, x_now[:M])
                    static_currents(w, x_now, current)
                fire(current, b, beta, threshold, v, z)
                copy(spikes[t, k, r], z)
                if save:
                    copy(saved_v[r, t, k], v)
        copy(out[0][r], v)
        copy(out[1][r], z)
    restore(mode)


@jit()
def static_forward_queue(queue, rows, K, table, kinds, numbers):
    """See :func:`sb3_plastic.snn.scan.kernels.forward_queue`."""
    r = take(queue)
    while r < rows:
        static_forward(r, r + 1, K, table, kinds, numbers)
        r = take(queue)


@jit()
def static_backward_queue(queue, groups, K, table, kinds, numbers):
    """
    The backward pass of ``static_forward``, of the groups that this thread takes from the queue; see
    :func:`sb3_plastic.snn.scan.kernels_backward.backward_queue`.
    """
    mode = flush_subnormals()
    threshold, surrogate, detach_reset, want_gx = numbers[0], kinds[2], kinds[5] != 0, kinds[8] != 0
    x, starts, state = array_4(table, 0, threshold), array_2(table, 1, True), state_at(table, 3, threshold)
    p, saved_v = parameters_at(table, 10, threshold), array_4(table, 24, threshold)
    gspikes, gx, gstate = array_4(table, 30, threshold), array_4(table, 31, threshold), state_at(table, 33, threshold)
    x_at, gi_at = array_3(table, 54, threshold)[0], array_3(table, 55, threshold)[0]
    work_m, work_n = array_2(table, 56, threshold), array_2(table, 57, threshold)
    T, K_x, B, M_in, M, N = x.shape[0], x.shape[1], x.shape[2], x.shape[3], p[0].shape[1], p[0].shape[2]
    gx_now = work_m[0]
    v_old, z_old, slope, gi_now = work_n[0], work_n[1], work_n[2], work_n[3]
    gv, gz, gz_now = work_n[4], work_n[5], work_n[6]
    L = x_at.shape[0]
    once_per_step = K_x == 1 and M_in == M  # The same input at each tick: what it gets back is one sum.
    group = take(queue)
    while group < groups:
        gp = parameters_at(table, 40, threshold, group * kinds[11])
        clear(of_row(gp, 0))
        for r in range(group * B // groups, (group + 1) * B // groups):
            w, beta = p[0][r % len(p[0])], p[2][r % len(p[2])]
            gw, gb, gbeta = gp[0][0], gp[1][0], gp[2][0]
            copy(gv, gstate[0][r])
            copy(gz, gstate[1][r])
            n = 0  # ticks, or steps, whose share of gw is still to come
            for t in range(T - 1, -1, -1):
                for k in range(K - 1, -1, -1):
                    copy(gz_now, gspikes[t, k, r])
                    before(t, k, saved_v, state, starts, r, threshold, v_old, z_old)
                    fire_backward(
                        saved_v[r, t, k], v_old, beta, threshold, detach_reset, surrogate, gv, gz, gz_now, gi_now, gb,
                        gbeta, slope
                    )  # fmt: skip
                    gi = gi_at[n]
                    for j in range(N):
                        gi[j] = gi[j] + gi_now[j] if once_per_step and k < K - 1 else gi_now[j]
                    if once_per_step and k > 0:
                        continue
                    gather(x[t, k % K_x, r], z_old, x_at[n, :M])
                    if want_gx:
                        static_currents_backward(w, gi, gx_now)
                        scatter(gx_now[:M], K_x == 1 and k < K - 1 and not once_per_step, gx[t, k % K_x, r], gz)
                    n += 1
                    if n == L:
                        static_weights_backward(n, x_at, gi_at, gw)
                        n = 0
                if starts[t, r]:
                    reset(gv)
                    reset(gz)
            static_weights_backward(n, x_at, gi_at, gw)
            copy(gstate[0][r], gv)
            copy(gstate[1][r], gz)
        group = take(queue)
    restore(mode)
