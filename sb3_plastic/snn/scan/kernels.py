"""Compiled loops of the fused plastic scan: one row of the batch at a time, all steps and ticks of it in one call.

The equations are those of :func:`sb3_plastic.snn.scan.reference.plastic_tick`, in its letters and order. Three choices
make them fast and keep them exact:

* The inner loop runs over postsynaptic neurons, which lie side by side in memory, as vectors
  (`simd.py`): ``N`` is a multiple of their length, and what is beyond a layer's own neurons is 0.
  The currents add up over presynaptic neurons one after the other, so that a row's result depends on nothing but the
  row: not on the batch, not on the number of threads, not on how a sequence is cut into calls.
* Passes over the synapses are functions of their own, but for two that share the reading of the fast weights, or of
  their gradient: learning and the next tick's currents, forward and backward.
* The backward pass (:mod:`sb3_plastic.snn.scan.kernels_backward`) needs no fast weights but those at the start of each
  stretch: it replays that, and then one segment after the other, whose fast weights fit in the cache, with the
  functions of the forward pass, bit for bit.

Everything that can differ between layers is an argument (rules and surrogates are addresses of functions over all
neurons of a layer, called once per tick), so there is one compiled version per floating-point type. Numba then keeps
it on disk without further ado, which it cannot do for closures over compiled functions.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np

from sb3_plastic.snn.scan.arrays import array_2, array_3, array_4, parameters_at, saved_at, state_at
from sb3_plastic.snn.scan.compile import inlined, jit, piece
from sb3_plastic.snn.scan.simd import (
    LANES,
    call,
    clip,
    flush_subnormals,
    fma,
    fnma,
    load,
    restore,
    splat,
    step,
    store,
    take,
    total,
    zeros,
)

MODULATION_NONE, MODULATION_SIMPLE, MODULATION_RETROACTIVE = range(3)


@inlined
def reset(vector):
    """Set a padded vector to 0."""
    for j in range(0, vector.shape[0], LANES):
        store(vector, j, zeros(vector))


@piece
def reset_matrix(matrix):
    """The same for each row of a matrix."""
    for i in range(matrix.shape[0]):
        reset(matrix[i])


@piece
def of_row(p, r):
    """Parameters of row r: each has a leading axis, of size 1 where all rows share it."""
    w, b, beta, alpha, eta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d = p
    return (
        w[r % len(w)], b[r % len(b)], beta[r % len(beta)], alpha[r % len(alpha)], eta[r % len(eta)],
        lam_pre[r % len(lam_pre)], lam_post[r % len(lam_post)], rho[r % len(rho)], kappa[r % len(kappa)],
        kappa_e[r % len(kappa_e)], a[r % len(a)], u[r % len(u)], c[r % len(c)], d[r % len(d)],
    )  # fmt: skip


@piece
def clear(p):
    """Set the parameters of a row to 0."""
    w, b, beta, alpha, eta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d = p
    for matrix in (w, alpha, eta):
        reset_matrix(matrix)
    for vector in (b, beta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d):
        reset(vector)


# ----------------------------------------------------------------------------------------- pieces of one tick, in place


@piece
def copy(target, source):
    """The numbers that both have; a longer ``target`` goes on with zeros."""
    n = min(target.shape[0], source.shape[0])
    for i in range(n):
        target[i] = source[i]
    for i in range(n, target.shape[0]):
        target[i] = 0


@inlined
def move(target, source):
    """``copy`` for two vectors that are padded alike."""
    for j in range(0, target.shape[0], LANES):
        store(target, j, load(source, j))


@piece
def copy_matrix(target, source):
    """The same for each row of two matrices with as many rows."""
    for i in range(target.shape[0]):
        copy(target[i], source[i])


@inlined
def gather(x_t, z, x):
    """Inputs of the tick: those from outside and, in a recurrent layer, the layer's own spikes after them."""
    M_in = x_t.shape[0]
    for i in range(M_in):
        x[i] = x_t[i]
    for j in range(x.shape[0] - M_in):
        x[M_in + j] = z[j]


@inlined
def spikes_of(v, threshold, z):
    """``z <- H(v - threshold)``."""
    bound = splat(threshold)
    for j in range(0, v.shape[0], LANES):
        store(z, j, step(load(v, j), bound))


