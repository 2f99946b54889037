"""The backward of each piece of a tick in :mod:`sb3_plastic.snn.scan.kernels`, in place and in the same vectors."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from sb3_plastic.snn.scan.compile import inlined, piece
from sb3_plastic.snn.scan.kernels import copy, learn_at, move, reset, spikes_of
from sb3_plastic.snn.scan.simd import LANES, call, fma, fnma, load, splat, store, total, within, zeros

# -------------------------------------------------------------------------------- passes over the synapses of one layer


@piece
def static_weights_backward(ticks, x, gi, gw):
    """``gw_ij += sum_n x_ni gi_nj`` over n ticks, for the gradients ``gi`` of their currents. Spikes are mostly 0."""
    for i in range(gw.shape[0]):
        for j in range(0, gw.shape[1], LANES):
            gw_ij = load(gw, (i, j))
            for n in range(ticks):
                if x[n, i] != 0:
                    gw_ij = fma(splat(x[n, i]), load(gi, (n, j)), gw_ij)
            store(gw, (i, j), gw_ij)


@piece
def weights_backward(ticks, x, gi, h, gw, galpha):
    """
    The same, and ``galpha_ij += sum_n x_ni gi_nj h_nij``; four vectors at a time, since each sum waits for its last
    addition.
    """
    N = gw.shape[1]
    for i in range(gw.shape[0]):
        for j in range(0, N - 3 * LANES, 4 * LANES):
            j_1, j_2, j_3 = j + LANES, j + 2 * LANES, j + 3 * LANES
            w_0, a_0 = load(gw, (i, j)), load(galpha, (i, j))
            w_1, a_1 = load(gw, (i, j_1)), load(galpha, (i, j_1))
            w_2, a_2 = load(gw, (i, j_2)), load(galpha, (i, j_2))
            w_3, a_3 = load(gw, (i, j_3)), load(galpha, (i, j_3))
            for n in range(ticks):
                if x[n, i] != 0:
                    x_i, h_n = splat(x[n, i]), h[n]
                    g_0, g_1 = x_i * load(gi, (n, j)), x_i * load(gi, (n, j_1))
                    g_2, g_3 = x_i * load(gi, (n, j_2)), x_i * load(gi, (n, j_3))
                    w_0, a_0 = w_0 + g_0, fma(g_0, load(h_n, (i, j)), a_0)
                    w_1, a_1 = w_1 + g_1, fma(g_1, load(h_n, (i, j_1)), a_1)
                    w_2, a_2 = w_2 + g_2, fma(g_2, load(h_n, (i, j_2)), a_2)
                    w_3, a_3 = w_3 + g_3, fma(g_3, load(h_n, (i, j_3)), a_3)
            store(gw, (i, j), w_0)
            store(gw, (i, j_1), w_1)
            store(gw, (i, j_2), w_2)
            store(gw, (i, j_3), w_3)
            store(galpha, (i, j), a_0)
            store(galpha, (i, j_1), a_1)
            store(galpha, (i, j_2), a_2)
            store(galpha, (i, j_3), a_3)
        for j in range(N - N % (4 * LANES), N, LANES):
            w_0, a_0 = load(gw, (i, j)), load(galpha, (i, j))
            for n in range(ticks):
                if x[n, i] != 0:
                    g_0 = splat(x[n, i]) * load(gi, (n, j))
                    w_0, a_0 = w_0 + g_0, fma(g_0, load(h[n], (i, j)), a_0)
            store(gw, (i, j), w_0)
            store(galpha, (i, j), a_0)


@piece
def static_currents_backward(w, gi, gx):
    """Backward of ``static_currents``, but for w: ``gx_i = sum_j w_ij gi_j``."""
    for i in range(w.shape[0]):
        sums = zeros(gi)
        for j in range(0, w.shape[1], LANES):
            sums = fma(load(w, (i, j)), load(gi, j), sums)
        gx[i] = total(sums)


@inlined
def inputs_backward(h, w, alpha, gi, gx):
    """Backward of ``currents`` for x: ``gx_i += sum_j (w_ij + alpha_ij h_ij) gi_j``."""
    for i in range(w.shape[0]):
        sums = zeros(gi)
        for j in range(0, w.shape[1], LANES):
            weight = fma(load(alpha, (i, j)), load(h, (i, j)), load(w, (i, j)))
            sums = fma(weight, load(gi, j), sums)
        gx[i] += total(sums)


@piece
def fast_weights_backward(alpha, x, gi, gh):
    """Backward of ``currents`` for h: ``gh_ij += alpha_ij x_i gi_j``."""
    for i in range(alpha.shape[0]):
        x_i = splat(x[i])
        for j in range(0, alpha.shape[1], LANES):
            store(gh, (i, j), fma(x_i * load(gi, j), load(alpha, (i, j)), load(gh, (i, j))))


@piece
def replay(ticks, fresh, apart, h, eta, x_trace, drive, decay, keep, h_max):
    """
    ``learn`` for the ticks of a segment, whose traces and rule are known: ``h[n + 1]`` from ``h[n]``, which is 0 where
    ``fresh[n]`` is not; with ``apart`` 0 in place of 1, ``h[0]`` holds the last in the end. A synapse goes through all
    ticks before the next one, so that its fast weight stays in a register; four inputs at a time, since each tick waits
    for the one before.
    """
    bound, M = splat(h_max), eta.shape[0]
    for i in range(0, M - 3, 4):
        for j in range(0, eta.shape[1], LANES):
            keep_j = load(keep, j)
            eta_0, eta_1, eta_2, eta_3 = (
                load(eta, (i, j)), load(eta, (i + 1, j)), load(eta, (i + 2, j)), load(eta, (i + 3, j))
            )  # fmt: skip
            h_0, h_1, h_2, h_3 = (
                load(h[0], (i, j)), load(h[0], (i + 1, j)), load(h[0], (i + 2, j)), load(h[0], (i + 3, j))
            )  # fmt: skip
            for n in range(ticks):
                drive_j, decay_j, x, after = load(drive, (n, j)), load(decay, (n, j)), x_trace[n], h[(n + 1) * apart]
                if fresh[n] != 0:
                    h_0 = h_1 = h_2 = h_3 = zeros(keep)
                    store(h[n * apart], (i, j), h_0)
                    store(h[n * apart], (i + 1, j), h_1)
                    store(h[n * apart], (i + 2, j), h_2)
                    store(h[n * apart], (i + 3, j), h_3)
                h_0 = learn_at(eta_0, h_0, splat(x[i]), drive_j, decay_j, keep_j, bound)
                h_1 = learn_at(eta_1, h_1, splat(x[i + 1]), drive_j, decay_j, keep_j, bound)
                h_2 = learn_at(eta_2, h_2, splat(x[i + 2]), drive_j, decay_j, keep_j, bound)
                h_3 = learn_at(eta_3, h_3, splat(x[i + 3]), drive_j, decay_j, keep_j, bound)
                store(after, (i, j), h_0)
                store(after, (i + 1, j), h_1)
                store(after, (i + 2, j), h_2)
                store(after, (i + 3, j), h_3)
    for i in range(M - M % 4, M):
        for j in range(0, eta.shape[1], LANES):
            h_ij = load(h[0], (i, j))
            for n in range(ticks):
                if fresh[n] != 0:
                    h_ij = zeros(keep)
                    store(h[n * apart], (i, j), h_ij)
                drive_j, decay_j, x_i = load(drive, (n, j)), load(decay, (n, j)), splat(x_trace[n, i])
                h_ij = learn_at(load(eta, (i, j)), h_ij, x_i, drive_j, decay_j, load(keep, j), bound)
                store(h[(n + 1) * apart], (i, j), h_ij)


@inlined
def learn_backward_at(ij, h, alpha, eta, later, x_i, drive_j, decay_j, keep_j, bound, gh, geta):
    """One synapse of ``learn_backward``, but for sums; ``later`` is ``x_later_i gi_later_j``. Returns h, g and G."""
    h_ij, eta_ij = load(h, ij), load(eta, ij)
    gh_ij = fma(later, load(alpha, ij), load(gh, ij))
    local = fnma(decay_j, h_ij, x_i * drive_j)
    g = within(fma(eta_ij, local, keep_j * h_ij), bound, gh_ij)
    G = g * eta_ij
    store(geta, ij, fma(g, local, load(geta, ij)))
    store(gh, ij, fnma(G, decay_j, g * keep_j))
    return h_ij, g, G


@inlined
def learn_backward(
    h, alpha, eta, x_later, gi_later, x_trace, drive, decay, keep, h_max, gh, geta, sum_x, sum_h, want_gkeep, gkeep,
    want_gx_trace, gx_trace
):  # fmt: skip
    """
    Backward of ``learn`` and, before it, ``fast_weights_backward`` of the tick that came after, with the input
    ``x_later``: both read and write all of ``gh``. Turns ``gh`` into that before the tick, but for the tick's own
    currents; adds to ``geta``, ``gkeep`` and ``gx_trace``; sets two sums that give all gradients per neuron: with
    ``g_ij = gh_ij`` where h is not clipped, else 0, and ``G_ij = g_ij eta_ij``, they are ``sum_x_j = sum_i G_ij x_i``
    and ``sum_h_j = sum_i G_ij h_ij``. Two inputs at a time, as in ``learn``.
    """
    bound, M = splat(h_max), h.shape[0]
    reset(sum_x)
    reset(sum_h)
    for i in range(0, M, 2):
        two = i + 1 < M
        x_0, x_later_0, sums_0, sums_1 = splat(x_trace[i]), splat(x_later[i]), zeros(h), zeros(h)
        x_1, x_later_1 = splat(x_trace[i + two]), splat(x_later[i + two])
        for j in range(0, h.shape[1], LANES):
            drive_j, decay_j, keep_j, gi_j = load(drive, j), load(decay, j), load(keep, j), load(gi_later, j)
            h_0, g_0, G_0 = learn_backward_at(
                (i, j), h, alpha, eta, x_later_0 * gi_j, x_0, drive_j, decay_j, keep_j, bound, gh, geta
            )
            h_1, g_1, G_1 = zeros(h), zeros(h), zeros(h)
            if two:
                h_1, g_1, G_1 = learn_backward_at(
                    (i + 1, j), h, alpha, eta, x_later_1 * gi_j, x_1, drive_j, decay_j, keep_j, bound, gh, geta
                )
            store(sum_x, j, fma(G_1, x_1, fma(G_0, x_0, load(sum_x, j))))
            store(sum_h, j, fma(G_1, h_1, fma(G_0, h_0, load(sum_h, j))))
            if want_gkeep:
                store(gkeep, j, fma(g_1, h_1, fma(g_0, h_0, load(gkeep, j))))
            if want_gx_trace:
                sums_0, sums_1 = fma(G_0, drive_j, sums_0), fma(G_1, drive_j, sums_1)
        if want_gx_trace:
            gx_trace[i] += total(sums_0)
            gx_trace[i + two] += total(sums_1)


@piece
def learn_retroactive_backward(
    h, e, alpha, eta, x_later, gi_later, x_trace, drive, decay, keep, m, kappa_e, h_max, gh, ge, geta, sum_x, sum_h,
    sum_e, gm, want_gkeep, gkeep, want_gx_trace, gx_trace
):  # fmt: skip
    """
    Backward of ``learn_retroactive``: as :func:`learn_backward`, but with ``G_ij = ge_ij``. Also sets
    ``sum_e_j = sum_i ge_ij e_ij`` and the gradient ``gm`` of the modulator.
    """
    bound = splat(h_max)
    reset(sum_x)
    reset(sum_h)
    reset(sum_e)
    reset(gm)
    for i in range(h.shape[0]):
        x_i, x_later_i = splat(x_trace[i]), splat(x_later[i])
        sums = zeros(h)
        for j in range(0, h.shape[1], LANES):
            h_ij, e_ij, ge_ij, eta_ij = load(h, (i, j)), load(e, (i, j)), load(ge, (i, j)), load(eta, (i, j))
            gh_ij = fma(x_later_i * load(gi_later, j), load(alpha, (i, j)), load(gh, (i, j)))
            kappa_j, keep_j, m_j = load(kappa_e, j), load(keep, j), load(m, j)
            store(sum_x, j, fma(ge_ij, x_i, load(sum_x, j)))
            store(sum_h, j, fma(ge_ij, h_ij, load(sum_h, j)))
            store(sum_e, j, fma(ge_ij, e_ij, load(sum_e, j)))
            learned = ge_ij * kappa_j
            sums = fma(learned, load(drive, j), sums)
            gated = m_j * e_ij
            g = within(fma(eta_ij, gated, keep_j * h_ij), bound, gh_ij)
            G = g * eta_ij
            store(geta, (i, j), fma(g, gated, load(geta, (i, j))))
            store(gm, j, fma(G, e_ij, load(gm, j)))
            if want_gkeep:
                store(gkeep, j, fma(g, h_ij, load(gkeep, j)))
            store(gh, (i, j), fnma(learned, load(decay, j), g * keep_j))
            store(ge, (i, j), fma(G, m_j, ge_ij - learned))
        if want_gx_trace:
            gx_trace[i] += total(sums)


# --------------------------------------------------------------------------------------------------- pieces of one tick


@inlined
def before(t, k, saved_v, state, starts, r, threshold, v, z):
    """Membranes and spikes before tick k of step t, a reset included."""
    if k == 0 and starts[t, r]:
        reset(v)
        reset(z)
    elif k == 0 and t == 0:
        copy(v, state[0][r])
        copy(z, state[1][r])
    else:
        move(v, saved_v[r, t, k - 1] if k > 0 else saved_v[r, t - 1, -1])
        spikes_of(v, threshold, z)


@inlined
def scatter(gx, add, gx_t, gz):
    """Backward of ``gather``; ``add`` to the gradient of the input, at all but the last tick if it stays for a step."""
    M_in = gx_t.shape[0]
    for i in range(M_in):
        gx_t[i] = gx_t[i] + gx[i] if add else gx[i]
    for j in range(gx.shape[0] - M_in):
        gz[j] += gx[M_in + j]


@inlined
def rule_backward(scale, sum_x, sum_h, partial, gy, gtheta):
    """Backward of a rule, whose drive has the gradient ``scale sum_x`` and whose decay has ``-scale sum_h``."""
    db_dy, db_dtheta, dg_dy, dg_dtheta = partial
    for j in range(0, gy.shape[0], LANES):
        gb = load(scale, j) * load(sum_x, j)
        minus_gg = load(scale, j) * load(sum_h, j)
        store(gy, j, fnma(minus_gg, load(dg_dy, j), fma(gb, load(db_dy, j), load(gy, j))))
        store(gtheta, j, fnma(minus_gg, load(dg_dtheta, j), fma(gb, load(db_dtheta, j), load(gtheta, j))))


@inlined
def fire_backward(v, v_old, beta, threshold, detach_reset, surrogate, gv, gz, gz_now, gi, gb, gbeta, slope):
    """
    Backward of ``fire``: turns ``gv``, ``gz`` into those before the tick, ``gz_now`` being a further part of the
    latter; sets ``gi``, adds to ``gb``, ``gbeta``.
    """
    bound = splat(threshold)
    for j in range(0, v.shape[0], LANES):
        store(gi, j, load(v, j) - bound)
    call(surrogate, (gi, slope), v.shape[0])
    reset = zeros(v) if detach_reset else splat(-threshold)
    for j in range(0, v.shape[0], LANES):
        g = fma(load(gz, j) + load(gz_now, j), load(slope, j), load(gv, j))
        store(gi, j, g)
        store(gb, j, load(gb, j) + g)
        store(gbeta, j, fma(g, load(v_old, j), load(gbeta, j)))
        store(gz, j, reset * g)
        store(gv, j, g * load(beta, j))


@inlined
def leak_backward(rate, old, target, gvalue, grate, gtarget):
    """Backward of ``leak``: turns ``gvalue`` into that before the tick; adds to ``grate`` and ``gtarget``."""
    for i in range(0, rate.shape[0], LANES):
        g, rate_i = load(gvalue, i), load(rate, i)
        store(grate, i, fma(g, load(old, i) - load(target, i), load(grate, i)))
        store(gtarget, i, load(gtarget, i) + fnma(g, rate_i, g))
        store(gvalue, i, g * rate_i)


@inlined
def modulate_backward(signal, y, a, u, gm, gy, ga, gu, gc, gd):
    """Backward of ``modulate``; adds to all of ``gy``, ``ga``, ``gu``, ``gc``, ``gd``."""
    signals = splat(signal)
    sums = zeros(gm)
    for j in range(0, y.shape[0], LANES):
        gm_j = load(gm, j)
        store(ga, j, fma(gm_j, signals, load(ga, j)))
        store(gd, j, load(gd, j) + gm_j)
        sums = fma(gm_j, load(a, j), sums)
    g = total(sums)
    g -= g * signal * signal
    gc[0] += g
    g_j = splat(g)
    for j in range(0, y.shape[0], LANES):
        store(gu, j, fma(g_j, load(y, j), load(gu, j)))
        store(gy, j, fma(g_j, load(u, j), load(gy, j)))


@piece
def slide_backward(kappa, y, theta_old, gtheta, gkappa, gy):
    """Backward of ``slide``: turns ``gtheta`` into that before the tick; adds to ``gkappa`` and ``gy``."""
    for j in range(0, kappa.shape[0], LANES):
        g, y_j = load(gtheta, j), load(y, j)
        learned = g * load(kappa, j)
        store(gkappa, j, fma(g, y_j * y_j - load(theta_old, j), load(gkappa, j)))
        store(gy, j, fma(learned, y_j + y_j, load(gy, j)))
        store(gtheta, j, g - learned)
