"""Compiled loops of the fused plastic scan: one row of the batch at a time, all steps and ticks of it in one call.

The equations are those of :func:`sb3_plastic.ops.reference.plastic_tick`, in its letters and order. Three choices make
them fast and keep them exact:

* The inner loop runs over postsynaptic neurons, which lie side by side in memory: that is what the compiler turns into
  vector instructions. The currents add up over presynaptic neurons one after the other, so that a row's result depends
  on nothing but the row: not on the batch, not on the number of threads, not on how a sequence is cut into calls.
* Learning after tick k and the currents of tick k+1 need the same synapses, so they share one pass over them.
* The backward pass stores no fast weights but those at the start of each segment. It replays a segment with the
  functions of the forward pass, bit for bit, while the segment fits in the cache, and then walks back through it.

Everything that can differ between layers is an argument (rules and surrogates are pointers to functions over all
neurons of a layer, called once per tick), so there is one compiled version per floating-point type. Numba then keeps
it on disk without further ado, which it cannot do for closures over compiled functions.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# error_model="numpy": a division by zero gives inf, as in the reference, instead of a branch and an exception.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
# Backward only: sums over postsynaptic neurons become vector instructions if their order is left to the compiler. The
# forward pass must not use this: its results have to be the same bits in a rollout and in training.
ANY_ORDER = {"reassoc", "contract", "nsz"}

MODULATION_NONE, MODULATION_SIMPLE, MODULATION_RETROACTIVE = range(3)


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """
    :param options: for ``numba.njit``, beyond ``OPTIONS``
    :return: a decorator like ``numba.njit(cache=True)`` that does without the cache where no folder can be written
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **OPTIONS, **options)(function)
        except RuntimeError:  # "no locator available": neither this folder, nor the user's cache folder can be written
            return numba.njit(**OPTIONS, **options)(function)

    return decorate


# ----------------------------------------------------------------------------------------------------- one tick forward


@jit()
def gather(x_t, z, x):
    """Inputs of the tick: those from outside and, in a recurrent layer, the layer's own spikes after them."""
    M_in = x_t.shape[0]
    for i in range(M_in):
        x[i] = x_t[i]
    for j in range(x.shape[0] - M_in):
        x[M_in + j] = z[j]


@jit()
def fire(current, b, beta, threshold, v, z):
    """``v <- beta v - threshold z + I``, ``z <- H(v - threshold)``."""
    one, zero = v.dtype.type(1), v.dtype.type(0)
    for j in range(v.shape[0]):
        v[j] = beta[j] * v[j] - threshold * z[j] + (current[j] + b[j])
        z[j] = one if v[j] - threshold > zero else zero


@jit()
def leak(value, rate, target):
    """``value <- rate value + (1 - rate) target``."""
    one = value.dtype.type(1)
    for i in range(value.shape[0]):
        value[i] = rate[i] * value[i] + (one - rate[i]) * target[i]


@jit()
def modulate(modulation, y, a, u, c, d, own):
    """``m_j = a_j tanh(sum_k u_k y_k + c) + d_j``, or 1; returns the signal, the tanh."""
    if modulation == MODULATION_NONE:
        own[:] = own.dtype.type(1)
        return own.dtype.type(0)
    signal = c[0]
    for j in range(y.shape[0]):
        signal += u[j] * y[j]
    signal = np.tanh(signal)
    for j in range(y.shape[0]):
        own[j] = a[j] * signal + d[j]
    return signal


@jit()
def slide(theta, kappa, y):
    """``theta <- (1 - kappa) theta + kappa y^2``."""
    one = theta.dtype.type(1)
    for j in range(theta.shape[0]):
        theta[j] = (one - kappa[j]) * theta[j] + kappa[j] * (y[j] * y[j])


# -------------------------------------------------------------------------------- passes over the synapses of one layer


@jit()
def static_currents(w, x, current):
    """``I_j = sum_i w_ij x_i``. Spikes are sparse: inputs that are 0 are passed over."""
    current[:] = current.dtype.type(0)
    for i in range(w.shape[0]):
        x_i = x[i]
        if x_i != 0:
            for j in range(w.shape[1]):
                current[j] += w[i, j] * x_i


@jit()
def currents(h, w, alpha, x, current):
    """``I_j = sum_i (w_ij + alpha_ij h_ij) x_i``."""
    current[:] = current.dtype.type(0)
    for i in range(w.shape[0]):
        x_i = x[i]
        for j in range(w.shape[1]):
            current[j] += (w[i, j] + alpha[i, j] * h[i, j]) * x_i


