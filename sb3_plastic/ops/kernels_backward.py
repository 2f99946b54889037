"""The backward pass of :mod:`sb3_plastic.ops.kernels`. ``gx`` is the gradient of the loss with respect to ``x``."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from sb3_plastic.ops.kernels import (
    MODULATION_NONE,
    MODULATION_RETROACTIVE,
    copy,
    copy_matrix,
    gather,
    jit,
    leak,
    learned,
    learned_retroactive,
    modulate,
    of_row,
    slide,
    spikes_of,
)

# Sums over postsynaptic neurons become vector instructions if their order is left to the compiler. Not so in the
# forward pass: its results have to be the same bits wherever it is compiled into.
ANY_ORDER = {"reassoc", "contract", "nsz"}


# -------------------------------------------------------------------------------- passes over the synapses of one layer


@jit()
def relearn(h_old, h, eta, x_trace, drive, decay, keep, h_max):
    """``learn``, from one array into another: a function apart, for what may be one array or two is not vectorised."""
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        for j in range(h.shape[1]):
            h[i, j] = learned(h_old[i, j], eta[i, j], x_i, drive[j], decay[j], keep[j], h_max)


@jit()
def relearn_retroactive(h_old, h, e_old, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max):
    """``learn_retroactive``, likewise."""
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        for j in range(h.shape[1]):
            h[i, j], e[i, j] = learned_retroactive(
                h_old[i, j], e_old[i, j], eta[i, j], x_i, drive[j], decay[j], keep[j], m[j], kappa_e[j], h_max
            )


@jit(fastmath=ANY_ORDER)
def weights_backward(x, gi, gw):
    """``gw_ij += sum_n x_ni gi_nj`` over n ticks, for the gradients ``gi`` of their currents. Spikes are mostly 0."""
    for i in range(gw.shape[0]):
        for n in range(x.shape[0]):
            x_i = x[n, i]
            if x_i != 0:
                for j in range(gw.shape[1]):
                    gw[i, j] += x_i * gi[n, j]


@jit(fastmath=ANY_ORDER)
def static_currents_backward(w, gi, gx):
    """Backward of ``static_currents``, but for w: ``gx_i = sum_j w_ij gi_j``."""
    for i in range(w.shape[0]):
        total = w.dtype.type(0)
        for j in range(w.shape[1]):
            total += w[i, j] * gi[j]
        gx[i] = total


@jit(fastmath=ANY_ORDER)
def currents_backward(h, w, alpha, x, gi, galpha, gh, gx):
    """Backward of ``currents``, but for w; adds to ``galpha`` and ``gh``, sets ``gx``."""
    for i in range(w.shape[0]):
        x_i = x[i]
        total = w.dtype.type(0)
        for j in range(w.shape[1]):
            h_ij, alpha_ij, gi_j = h[i, j], alpha[i, j], gi[j]
            total += (w[i, j] + alpha_ij * h_ij) * gi_j
            galpha[i, j] += x_i * gi_j * h_ij
            gh[i, j] += x_i * gi_j * alpha_ij
        gx[i] = total


@jit(fastmath=ANY_ORDER)
def learn_backward(h, eta, x_trace, drive, decay, keep, h_max, gh, geta, sum_x, sum_h, gkeep, gx_trace):
    """
    Backward of ``learn``. Turns ``gh`` into that before the tick; adds to ``geta``, ``gkeep`` and ``gx_trace``; sets
    two sums that give all gradients per neuron: with ``G_ij = gh_ij eta_ij`` where h is not clipped, else 0, they are
    ``sum_x_j = sum_i G_ij x_i`` and ``sum_h_j = sum_i G_ij h_ij``.
    """
    zero = h.dtype.type(0)
    sum_x[:], sum_h[:] = zero, zero
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
        gx_trace[i] += total


@jit(fastmath=ANY_ORDER)
def learn_retroactive_backward(
    h, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max, gh, ge, geta, sum_x, sum_h, sum_e, gm, gkeep, gx_trace
):  # fmt: skip
    """
    Backward of ``learn_retroactive``: as :func:`learn_backward`, but with ``G_ij = ge_ij``. Also sets
    ``sum_e_j = sum_i ge_ij e_ij`` and the gradient ``gm`` of the modulator.
    """
    zero, one = h.dtype.type(0), h.dtype.type(1)
    sum_x[:], sum_h[:], sum_e[:], gm[:] = zero, zero, zero, zero
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        total = zero
        # Two loops, since the compiler vectorises none that has as many arrays as the two together.
        for j in range(h.shape[1]):
            ge_ij = ge[i, j]
            sum_x[j] += ge_ij * x_i
            sum_h[j] += ge_ij * h[i, j]
            sum_e[j] += ge_ij * e[i, j]
            total += ge_ij * (kappa_e[j] * drive[j])
        gx_trace[i] += total
        for j in range(h.shape[1]):
            ge_ij, h_ij, e_ij = ge[i, j], h[i, j], e[i, j]
            gated = m[j] * e_ij
            g = gh[i, j] if abs(keep[j] * h_ij + eta[i, j] * gated) <= h_max else zero
            G = g * eta[i, j]
            geta[i, j] += g * gated
            gm[j] += G * e_ij
            gkeep[j] += g * h_ij
            gh[i, j] = g * keep[j] - ge_ij * (kappa_e[j] * decay[j])
            ge[i, j] = G * m[j] + (one - kappa_e[j]) * ge_ij


# --------------------------------------------------------------------------------------------------- pieces of one tick


@jit()
def before(t, k, saved_v, state, starts, r, threshold, v, z):
    """Membranes and spikes before tick k of step t, a reset included."""
    if k == 0 and starts[t, r]:
        v[:], z[:] = 0, 0
    elif k == 0 and t == 0:
        copy(v, state[0][r])
        copy(z, state[1][r])
    else:
        copy(v, saved_v[r, t, k - 1] if k > 0 else saved_v[r, t - 1, -1])
        spikes_of(v, threshold, z)


@jit()
def scatter(gx, add, gx_t, gz):
    """Backward of ``gather``; ``add`` to the gradient of the input, at all but the last tick if it stays for a step."""
    M_in = gx_t.shape[0]
    for i in range(M_in):
        gx_t[i] = gx_t[i] + gx[i] if add else gx[i]
    for j in range(gx.shape[0] - M_in):
        gz[j] += gx[M_in + j]


@jit(fastmath=ANY_ORDER)
def fire_backward(v, v_old, beta, threshold, detach_reset, surrogate, gv, gz, gi, gb, gbeta, slope):
    """Backward of ``fire``: turns ``gv``, ``gz`` into those before the tick; sets ``gi``, adds to ``gb``, ``gbeta``."""
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
def leak_backward(rate, old, target, gvalue, grate, gtarget):
    """Backward of ``leak``: turns ``gvalue`` into that before the tick; adds to ``grate`` and ``gtarget``."""
    one = rate.dtype.type(1)
    for i in range(rate.shape[0]):
        g = gvalue[i]
        grate[i] += g * (old[i] - target[i])
        gtarget[i] += g * (one - rate[i])
        gvalue[i] = g * rate[i]


@jit(fastmath=ANY_ORDER)
def modulate_backward(signal, y, a, u, gm, gy, ga, gu, gc, gd):
    """Backward of ``modulate``; adds to all of ``gy``, ``ga``, ``gu``, ``gc``, ``gd``."""
    g = signal.dtype.type(0)
    for j in range(y.shape[0]):
        ga[j] += gm[j] * signal[0]
        gd[j] += gm[j]
        g += gm[j] * a[j]
    g *= signal.dtype.type(1) - signal[0] * signal[0]
    gc[0] += g
    for j in range(y.shape[0]):
        gu[j] += g * y[j]
        gy[j] += g * u[j]


@jit(fastmath=ANY_ORDER)
def slide_backward(kappa, y, theta_old, gtheta, gkappa, gy):
    """Backward of ``slide``: turns ``gtheta`` into that before the tick; adds to ``gkappa`` and ``gy``."""
    one = kappa.dtype.type(1)
    for j in range(kappa.shape[0]):
        gkappa[j] += gtheta[j] * (y[j] * y[j] - theta_old[j])
        gy[j] += gtheta[j] * kappa[j] * (y[j] + y[j])
        gtheta[j] *= one - kappa[j]


# ------------------------------------------------------------------------------------------------------- whole sequence


@jit(fastmath=ANY_ORDER)
def backward(
    first, last, K, segment, x, starts, external, state, p, saved, local, derivative, surrogate, modulation,
    keep_fast_weights, detach_reset, threshold, h_max, gspikes, gstate, gx, gexternal, gp, ticks_h, ticks_m, ticks_n,
    work_m, work_n
):  # fmt: skip
    """
    Rows ``first`` to ``last`` of the backward pass of ``forward``. With L ticks per segment:

    :param gspikes: gradient of the spikes, [T, K, B, N]
    :param gstate: gradient of the outgoing state; on return that of the incoming state
    :param gx: gradient of x, [T, K or 1, B, M_in], set
    :param gexternal: gradient of the external modulator, [T, B, N or 1 or 0], added to
    :param gp: gradients of the parameters, each with a leading axis of size B, added to
    :param ticks_h: two of [L + 1, M, N] (without eligibility the second is [L + 1, 0, 0]), ``ticks_m``: three of
        [L, M], ``ticks_n``: twelve of [L, N]: what the replay of a segment records of each tick
    :param work_m: two of [M], ``work_n``: fourteen of [N], without content
    """
    saved_v, saved_x_trace, saved_y_trace, saved_theta, saved_h, saved_e = saved
    h_at, e_at = ticks_h
    x_at, x_old_at, x_new_at = ticks_m
    v_old_at, z_old_at, z_at, y_old_at, y_new_at, theta_at, drive_at, decay_at, own_at, m_at, signal_at, gi_at = ticks_n
    x_trace, gx_now = work_m
    y_trace, theta, keep, slope, m_drive, m_decay, sum_x, sum_h, sum_e, gm, db_dy, db_dtheta, dg_dy, dg_dtheta = work_n
    T, K_x, N = x.shape[0], x.shape[1], keep.shape[0]
    E = external.shape[2]
    retroactive = modulation == MODULATION_RETROACTIVE
    sliding = saved_theta.shape[2] > 0
    zero, one = keep.dtype.type(0), keep.dtype.type(1)

    for r in range(first, last):
        w, _, beta, alpha, eta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d = of_row(p, r)
        gw, gb, gbeta, galpha, geta = gp[0][r], gp[1][r], gp[2][r], gp[3][r], gp[4][r]
        glam_pre, glam_post, grho, gkappa, gkappa_e = gp[5][r], gp[6][r], gp[7][r], gp[8][r], gp[9][r]
        ga, gu, gc, gd = gp[10][r], gp[11][r], gp[12][r], gp[13][r]
        gv, gz, gx_trace, gy_trace = gstate[0][r], gstate[1][r], gstate[2][r], gstate[3][r]
        gtheta, gh, ge = gstate[4][r], gstate[5][r], gstate[6][r]
        for j in range(N):
            keep[j] = one - rho[j]

        for s in range((T - 1) // segment, -1, -1):
            t_first, t_last = s * segment, min((s + 1) * segment, T)

            # Replay: record the state before each tick, and what follows from it, then learn.
            copy(x_trace, saved_x_trace[s - 1, r] if s else state[2][r])
            copy(y_trace, saved_y_trace[s - 1, r] if s else state[3][r])
            theta[:] = zero
            if sliding:
                copy(theta, saved_theta[s - 1, r] if s else state[4][r])
            copy_matrix(h_at[0], saved_h[s - 1, r] if s else state[5][r])
            copy_matrix(e_at[0], saved_e[s - 1, r] if s else state[6][r])
            n = 0
            for t in range(t_first, t_last):
                if starts[t, r]:
                    x_trace[:], y_trace[:] = zero, zero
                    if not keep_fast_weights:
                        theta[:], h_at[n], e_at[n] = zero, zero, zero
                for k in range(K):
                    copy(x_old_at[n], x_trace)
                    copy(y_old_at[n], y_trace)
                    copy(theta_at[n], theta)
                    before(t, k, saved_v, state, starts, r, threshold, v_old_at[n], z_old_at[n])
                    spikes_of(saved_v[r, t, k], threshold, z_at[n])
                    gather(x[t, k % K_x, r], z_old_at[n], x_at[n])
                    leak(x_trace, lam_pre, x_at[n])
                    leak(y_trace, lam_post, z_at[n])
                    copy(x_new_at[n], x_trace)
                    copy(y_new_at[n], y_trace)
                    own, m, drive, decay = own_at[n], m_at[n], drive_at[n], decay_at[n]
                    signal_at[n, 0] = modulate(modulation, y_trace, a, u, c, d, own)
                    local(y_trace, theta, drive, decay)
                    for j in range(N):
                        m[j] = own[j] * external[t, r, j % E] if E else own[j]
                        m_drive[j] = drive[j] * m[j]
                        m_decay[j] = decay[j] * m[j]
                    if retroactive:
                        relearn_retroactive(
                            h_at[n], h_at[n + 1], e_at[n], e_at[n + 1], eta, x_trace, drive, decay, keep, m, kappa_e,
                            h_max
                        )  # fmt: skip
                    else:
                        relearn(h_at[n], h_at[n + 1], eta, x_trace, m_drive, m_decay, keep, h_max)
                    if sliding:
                        slide(theta, kappa, y_trace)
                    n += 1
            ticks = n

            # Walk back through it.
            for t in range(t_last - 1, t_first - 1, -1):
                for k in range(K - 1, -1, -1):
                    n -= 1
                    y_new, own, m, drive, decay = y_new_at[n], own_at[n], m_at[n], drive_at[n], decay_at[n]
                    if sliding:
                        slide_backward(kappa, y_new, theta_at[n], gtheta, gkappa, gy_trace)

                    # Fast weights. The sums become the gradients of drive (sum_x) and decay (sum_h).
                    if retroactive:
                        learn_retroactive_backward(
                            h_at[n], e_at[n], eta, x_new_at[n], drive, decay, keep, m, kappa_e, h_max, gh, ge, geta,
                            sum_x, sum_h, sum_e, gm, grho, gx_trace
                        )  # fmt: skip
                        for j in range(N):
                            gkappa_e[j] += drive[j] * sum_x[j] - decay[j] * sum_h[j] - sum_e[j]
                            sum_x[j] *= kappa_e[j]
                            sum_h[j] *= -kappa_e[j]
                    else:
                        for j in range(N):
                            m_drive[j] = drive[j] * m[j]
                            m_decay[j] = decay[j] * m[j]
                        learn_backward(
                            h_at[n], eta, x_new_at[n], m_drive, m_decay, keep, h_max, gh, geta, sum_x, sum_h, grho,
                            gx_trace
                        )  # fmt: skip
                        for j in range(N):
                            gm[j] = drive[j] * sum_x[j] - decay[j] * sum_h[j]
                            sum_x[j] *= m[j]
                            sum_h[j] *= -m[j]
                    derivative(y_new, theta_at[n], db_dy, db_dtheta, dg_dy, dg_dtheta)
                    for j in range(N):
                        gy_trace[j] += sum_x[j] * db_dy[j] + sum_h[j] * dg_dy[j]
                        if sliding:
                            gtheta[j] += sum_x[j] * db_dtheta[j] + sum_h[j] * dg_dtheta[j]

                    # Modulator, traces, neuron, currents.
                    if E:
                        for j in range(N):
                            gexternal[t, r, j % E] += gm[j] * own[j]
                            gm[j] *= external[t, r, j % E]
                    if modulation != MODULATION_NONE:
                        modulate_backward(signal_at[n], y_new, a, u, gm, gy_trace, ga, gu, gc, gd)
                    for j in range(N):
                        gz[j] += gspikes[t, k, r, j]
                    leak_backward(lam_post, y_old_at[n], z_at[n], gy_trace, glam_post, gz)
                    gi = gi_at[n]
                    fire_backward(
                        saved_v[r, t, k], v_old_at[n], beta, threshold, detach_reset, surrogate, gv, gz, gi, gb, gbeta,
                        slope
                    )  # fmt: skip
                    currents_backward(h_at[n], w, alpha, x_at[n], gi, galpha, gh, gx_now)
                    leak_backward(lam_pre, x_old_at[n], x_at[n], gx_trace, glam_pre, gx_now)
                    scatter(gx_now, K_x == 1 and k < K - 1, gx[t, k % K_x, r], gz)

                if starts[t, r]:
                    gv[:], gz[:], gx_trace[:], gy_trace[:] = zero, zero, zero, zero
                    if not keep_fast_weights:
                        gtheta[:], gh[:], ge[:] = zero, zero, zero
            weights_backward(x_at[:ticks], gi_at[:ticks], gw)
        for j in range(N):
            grho[j] = -grho[j]  # so far it is the gradient of 1 - rho


@jit(fastmath=ANY_ORDER)
def static_backward(
    first, last, K, x, starts, state, p, saved_v, surrogate, detach_reset, threshold, gspikes, gstate, gx, gp,
    work_m, work_n
):  # fmt: skip
    """Rows ``first`` to ``last`` of the backward pass of ``static_forward``; see :func:`backward`."""
    T, K_x, M_in = x.shape[0], x.shape[1], x.shape[3]
    x_now, gx_now = work_m
    v_old, z_old, slope, gi_now, gi = work_n
    M, N = x_now.shape[1], gi.shape[1]
    zero = saved_v.dtype.type(0)
    once_per_step = K_x == 1 and M_in == M  # The same input at each tick: what it gets back is one sum.
    for r in range(first, last):
        w, beta = p[0][r % len(p[0])], p[2][r % len(p[2])]
        gw, gb, gbeta = gp[0][r], gp[1][r], gp[2][r]
        gv, gz = gstate[0][r], gstate[1][r]
        for t in range(T - 1, -1, -1):
            gi[:] = zero
            for k in range(K - 1, -1, -1):
                for j in range(N):
                    gz[j] += gspikes[t, k, r, j]
                before(t, k, saved_v, state, starts, r, threshold, v_old[0], z_old[0])
                fire_backward(
                    saved_v[r, t, k], v_old[0], beta, threshold, detach_reset, surrogate, gv, gz, gi_now[0], gb, gbeta,
                    slope[0]
                )  # fmt: skip
                for j in range(N):
                    gi[0, j] = gi[0, j] + gi_now[0, j] if once_per_step else gi_now[0, j]
                if once_per_step and k > 0:
                    continue
                gather(x[t, k % K_x, r], z_old[0], x_now[0])
                weights_backward(x_now, gi, gw)
                static_currents_backward(w, gi[0], gx_now[0])
                scatter(gx_now[0], K_x == 1 and k < K - 1 and not once_per_step, gx[t, k % K_x, r], gz)
            if starts[t, r]:
                gv[:], gz[:] = zero, zero
