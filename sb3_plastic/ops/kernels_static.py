"""Compiled loops of the static network: the scan of a layer without fast weights, and its backward pass."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from sb3_plastic.ops.kernels import clear, copy, fire, gather, jit, of_row, piece, reset, static_currents
from sb3_plastic.ops.passes_backward import (
    before,
    fire_backward,
    scatter,
    static_currents_backward,
    static_weights_backward,
)
from sb3_plastic.ops.simd import borrow, flush_subnormals, restore, take


@piece
def static_forward(
    first, last, K, save, x, starts, state, out, p, spikes, saved_v, threshold, work_m, work_n
):  # fmt: skip
    """Rows ``first`` to ``last`` of a layer; see :func:`sb3_plastic.ops.kernels.forward`."""
    mode = flush_subnormals()
    x, starts, spikes, saved_v = borrow((x, starts, spikes, saved_v))
    state, out, p, work_m, work_n = borrow((state, out, p, work_m, work_n))
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
def static_forward_queue(queue, rows, *arguments):
    """See :func:`sb3_plastic.ops.kernels.forward_queue`."""
    r = take(queue)
    while r < rows:
        static_forward(r, r + 1, *arguments)
        r = take(queue)


@jit()
def static_backward_queue(
    queue, groups, K, x, starts, state, p, saved_v, surrogate, detach_reset, threshold, gspikes, gstate, want_gx, gx,
    gp, x_at, gi_at, work_m, work_n
):  # fmt: skip
    """
    The backward pass of ``static_forward``, of the groups that this thread takes from the queue; see
    :func:`sb3_plastic.ops.kernels_backward.backward_queue`.
    """
    mode = flush_subnormals()
    x, starts, saved_v, gspikes, gx = borrow((x, starts, saved_v, gspikes, gx))
    state, p, gstate, gp = borrow((state, p, gstate, gp))
    x_at, gi_at, work_m, work_n = borrow((x_at, gi_at, work_m, work_n))
    T, K_x, B, M_in, M, N = x.shape[0], x.shape[1], x.shape[2], x.shape[3], p[0].shape[1], p[0].shape[2]
    gx_now = work_m[0]
    v_old, z_old, slope, gi_now = work_n[0], work_n[1], work_n[2], work_n[3]
    gv, gz, gz_now = work_n[4], work_n[5], work_n[6]
    L = x_at.shape[0]
    once_per_step = K_x == 1 and M_in == M  # The same input at each tick: what it gets back is one sum.
    group = take(queue)
    while group < groups:
        clear(of_row(gp, group))
        for r in range(group * B // groups, (group + 1) * B // groups):
            w, beta = p[0][r % len(p[0])], p[2][r % len(p[2])]
            gw, gb, gbeta = gp[0][group], gp[1][group], gp[2][group]
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