@jit()
def learn(h_old, h, eta, x_trace, drive, decay, keep, h_max):
    """``h_ij <- clip((1 - rho_j) h_ij + eta_ij (x_i m_j b_j - m_j g_j h_ij))``; ``drive`` and ``decay`` include m."""
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        for j in range(h.shape[1]):
            h_ij = h_old[i, j]
            h[i, j] = min(max(keep[j] * h_ij + eta[i, j] * (x_i * drive[j] - decay[j] * h_ij), -h_max), h_max)


@jit()
def learn_and_currents(h, eta, x_trace, drive, decay, keep, h_max, w, alpha, x, current):
    """:func:`learn`, and the :func:`currents` of the next tick in the same pass."""
    current[:] = current.dtype.type(0)
    for i in range(h.shape[0]):
        trace_i, x_i = x_trace[i], x[i]
        for j in range(h.shape[1]):
            h_ij = h[i, j]
            h_ij = min(max(keep[j] * h_ij + eta[i, j] * (trace_i * drive[j] - decay[j] * h_ij), -h_max), h_max)
            h[i, j] = h_ij
            current[j] += (w[i, j] + alpha[i, j] * h_ij) * x_i


@jit()
def learn_retroactive(h_old, h, e_old, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max):
    """``h <- clip((1 - rho) h + eta m e)``, then ``e <- (1 - kappa_e) e + kappa_e (x b - g h)`` with the h of before."""
    one = h.dtype.type(1)
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        for j in range(h.shape[1]):
            h_ij, e_ij = h_old[i, j], e_old[i, j]
            h[i, j] = min(max(keep[j] * h_ij + eta[i, j] * (m[j] * e_ij), -h_max), h_max)
            e[i, j] = (one - kappa_e[j]) * e_ij + kappa_e[j] * (x_i * drive[j] - decay[j] * h_ij)


# -------------------------------------------------------------------------------------------------------------- forward