@inlined
def fire(current, b, beta, threshold, v, z):
    """``v <- beta v - threshold z + I``, ``z <- H(v - threshold)``."""
    bound = splat(threshold)
    for j in range(0, v.shape[0], LANES):
        total_current = load(current, j) + load(b, j) - bound * load(z, j)
        store(v, j, fma(load(beta, j), load(v, j), total_current))
    spikes_of(v, threshold, z)


@inlined
def leak(value, rate, target):
    """``value <- rate value + (1 - rate) target``."""
    for i in range(0, value.shape[0], LANES):
        target_i = load(target, i)
        store(value, i, fma(load(rate, i), load(value, i) - target_i, target_i))


@inlined
def modulate(modulation, y, a, u, c, d, own):
    """``m_j = a_j tanh(sum_k u_k y_k + c) + d_j``, or 1; returns the signal, the tanh."""
    if modulation == MODULATION_NONE:
        own[:] = own.dtype.type(1)
        return own.dtype.type(0)
    sums = zeros(own)
    for j in range(0, y.shape[0], LANES):
        sums = fma(load(u, j), load(y, j), sums)
    signal = np.tanh(total(sums) + c[0])
    for j in range(0, y.shape[0], LANES):
        store(own, j, fma(load(a, j), splat(signal), load(d, j)))
    return signal


@piece
def slide(theta, kappa, y):
    """``theta <- (1 - kappa) theta + kappa y^2``."""
    for j in range(0, theta.shape[0], LANES):
        theta_j, y_j = load(theta, j), load(y, j)
        store(theta, j, fma(load(kappa, j), y_j * y_j - theta_j, theta_j))


@inlined
def multiply(target, factor):
    """``target <- factor target``."""
    for j in range(0, target.shape[0], LANES):
        store(target, j, load(factor, j) * load(target, j))


# -------------------------------------------------------------------------------- passes over the synapses of one layer


@piece
def static_currents(w, x, current):
    """``I_j = sum_i w_ij x_i``. Spikes are sparse: inputs that are 0 are passed over."""
    reset(current)
    for i in range(w.shape[0]):
        if x[i] != 0:
            x_i = splat(x[i])
            for j in range(0, w.shape[1], LANES):
                store(current, j, fma(load(w, (i, j)), x_i, load(current, j)))


@inlined
def current_at(w, alpha, ij, h_ij, x_i, current_j):
    """``current_j + (w_ij + alpha_ij h_ij) x_i``."""
    return fma(fma(load(alpha, ij), h_ij, load(w, ij)), x_i, current_j)


@inlined
def currents(h, w, alpha, x, current):
    """``I_j = sum_i (w_ij + alpha_ij h_ij) x_i``, likewise."""
    reset(current)
    for i in range(w.shape[0]):
        if x[i] != 0:
            x_i = splat(x[i])
            for j in range(0, w.shape[1], LANES):
                store(current, j, current_at(w, alpha, (i, j), load(h, (i, j)), x_i, load(current, j)))


@inlined
def learn_at(eta_ij, h_ij, x_i, drive_j, decay_j, keep_j, bound):
    """``clip((1 - rho_j) h_ij + eta_ij (x_i m_j b_j - m_j g_j h_ij))``; ``drive``, ``decay`` include m."""
    return clip(fma(eta_ij, fnma(decay_j, h_ij, x_i * drive_j), keep_j * h_ij), bound)


@inlined
def learn(h_old, h, eta, x_trace, drive, decay, keep, h_max):
    """``h_ij <- learn_at(i, j)``, two inputs at a time: what belongs to neurons is then read half as often."""
    bound, M = splat(h_max), h.shape[0]
    for i in range(0, M - 1, 2):
        x_0, x_1 = splat(x_trace[i]), splat(x_trace[i + 1])
        for j in range(0, h.shape[1], LANES):
            drive_j, decay_j, keep_j = load(drive, j), load(decay, j), load(keep, j)
            h_0, h_1 = load(h_old, (i, j)), load(h_old, (i + 1, j))
            store(h, (i, j), learn_at(load(eta, (i, j)), h_0, x_0, drive_j, decay_j, keep_j, bound))
            store(h, (i + 1, j), learn_at(load(eta, (i + 1, j)), h_1, x_1, drive_j, decay_j, keep_j, bound))
    for i in range(M - M % 2, M):
        x_i = splat(x_trace[i])
        for j in range(0, h.shape[1], LANES):
            h_ij, eta_ij = load(h_old, (i, j)), load(eta, (i, j))
            store(h, (i, j), learn_at(eta_ij, h_ij, x_i, load(drive, j), load(decay, j), load(keep, j), bound))


