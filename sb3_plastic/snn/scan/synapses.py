"""The passes over the synapses of a layer, each beside its backward: currents and learning.

``W_ij = w_ij + alpha_ij h_ij`` are the effective weights from input i to neuron j; all matrices are [M, N], padded. The
inner loop runs over neurons, as vectors; sums over inputs go one after the other, so that no result depends on the
batch, on the number of threads, or on how a sequence is cut into calls.
"""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from sb3_plastic.snn.scan.compile import inlined, piece
from sb3_plastic.snn.scan.simd import LANES, clip, fma, fnma, load, splat, store, total, within, zeros
from sb3_plastic.snn.scan.tick import reset

Vector = Any
"""``LANES`` numbers."""

# ------------------------------------------------------------------------------------------------------ static currents


@piece
def static_currents(w: Array, x: Array, current: Array) -> None:
    """``I_j = sum_i w_ij x_i``. Spikes are sparse: inputs that are 0 are passed over."""
    reset(current)
    for i in range(w.shape[0]):
        if x[i] != 0:
            x_i = splat(x[i])
            for j in range(0, w.shape[1], LANES):
                store(current, j, fma(load(w, (i, j)), x_i, load(current, j)))


@piece
def static_currents_backward(w: Array, gcurrent: Array, gx: Array) -> None:
    """Backward of ``static_currents``, but for w: ``gx_i = sum_j w_ij gcurrent_j``."""
    for i in range(w.shape[0]):
        sums = zeros(gcurrent)
        for j in range(0, w.shape[1], LANES):
            sums = fma(load(w, (i, j)), load(gcurrent, j), sums)
        gx[i] = total(sums)


@piece
def static_weights_backward(ticks: int, x: Array, gcurrent: Array, gw: Array) -> None:
    """
    Backward of ``static_currents`` for w, of n ticks at once: ``gw_ij += sum_n x_ni gcurrent_nj``. Spikes are mostly 0.
    """
    for i in range(gw.shape[0]):
        for j in range(0, gw.shape[1], LANES):
            gw_ij = load(gw, (i, j))
            for n in range(ticks):
                if x[n, i] != 0:
                    gw_ij = fma(splat(x[n, i]), load(gcurrent, (n, j)), gw_ij)
            store(gw, (i, j), gw_ij)


# ------------------------------------------------------------------------------------------------------------- currents


@inlined
def current_at(w: Array, alpha: Array, ij: tuple[int, int], h_ij: Vector, x_i: Vector, current_j: Vector) -> Vector:
    """``current_j + (w_ij + alpha_ij h_ij) x_i``."""
    return fma(fma(load(alpha, ij), h_ij, load(w, ij)), x_i, current_j)


@inlined
def currents(h: Array, w: Array, alpha: Array, x: Array, current: Array) -> None:
    """``I_j = sum_i (w_ij + alpha_ij h_ij) x_i``, likewise."""
    reset(current)
    for i in range(w.shape[0]):
        if x[i] != 0:
            x_i = splat(x[i])
            for j in range(0, w.shape[1], LANES):
                store(current, j, current_at(w, alpha, (i, j), load(h, (i, j)), x_i, load(current, j)))


@inlined
def inputs_backward(h: Array, w: Array, alpha: Array, gcurrent: Array, gx: Array) -> None:
    """Backward of ``currents`` for x: ``gx_i += sum_j (w_ij + alpha_ij h_ij) gcurrent_j``."""
    for i in range(w.shape[0]):
        sums = zeros(gcurrent)
        for j in range(0, w.shape[1], LANES):
            weight = fma(load(alpha, (i, j)), load(h, (i, j)), load(w, (i, j)))
            sums = fma(weight, load(gcurrent, j), sums)
        gx[i] += total(sums)


@piece
def fast_weights_backward(alpha: Array, x: Array, gcurrent: Array, gh: Array) -> None:
    """Backward of ``currents`` for h: ``gh_ij += alpha_ij x_i gcurrent_j``."""
    for i in range(alpha.shape[0]):
        x_i = splat(x[i])
        for j in range(0, alpha.shape[1], LANES):
            store(gh, (i, j), fma(x_i * load(gcurrent, j), load(alpha, (i, j)), load(gh, (i, j))))