@jit()
def forward(
    first, last, K, segment, x, starts, external, state, out, p, spikes, saved, local, modulation, recurrent,
    keep_fast_weights, threshold, h_max, work_m, work_n
):  # fmt: skip
    """
    Rows ``first`` to ``last`` of a layer with fast weights.

    :param segment: steps per segment; 0 to save nothing for a backward pass
    :param x: [T, K or 1, B, M_in], with 1 if the input stays for the whole step
    :param external: [T, B, N or 1 or 0]
    :param state: the seven tensors of the incoming state; ``out`` those of the outgoing one
    :param p: the fourteen parameters, each with a leading axis of size B or 1
    :param saved: v [T, K, B, N], and x_trace, y_trace, theta, h, e at the start of each segment after the first
    :param local: the rule, (y, theta, b, g) over all neurons
    :param work_m: [2, M], ``work_n``: [6, N], without content
    """
    w_, b_, beta_, alpha_, eta_, lam_pre_, lam_post_, rho_, kappa_, kappa_e_, a_, u_, c_, d_ = p
    saved_v, saved_x_trace, saved_y_trace, saved_theta, saved_h, saved_e = saved
    T, K_x = x.shape[0], x.shape[1]
    retroactive = modulation == MODULATION_RETROACTIVE
    x_now, x_next = work_m[0], work_m[1]
    current, drive, decay, keep, m, flat = work_n[0], work_n[1], work_n[2], work_n[3], work_n[4], work_n[5]
    one = current.dtype.type(1)
    flat[:] = current.dtype.type(0)

    for r in range(first, last):
        w, b, beta = w_[r % w_.shape[0]], b_[r % b_.shape[0]], beta_[r % beta_.shape[0]]
        alpha, eta, rho = alpha_[r % alpha_.shape[0]], eta_[r % eta_.shape[0]], rho_[r % rho_.shape[0]]
        lam_pre, lam_post = lam_pre_[r % lam_pre_.shape[0]], lam_post_[r % lam_post_.shape[0]]
        kappa, kappa_e = kappa_[r % kappa_.shape[0]], kappa_e_[r % kappa_e_.shape[0]]
        a, u, c, d = a_[r % a_.shape[0]], u_[r % u_.shape[0]], c_[r % c_.shape[0]], d_[r % d_.shape[0]]
        v, z, x_trace, y_trace = out[0][r], out[1][r], out[2][r], out[3][r]
        theta, h, e = out[4][r], out[5][r], out[6][r]
        v[:], z[:], x_trace[:], y_trace[:] = state[0][r], state[1][r], state[2][r], state[3][r]
        theta[:], h[:], e[:] = state[4][r], state[5][r], state[6][r]
        threshold_trace = theta if theta.shape[0] else flat
        for j in range(keep.shape[0]):
            keep[j] = one - rho[j]

        have_current = False
        for t in range(T):
            if segment and t and t % segment == 0:
                s = t // segment - 1
                saved_x_trace[s, r], saved_y_trace[s, r], saved_theta[s, r] = x_trace, y_trace, theta
                saved_h[s, r], saved_e[s, r] = h, e
            if starts[t, r]:
                v[:], z[:], x_trace[:], y_trace[:] = 0, 0, 0, 0
                if not keep_fast_weights:
                    theta[:], h[:], e[:] = 0, 0, 0
            for k in range(K):
                gather(x[t, k % K_x, r], z, x_now)
                if not have_current:
                    currents(h, w, alpha, x_now, current)
                fire(current, b, beta, threshold, v, z)
                spikes[t, k, r] = z
                if segment:
                    saved_v[t, k, r] = v
                leak(x_trace, lam_pre, x_now)
                leak(y_trace, lam_post, z)
                modulate(modulation, y_trace, a, u, c, d, m)
                if external.shape[2]:
                    for j in range(m.shape[0]):
                        m[j] *= external[t, r, j % external.shape[2]]
                local(y_trace, threshold_trace, drive, decay)
                # The next tick's currents come along, unless there is no next tick or it starts from a reset.
                if k + 1 < K:
                    gather(x[t, (k + 1) % K_x, r], z, x_next)
                    have_current = not retroactive
                elif t + 1 < T and not starts[t + 1, r]:
                    gather(x[t + 1, 0, r], z, x_next)
                    have_current = not retroactive
                else:
                    have_current = False
                if retroactive:
                    learn_retroactive(h, h, e, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max)
                else:
                    for j in range(m.shape[0]):
                        drive[j] *= m[j]
                        decay[j] *= m[j]
                    if have_current:
                        learn_and_currents(h, eta, x_trace, drive, decay, keep, h_max, w, alpha, x_next, current)
                    else:
                        learn(h, h, eta, x_trace, drive, decay, keep, h_max)
                slide(theta, kappa, y_trace)


@jit()
def static_forward(
    first, last, K, save, x, starts, state, out, p, spikes, saved_v, threshold, work_m, work_n
):  # fmt: skip
    """Rows ``first`` to ``last`` of a layer without fast weights; see :func:`forward`."""
    w_, b_, beta_ = p[0], p[1], p[2]
    T, K_x = x.shape[0], x.shape[1]
    x_now, current = work_m[0], work_n[0]
    recurrent = x_now.shape[0] > x.shape[3]
    for r in range(first, last):
        w, b, beta = w_[r % w_.shape[0]], b_[r % b_.shape[0]], beta_[r % beta_.shape[0]]
        v, z = out[0][r], out[1][r]
        v[:], z[:] = state[0][r], state[1][r]
        for t in range(T):
            if starts[t, r]:
                v[:], z[:] = 0, 0
            for k in range(K):
                if k == 0 or K_x > 1 or recurrent:
                    gather(x[t, k % K_x, r], z, x_now)
                    static_currents(w, x_now, current)
                fire(current, b, beta, threshold, v, z)
                spikes[t, k, r] = z
                if save:
                    saved_v[t, k, r] = v


# ------------------------------------------------------------------------------------- passes over the synapses, backward


@jit(fastmath=ANY_ORDER)
def static_currents_backward(w, x, gi, gw, gx):
    """Backward of :func:`static_currents`, given ``gi``, the gradient of the currents; adds to ``gw``, sets ``gx``."""
    for i in range(w.shape[0]):
        x_i = x[i]
        total = w.dtype.type(0)
        for j in range(w.shape[1]):
            total += w[i, j] * gi[j]
        gx[i] = total
        if x_i != 0:
            for j in range(w.shape[1]):
                gw[i, j] += x_i * gi[j]