@inlined
def learn_and_currents(h_old, h, w, alpha, eta, x_trace, drive, decay, keep, h_max, x, current):
    """``learn``, and the ``currents`` of the next tick, with the input x, while the fast weights are at hand."""
    bound, M = splat(h_max), h.shape[0]
    reset(current)
    for i in range(0, M - 1, 2):
        trace_0, trace_1, x_0, x_1 = splat(x_trace[i]), splat(x_trace[i + 1]), splat(x[i]), splat(x[i + 1])
        for j in range(0, h.shape[1], LANES):
            drive_j, decay_j, keep_j = load(drive, j), load(decay, j), load(keep, j)
            h_0, h_1 = load(h_old, (i, j)), load(h_old, (i + 1, j))
            h_0 = learn_at(load(eta, (i, j)), h_0, trace_0, drive_j, decay_j, keep_j, bound)
            h_1 = learn_at(load(eta, (i + 1, j)), h_1, trace_1, drive_j, decay_j, keep_j, bound)
            store(h, (i, j), h_0)
            store(h, (i + 1, j), h_1)
            if x[i] != 0 or x[i + 1] != 0:
                current_j = current_at(w, alpha, (i, j), h_0, x_0, load(current, j))
                store(current, j, current_at(w, alpha, (i + 1, j), h_1, x_1, current_j))
    for i in range(M - M % 2, M):
        trace_i, x_i = splat(x_trace[i]), splat(x[i])
        for j in range(0, h.shape[1], LANES):
            h_ij, eta_ij = load(h_old, (i, j)), load(eta, (i, j))
            h_ij = learn_at(eta_ij, h_ij, trace_i, load(drive, j), load(decay, j), load(keep, j), bound)
            store(h, (i, j), h_ij)
            store(current, j, current_at(w, alpha, (i, j), h_ij, x_i, load(current, j)))


@piece
def learn_retroactive(h_old, h, e_old, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max):
    """
    ``h_ij <- clip((1 - rho_j) h_ij + eta_ij m_j e_ij)`` and
    ``e_ij <- (1 - kappa_e_j) e_ij + kappa_e_j (x_i b_j - g_j h_ij)``, both from the old h and e.
    """
    bound = splat(h_max)
    for i in range(h.shape[0]):
        x_i = splat(x_trace[i])
        for j in range(0, h.shape[1], LANES):
            h_ij, e_ij = load(h_old, (i, j)), load(e_old, (i, j))
            local = fnma(load(decay, j), h_ij, x_i * load(drive, j))
            store(h, (i, j), clip(fma(load(eta, (i, j)), load(m, j) * e_ij, load(keep, j) * h_ij), bound))
            store(e, (i, j), fma(load(kappa_e, j), local - e_ij, e_ij))


# -------------------------------------------------------------------------------------------------------------- forward