@piece
def weights_backward(ticks: int, x: Array, gcurrent: Array, h: Array, gw: Array, galpha: Array) -> None:
    """
    Backward of ``currents`` for w and alpha, of n ticks at once: ``gw_ij += sum_n x_ni gcurrent_nj``,
    ``galpha_ij += sum_n x_ni gcurrent_nj h_nij``. Four vectors at a time, since each sum waits for its last addition.
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
                    g_0, g_1 = x_i * load(gcurrent, (n, j)), x_i * load(gcurrent, (n, j_1))
                    g_2, g_3 = x_i * load(gcurrent, (n, j_2)), x_i * load(gcurrent, (n, j_3))
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
                    g_0 = splat(x[n, i]) * load(gcurrent, (n, j))
                    w_0, a_0 = w_0 + g_0, fma(g_0, load(h[n], (i, j)), a_0)
            store(gw, (i, j), w_0)
            store(galpha, (i, j), a_0)


# ------------------------------------------------------------------------------------------------------------- learning


@inlined
def learn_at(
    eta_ij: Vector, h_ij: Vector, x_i: Vector, drive_j: Vector, decay_j: Vector, keep_j: Vector, bound: Vector
) -> Vector:
    """``clip((1 - rho_j) h_ij + eta_ij (x_i m_j b_j - m_j g_j h_ij))``; ``drive``, ``decay`` include m."""
    return clip(fma(eta_ij, fnma(decay_j, h_ij, x_i * drive_j), keep_j * h_ij), bound)


@inlined
def learn(
    h_before: Array, h: Array, eta: Array, x_trace: Array, drive: Array, decay: Array, keep: Array, h_max: float
) -> None:
    """``h_ij <- learn_at(i, j)``, two inputs at a time: what belongs to neurons is then read half as often."""
    bound, M = splat(h_max), h.shape[0]
    for i in range(0, M - 1, 2):
        x_0, x_1 = splat(x_trace[i]), splat(x_trace[i + 1])
        for j in range(0, h.shape[1], LANES):
            drive_j, decay_j, keep_j = load(drive, j), load(decay, j), load(keep, j)
            h_0, h_1 = load(h_before, (i, j)), load(h_before, (i + 1, j))
            store(h, (i, j), learn_at(load(eta, (i, j)), h_0, x_0, drive_j, decay_j, keep_j, bound))
            store(h, (i + 1, j), learn_at(load(eta, (i + 1, j)), h_1, x_1, drive_j, decay_j, keep_j, bound))
    for i in range(M - M % 2, M):
        x_i = splat(x_trace[i])
        for j in range(0, h.shape[1], LANES):
            h_ij, eta_ij = load(h_before, (i, j)), load(eta, (i, j))
            store(h, (i, j), learn_at(eta_ij, h_ij, x_i, load(drive, j), load(decay, j), load(keep, j), bound))


@inlined
def learn_and_currents(
    h_before: Array, h: Array, w: Array, alpha: Array, eta: Array, x_trace: Array, drive: Array, decay: Array, keep:
    Array, h_max: float, x: Array, current: Array,
) -> None:  # fmt: skip
    """``learn``, and the ``currents`` of the next tick, with the input x, while the fast weights are at hand."""
    bound, M = splat(h_max), h.shape[0]
    reset(current)
    for i in range(0, M - 1, 2):
        trace_0, trace_1, x_0, x_1 = splat(x_trace[i]), splat(x_trace[i + 1]), splat(x[i]), splat(x[i + 1])
        for j in range(0, h.shape[1], LANES):
            drive_j, decay_j, keep_j = load(drive, j), load(decay, j), load(keep, j)
            h_0, h_1 = load(h_before, (i, j)), load(h_before, (i + 1, j))
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
            h_ij, eta_ij = load(h_before, (i, j)), load(eta, (i, j))
            h_ij = learn_at(eta_ij, h_ij, trace_i, load(drive, j), load(decay, j), load(keep, j), bound)
            store(h, (i, j), h_ij)
            store(current, j, current_at(w, alpha, (i, j), h_ij, x_i, load(current, j)))


@piece
def learn_segment(
    ticks: int, fresh: Array, keep_all: int, h: Array, eta: Array, x_trace: Array, drive: Array, decay: Array, keep:
    Array, h_max: float,
) -> None:  # fmt: skip
    """
    ``learn`` for the ticks of a segment, whose traces and rule are known: ``h[n + 1]`` from ``h[n]``, which is set to 0
    first where ``fresh[n]`` is not 0. Unless ``keep_all``, there is only ``h[0]``, which holds the last in the end. A
    synapse goes through all ticks before the next one, so that its fast weight stays in a register; four inputs at a
    time, since each tick waits for the one before.
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
                drive_j, decay_j, x, after = load(drive, (n, j)), load(decay, (n, j)), x_trace[n], h[(n + 1) * keep_all]
                if fresh[n] != 0:
                    h_0 = h_1 = h_2 = h_3 = zeros(keep)
                    store(h[n * keep_all], (i, j), h_0)
                    store(h[n * keep_all], (i + 1, j), h_1)
                    store(h[n * keep_all], (i + 2, j), h_2)
                    store(h[n * keep_all], (i + 3, j), h_3)
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
                    store(h[n * keep_all], (i, j), h_ij)
                drive_j, decay_j, x_i = load(drive, (n, j)), load(decay, (n, j)), splat(x_trace[n, i])
                h_ij = learn_at(load(eta, (i, j)), h_ij, x_i, drive_j, decay_j, load(keep, j), bound)
                store(h[(n + 1) * keep_all], (i, j), h_ij)