@jit(fastmath=ANY_ORDER)
def currents_backward(h, w, alpha, x, gi, gw, galpha, gh, gx):
    """Backward of :func:`currents`; adds to ``gw``, ``galpha`` and ``gh``, sets ``gx``."""
    for i in range(w.shape[0]):
        x_i = x[i]
        total = w.dtype.type(0)
        for j in range(w.shape[1]):
            total += (w[i, j] + alpha[i, j] * h[i, j]) * gi[j]
        gx[i] = total
        if x_i != 0:
            for j in range(w.shape[1]):
                gw_ij = x_i * gi[j]
                gw[i, j] += gw_ij
                galpha[i, j] += gw_ij * h[i, j]
                gh[i, j] += gw_ij * alpha[i, j]


@jit(fastmath=ANY_ORDER)
def learn_backward(h, eta, x_trace, drive, decay, keep, h_max, gh, geta, sum_x, sum_h, gkeep, gtrace):
    """
    Backward of :func:`learn`. With ``G_ij = clip'(.) gh_ij eta_ij`` it sets ``sum_x_j = sum_i G_ij x_i`` and
    ``sum_h_j = sum_i G_ij h_ij``, from which all gradients per neuron follow, and adds to ``geta``, ``gkeep``, ``gtrace``.
    """
    zero = h.dtype.type(0)
    sum_x[:] = zero
    sum_h[:] = zero
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        total = zero
        for j in range(h.shape[1]):
            h_ij = h[i, j]
            local = x_i * drive[j] - decay[j] * h_ij
            new = keep[j] * h_ij + eta[i, j] * local
            g = gh[i, j] if abs(new) <= h_max else zero
            G = g * eta[i, j]
            geta[i, j] += g * local
            sum_x[j] += G * x_i
            sum_h[j] += G * h_ij
            gkeep[j] += g * h_ij
            total += G * drive[j]
            gh[i, j] = g * keep[j] - G * decay[j]
        gtrace[i] += total


@jit(fastmath=ANY_ORDER)
def learn_retroactive_backward(
    h, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max, gh, ge, geta, sum_x, sum_h, sum_e, gm, gkeep, gtrace
):  # fmt: skip
    """
    Backward of :func:`learn_retroactive`: the sums of :func:`learn_backward` with ``G_ij = ge_ij``, ``sum_e_j = sum_i
    ge_ij e_ij``, and the gradient ``gm`` of the modulator.
    """
    zero, one = h.dtype.type(0), h.dtype.type(1)
    sum_x[:], sum_h[:], sum_e[:], gm[:] = zero, zero, zero, zero
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        total = zero
        for j in range(h.shape[1]):
            h_ij, e_ij, ge_ij = h[i, j], e[i, j], ge[i, j]
            new = keep[j] * h_ij + eta[i, j] * (m[j] * e_ij)
            g = gh[i, j] if abs(new) <= h_max else zero
            geta[i, j] += g * m[j] * e_ij
            gm[j] += g * eta[i, j] * e_ij
            gkeep[j] += g * h_ij
            sum_x[j] += ge_ij * x_i
            sum_h[j] += ge_ij * h_ij
            sum_e[j] += ge_ij * e_ij
            total += ge_ij * (kappa_e[j] * drive[j])
            gh[i, j] = g * keep[j] - ge_ij * (kappa_e[j] * decay[j])
            ge[i, j] = g * eta[i, j] * m[j] + (one - kappa_e[j]) * ge_ij
        gtrace[i] += total


# ------------------------------------------------------------------------------------------------------------- backward


@jit()
def before(t, k, spikes, saved_v, state, starts, r, v, z):
    """Membranes and spikes before tick k of step t, a reset included."""
    if k == 0 and starts[t, r]:
        v[:], z[:] = 0, 0
    elif k > 0:
        v[:], z[:] = saved_v[t, k - 1, r], spikes[t, k - 1, r]
    elif t > 0:
        v[:], z[:] = saved_v[t - 1, -1, r], spikes[t - 1, -1, r]
    else:
        v[:], z[:] = state[0][r], state[1][r]


@jit(fastmath=ANY_ORDER)
def fire_backward(v, v_old, beta, threshold, detach_reset, surrogate, gv, gz, gi, gb, gbeta, slope):
    """Backward of :func:`fire`: turns ``gv``, ``gz`` into those before the tick; sets ``gi``, adds to ``gb``, ``gbeta``."""
    for j in range(v.shape[0]):
        gi[j] = v[j] - threshold
    surrogate(gi, slope)
    for j in range(v.shape[0]):
        g = gv[j] + gz[j] * slope[j]
        gi[j] = g
        gb[j] += g
        gbeta[j] += g * v_old[j]
        gz[j] = v.dtype.type(0) if detach_reset else -threshold * g
        gv[j] = g * beta[j]