@piece
def forward(first, last, K, table, kinds, numbers):
    """
    Rows ``first`` to ``last`` of a layer with fast weights.

    :param table: the arrays. Given: x, [T, K or 1, B, M_in], with 1 if the input stays for the whole
        step; episode_start, [T, B]; the external modulator, [T, B, E], with E the number of neurons, 1 or 0; the state
        (7); the parameters (14), each with a leading axis of size B or 1, and padded. Set: spikes, the outgoing state
        (7). Saved: v, [B, T, K, N], in which each row is in one piece since the backward pass reads it often; and
        x_trace, y_trace, theta, h, e at the start of each period after the first. Working memory without content:
        [2, M] and [9, N], padded, and twice [M, N], used where the state has fewer columns
    :param kinds: address of the rule, (y, theta, b, g) over all neurons; modulation; whether fast weights are kept;
        steps per period, 0 to save nothing for a backward pass
    :param numbers: threshold, h_max
    """
    mode = flush_subnormals()
    threshold, h_max = numbers[0], numbers[1]
    local, modulation, keep_fast_weights, period = kinds[0], kinds[1], kinds[2] != 0, kinds[3]
    x, starts, external = array_4(table, 0, h_max), array_2(table, 1, True), array_3(table, 2, h_max)
    state, p = state_at(table, 3, h_max), parameters_at(table, 10, h_max)
    spikes, out = array_4(table, 24, h_max), state_at(table, 25, h_max)
    saved_v, saved_x_trace, saved_y_trace, saved_theta, saved_h, saved_e = saved_at(table, 32, h_max)
    work_m, work_n = array_2(table, 38, h_max), array_2(table, 39, h_max)
    work_h, work_e = array_2(table, 40, h_max), array_2(table, 41, h_max)
    T, K_x, M, N = x.shape[0], x.shape[1], p[0].shape[1], p[0].shape[2]
    E, N_own = external.shape[2], spikes.shape[3]
    retroactive, sliding = modulation == MODULATION_RETROACTIVE, state[4].shape[1] > 0
    x_now, x_trace = work_m[0], work_m[1]
    v, z, y_trace, theta = work_n[0], work_n[1], work_n[2], work_n[3]
    current, drive, decay, keep, m = work_n[4], work_n[5], work_n[6], work_n[7], work_n[8]
    reset(x_now)

    for r in range(first, last):
        w, b, beta, alpha, eta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d = of_row(p, r)
        # The first tick reads the incoming fast weights where they are, which saves a copy.
        h_old, e_old, h, e = state[5][r], state[6][r], out[5][r], out[6][r]
        if N_own != N:
            h, e = work_h, work_e
            copy_matrix(h, h_old)
            copy_matrix(e, e_old)
            h_old, e_old = h, e
        copy(v, state[0][r])
        copy(z, state[1][r])
        copy(x_trace, state[2][r])
        copy(y_trace, state[3][r])
        copy(theta, state[4][r])
        for j in range(N):
            keep[j] = 1 - rho[j]

        for t in range(T):
            if period and t and t % period == 0:
                s = t // period - 1
                copy(saved_x_trace[s, r], x_trace)
                copy(saved_y_trace[s, r], y_trace)
                copy(saved_theta[s, r], theta)
                copy_matrix(saved_h[s, r], h)
                copy_matrix(saved_e[s, r], e)
            if starts[t, r]:
                reset(v)
                reset(z)
                reset(x_trace)
                reset(y_trace)
                if not keep_fast_weights:
                    reset(theta)
                    reset_matrix(h)
                    reset_matrix(e)
                    h_old, e_old = h, e
            for k in range(K):
                if k == 0 or retroactive:
                    gather(x[t, k % K_x, r], z, x_now[:M])
                    currents(h_old, w, alpha, x_now, current)
                fire(current, b, beta, threshold, v, z)
                copy(spikes[t, k, r], z)
                if period:
                    move(saved_v[r, t, k], v)
                leak(x_trace, lam_pre, x_now)
                leak(y_trace, lam_post, z)
                modulate(modulation, y_trace, a, u, c, d, m)
                if E:
                    for j in range(N_own):
                        m[j] *= external[t, r, j % E]
                call(local, (y_trace, theta, drive, decay), N)
                if retroactive:
                    learn_retroactive(h_old, h, e_old, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max)
                else:
                    multiply(drive, m)
                    multiply(decay, m)
                    if k < K - 1:
                        gather(x[t, (k + 1) % K_x, r], z, x_now[:M])
                        learn_and_currents(
                            h_old, h, w, alpha, eta, x_trace, drive, decay, keep, h_max, x_now, current
                        )  # fmt: skip
                    else:
                        learn(h_old, h, eta, x_trace, drive, decay, keep, h_max)
                h_old, e_old = h, e
                if sliding:
                    slide(theta, kappa, y_trace)

        copy(out[0][r], v)
        copy(out[1][r], z)
        copy(out[2][r], x_trace)
        copy(out[3][r], y_trace)
        copy(out[4][r], theta)
        if N_own != N:
            copy_matrix(out[5][r], h)
            copy_matrix(out[6][r], e)
    restore(mode)


@jit()
def forward_queue(queue, rows, K, table, kinds, numbers):
    """``forward`` of the rows that this thread takes from the queue."""
    r = take(queue)
    while r < rows:
        forward(r, r + 1, K, table, kinds, numbers)
        r = take(queue)