@inlined
def learn_backward_at(
    ij: tuple[int, int], h: Array, alpha: Array, eta: Array, later: Vector, x_i: Vector, drive_j: Vector, decay_j:
    Vector, keep_j: Vector, bound: Vector, gh: Array, geta: Array,
) -> tuple[Vector, Vector, Vector]:  # fmt: skip
    """One synapse of ``learn_backward``, but for sums; ``later``: ``x_later_i gcurrent_later_j``. Returns h, g, G."""
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
    h: Array, alpha: Array, eta: Array, x_later: Array, gcurrent_later: Array, x_trace: Array, drive: Array, decay:
    Array, keep: Array, h_max: float, gh: Array, geta: Array, sum_x: Array, sum_h: Array, want_gkeep: bool, gkeep:
    Array, want_gx_trace: bool, gx_trace: Array,
) -> None:  # fmt: skip
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
            drive_j, decay_j, keep_j, gcurrent_j = (
                load(drive, j),
                load(decay, j),
                load(keep, j),
                load(gcurrent_later, j),
            )
            h_0, g_0, G_0 = learn_backward_at(
                (i, j), h, alpha, eta, x_later_0 * gcurrent_j, x_0, drive_j, decay_j, keep_j, bound, gh, geta
            )
            h_1, g_1, G_1 = zeros(h), zeros(h), zeros(h)
            if two:
                h_1, g_1, G_1 = learn_backward_at(
                    (i + 1, j), h, alpha, eta, x_later_1 * gcurrent_j, x_1, drive_j, decay_j, keep_j, bound, gh, geta
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


# -------------------------------------------------------------------------------- learning through an eligibility trace


@piece
def learn_retroactive(
    h_before: Array, h: Array, e_before: Array, e: Array, eta: Array, x_trace: Array, drive: Array, decay: Array,
    keep: Array, m: Array, kappa_e: Array, h_max: float,
) -> None:  # fmt: skip
    """
    ``h_ij <- clip((1 - rho_j) h_ij + eta_ij m_j e_ij)`` and
    ``e_ij <- (1 - kappa_e_j) e_ij + kappa_e_j (x_i b_j - g_j h_ij)``, both from the old h and e.
    """
    bound = splat(h_max)
    for i in range(h.shape[0]):
        x_i = splat(x_trace[i])
        for j in range(0, h.shape[1], LANES):
            h_ij, e_ij = load(h_before, (i, j)), load(e_before, (i, j))
            local = fnma(load(decay, j), h_ij, x_i * load(drive, j))
            store(h, (i, j), clip(fma(load(eta, (i, j)), load(m, j) * e_ij, load(keep, j) * h_ij), bound))
            store(e, (i, j), fma(load(kappa_e, j), local - e_ij, e_ij))


@piece
def learn_retroactive_backward(
    h: Array, e: Array, alpha: Array, eta: Array, x_later: Array, gcurrent_later: Array, x_trace: Array, drive: Array,
    decay: Array, keep: Array, m: Array, kappa_e: Array, h_max: float, gh: Array, ge: Array, geta: Array, sum_x:
    Array, sum_h: Array, sum_e: Array, gm: Array, want_gkeep: bool, gkeep: Array, want_gx_trace: bool, gx_trace:
    Array,
) -> None:  # fmt: skip
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
            gh_ij = fma(x_later_i * load(gcurrent_later, j), load(alpha, (i, j)), load(gh, (i, j)))
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