@jit(fastmath=ANY_ORDER)
def backward(
    first, last, K, segment, x, starts, external, state, p, spikes, saved, local, derivative, surrogate, modulation,
    keep_fast_weights, detach_reset, threshold, h_max, gspikes, gstate, gx, gexternal, gp, work_h, work_m, work_n, work_v
):  # fmt: skip
    """
    Rows ``first`` to ``last`` of the backward pass of :func:`forward`.

    :param gspikes: gradient of the spikes, [T, K, B, N]
    :param gstate: gradient of the outgoing state; on return that of the incoming state
    :param gx: gradient of x, set; of the shape of ``x``
    :param gexternal: gradient of the external modulator, [T, B, N or 1 or 0], added to
    :param gp: gradients of the parameters, each with a leading axis of size B, added to
    :param work_h: [2, L, M, N] with L ticks per segment (the second [0, 0, 0] without eligibility),
        ``work_m``: [L + 1, 3, M], ``work_n``: [L, 12, N], ``work_v``: [16, N], without content
    """
    w_, b_, beta_, alpha_, eta_, lam_pre_, lam_post_, rho_, kappa_, kappa_e_, a_, u_, c_, d_ = p
    saved_v, saved_x_trace, saved_y_trace, saved_theta, saved_h, saved_e = saved
    T, K_x, M_in = x.shape[0], x.shape[1], x.shape[3]
    M, N = w_.shape[1], w_.shape[2]
    retroactive = modulation == MODULATION_RETROACTIVE
    sliding = saved_theta.shape[2] > 0
    E = external.shape[2]
    one, zero = saved_v.dtype.type(1), saved_v.dtype.type(0)
    two = one + one
    gx_now, gx_trace_now = work_m[-1, 0], work_m[-1, 1]
    keep, slope, gi, sum_x, sum_h, sum_e, gm = (
        work_v[0], work_v[1], work_v[2], work_v[3], work_v[4], work_v[5], work_v[6]
    )  # fmt: skip
    db_dy, db_dtheta, dg_dy, dg_dtheta = work_v[7], work_v[8], work_v[9], work_v[10]
    x_trace, y_trace, theta = work_m[-1, 2], work_v[11], work_v[12]

    for r in range(first, last):
        w, beta = w_[r % w_.shape[0]], beta_[r % beta_.shape[0]]
        alpha, eta, rho = alpha_[r % alpha_.shape[0]], eta_[r % eta_.shape[0]], rho_[r % rho_.shape[0]]
        lam_pre, lam_post = lam_pre_[r % lam_pre_.shape[0]], lam_post_[r % lam_post_.shape[0]]
        kappa, kappa_e = kappa_[r % kappa_.shape[0]], kappa_e_[r % kappa_e_.shape[0]]
        a, u, c, d = a_[r % a_.shape[0]], u_[r % u_.shape[0]], c_[r % c_.shape[0]], d_[r % d_.shape[0]]
        gw, gb, gbeta, galpha, geta = gp[0][r], gp[1][r], gp[2][r], gp[3][r], gp[4][r]
        glam_pre, glam_post, grho, gkappa, gkappa_e = gp[5][r], gp[6][r], gp[7][r], gp[8][r], gp[9][r]
        ga, gu, gc, gd = gp[10][r], gp[11][r], gp[12][r], gp[13][r]
        gv, gz, gx_trace, gy_trace = gstate[0][r], gstate[1][r], gstate[2][r], gstate[3][r]
        gtheta, gh, ge = gstate[4][r], gstate[5][r], gstate[6][r]
        for j in range(N):
            keep[j] = one - rho[j]

        for s in range((T - 1) // segment, -1, -1):
            t_first, t_last = s * segment, min((s + 1) * segment, T)

            # Replay the segment.
            if s:
                x_trace[:], y_trace[:] = saved_x_trace[s - 1, r], saved_y_trace[s - 1, r]
                work_h[0, 0] = saved_h[s - 1, r]
            else:
                x_trace[:], y_trace[:] = state[2][r], state[3][r]
                work_h[0, 0] = state[5][r]
            theta[:] = zero
            if sliding:
                theta[:] = saved_theta[s - 1, r] if s else state[4][r]
            if retroactive:
                work_h[1, 0] = saved_e[s - 1, r] if s else state[6][r]
            n = 0
            for t in range(t_first, t_last):
                if starts[t, r]:
                    x_trace[:], y_trace[:] = zero, zero
                    if not keep_fast_weights:
                        theta[:], work_h[0, n] = zero, zero
                        if retroactive:
                            work_h[1, n] = zero
                for k in range(K):
                    x_now, drive, decay, own, m = work_m[n, 0], work_n[n, 5], work_n[n, 6], work_n[n, 7], work_n[n, 8]
                    before(t, k, spikes, saved_v, state, starts, r, work_n[n, 0], work_n[n, 1])
                    gather(x[t, k % K_x, r], work_n[n, 1], x_now)
                    work_m[n, 1], work_n[n, 2], work_n[n, 4] = x_trace, y_trace, theta
                    leak(x_trace, lam_pre, x_now)
                    leak(y_trace, lam_post, spikes[t, k, r])
                    work_m[n, 2], work_n[n, 3] = x_trace, y_trace
                    work_n[n, 11, 0] = modulate(modulation, y_trace, a, u, c, d, own)
                    for j in range(N):
                        m[j] = own[j] * external[t, r, j % E] if E else own[j]
                    local(y_trace, theta, drive, decay)
                    for j in range(N):
                        work_n[n, 9, j] = drive[j] * m[j]
                        work_n[n, 10, j] = decay[j] * m[j]
                    if t + 1 < t_last or k + 1 < K:
                        if retroactive:
                            learn_retroactive(
                                work_h[0, n], work_h[0, n + 1], work_h[1, n], work_h[1, n + 1], eta, x_trace, drive,
                                decay, keep, m, kappa_e, h_max
                            )  # fmt: skip
                        else:
                            learn(
                                work_h[0, n], work_h[0, n + 1], eta, x_trace, work_n[n, 9], work_n[n, 10], keep, h_max
                            )
                    if sliding:
                        slide(theta, kappa, y_trace)
                    n += 1

            # Walk back through it.
            for t in range(t_last - 1, t_first - 1, -1):
                for k in range(K - 1, -1, -1):
                    n -= 1
                    z = spikes[t, k, r]
                    x_now, x_old, x_new = work_m[n, 0], work_m[n, 1], work_m[n, 2]
                    v_old, y_old, y_new, theta_old = work_n[n, 0], work_n[n, 2], work_n[n, 3], work_n[n, 4]
                    drive, decay, own, m, signal = (
                        work_n[n, 5], work_n[n, 6], work_n[n, 7], work_n[n, 8], work_n[n, 11, 0]
                    )  # fmt: skip
                    for j in range(N):
                        gz[j] += gspikes[t, k, r, j]

                    # Fast weights; sum_x and sum_h become the gradients of drive and decay.
                    if retroactive:
                        learn_retroactive_backward(
                            work_h[0, n], work_h[1, n], eta, x_new, drive, decay, keep, m, kappa_e, h_max, gh, ge, geta,
                            sum_x, sum_h, sum_e, gm, grho, gx_trace
                        )  # fmt: skip
                        for j in range(N):
                            gkappa_e[j] += drive[j] * sum_x[j] - decay[j] * sum_h[j] - sum_e[j]
                            sum_x[j] *= kappa_e[j]
                            sum_h[j] *= -kappa_e[j]
                    else:
                        learn_backward(
                            work_h[0, n], eta, x_new, work_n[n, 9], work_n[n, 10], keep, h_max, gh, geta, sum_x, sum_h,
                            grho, gx_trace
                        )  # fmt: skip
                        for j in range(N):
                            gm[j] = drive[j] * sum_x[j] - decay[j] * sum_h[j]
                            sum_x[j] *= m[j]
                            sum_h[j] *= -m[j]

                    # Sliding threshold, rule, modulator.
                    if sliding:
                        for j in range(N):
                            gkappa[j] += gtheta[j] * (y_new[j] * y_new[j] - theta_old[j])
                            gy_trace[j] += gtheta[j] * (two * kappa[j] * y_new[j])
                            gtheta[j] *= one - kappa[j]
                    derivative(y_new, theta_old, db_dy, db_dtheta, dg_dy, dg_dtheta)
                    for j in range(N):
                        gy_trace[j] += sum_x[j] * db_dy[j] + sum_h[j] * dg_dy[j]
                    if sliding:
                        for j in range(N):
                            gtheta[j] += sum_x[j] * db_dtheta[j] + sum_h[j] * dg_dtheta[j]
                    if E:
                        for j in range(N):
                            gexternal[t, r, j % E] += gm[j] * own[j]
                            gm[j] *= external[t, r, j % E]
                    if modulation != MODULATION_NONE:
                        gsignal = zero
                        for j in range(N):
                            ga[j] += gm[j] * signal
                            gd[j] += gm[j]
                            gsignal += gm[j] * a[j]
                        gsignal *= one - signal * signal
                        gc[0] += gsignal
                        for j in range(N):
                            gu[j] += gsignal * y_new[j]
                            gy_trace[j] += gsignal * u[j]

                    # Traces, neuron, currents.
                    for i in range(M):
                        glam_pre[i] += gx_trace[i] * (x_old[i] - x_now[i])
                        gx_trace_now[i] = gx_trace[i] * (one - lam_pre[i])
                        gx_trace[i] *= lam_pre[i]
                    for j in range(N):
                        glam_post[j] += gy_trace[j] * (y_old[j] - z[j])
                        gz[j] += gy_trace[j] * (one - lam_post[j])
                        gy_trace[j] *= lam_post[j]
                    fire_backward(
                        saved_v[t, k, r], v_old, beta, threshold, detach_reset, surrogate, gv, gz, gi, gb, gbeta, slope
                    )
                    currents_backward(work_h[0, n], w, alpha, x_now, gi, gw, galpha, gh, gx_now)
                    add = K_x == 1 and k < K - 1
                    for i in range(M_in):
                        g = gx_now[i] + gx_trace_now[i]
                        gx[t, k % K_x, r, i] = gx[t, k % K_x, r, i] + g if add else g
                    for j in range(M - M_in):
                        gz[j] += gx_now[M_in + j] + gx_trace_now[M_in + j]

                if starts[t, r]:
                    gv[:], gz[:], gx_trace[:], gy_trace[:] = zero, zero, zero, zero
                    if not keep_fast_weights:
                        gtheta[:], gh[:], ge[:] = zero, zero, zero
        for j in range(N):
            grho[j] = -grho[j]


@jit(fastmath=ANY_ORDER)
def static_backward(
    first, last, K, x, starts, state, p, spikes, saved_v, surrogate, detach_reset, threshold, gspikes, gstate, gx, gp,
    work_m, work_v
):  # fmt: skip
    """Rows ``first`` to ``last`` of the backward pass of :func:`static_forward`; see :func:`backward`."""
    w_, beta_ = p[0], p[2]
    T, K_x, M_in = x.shape[0], x.shape[1], x.shape[3]
    M, N = w_.shape[1], w_.shape[2]
    zero = saved_v.dtype.type(0)
    x_now, gx_now = work_m[0], work_m[1]
    v_old, z_old, slope, gi, gi_step = work_v[0], work_v[1], work_v[2], work_v[3], work_v[4]
    once_per_step = K_x == 1 and M_in == M
    for r in range(first, last):
        w, beta = w_[r % w_.shape[0]], beta_[r % beta_.shape[0]]
        gw, gb, gbeta = gp[0][r], gp[1][r], gp[2][r]
        gv, gz = gstate[0][r], gstate[1][r]
        for t in range(T - 1, -1, -1):
            gi_step[:] = zero
            for k in range(K - 1, -1, -1):
                for j in range(N):
                    gz[j] += gspikes[t, k, r, j]
                before(t, k, spikes, saved_v, state, starts, r, v_old, z_old)
                fire_backward(
                    saved_v[t, k, r], v_old, beta, threshold, detach_reset, surrogate, gv, gz, gi, gb, gbeta, slope
                )
                if once_per_step:
                    for j in range(N):
                        gi_step[j] += gi[j]
                    if k:
                        continue
                    gi[:] = gi_step
                gather(x[t, k % K_x, r], z_old, x_now)
                static_currents_backward(w, x_now, gi, gw, gx_now)
                add = K_x == 1 and k < K - 1 and not once_per_step
                for i in range(M_in):
                    gx[t, k % K_x, r, i] = gx[t, k % K_x, r, i] + gx_now[i] if add else gx_now[i]
                for j in range(M - M_in):
                    gz[j] += gx_now[M_in + j]
            if starts[t, r]:
                gv[:], gz[:] = zero, zero
