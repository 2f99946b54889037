"""Compiled loops of the fused plastic scan: one row of the batch at a time, all steps and ticks of it in one call.

The equations are those of :func:`sb3_plastic.ops.reference.plastic_tick`, in its letters and order. Three choices make
them fast and keep them exact:

* The inner loop runs over postsynaptic neurons, which lie side by side in memory: that is what the compiler turns into
  vector instructions. The currents add up over presynaptic neurons one after the other, so that a row's result depends
  on nothing but the row: not on the batch, not on the number of threads, not on how a sequence is cut into calls.
* Each pass over the synapses is a function of its own that works in place. Passes that share the reading of weights
  were measured: forward they gain a tenth, backward they lose, for then the compiler no longer vectorises them.
* The backward pass (:mod:`sb3_plastic.ops.kernels_backward`) needs no fast weights but those at the start of each
  segment: it replays a segment with the functions of the forward pass, bit for bit, while it fits in the cache.

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


@jit()
def of_row(p, r):
    """Parameters of row r: each has a leading axis, of size 1 where all rows share it."""
    w, b, beta, alpha, eta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d = p
    return (
        w[r % len(w)], b[r % len(b)], beta[r % len(beta)], alpha[r % len(alpha)], eta[r % len(eta)],
        lam_pre[r % len(lam_pre)], lam_post[r % len(lam_post)], rho[r % len(rho)], kappa[r % len(kappa)],
        kappa_e[r % len(kappa_e)], a[r % len(a)], u[r % len(u)], c[r % len(c)], d[r % len(d)],
    )  # fmt: skip


# ----------------------------------------------------------------------------------------- pieces of one tick, in place


@jit()
def copy(target, source):
    """``target[:] = source`` without the compiler's care for overlap, which takes longer than the copy."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@jit()
def copy_matrix(target, source):
    """The same for two axes."""
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            target[i, j] = source[i, j]


@jit()
def gather(x_t, z, x):
    """Inputs of the tick: those from outside and, in a recurrent layer, the layer's own spikes after them."""
    M_in = x_t.shape[0]
    for i in range(M_in):
        x[i] = x_t[i]
    for j in range(x.shape[0] - M_in):
        x[M_in + j] = z[j]


@jit()
def spikes_of(v, threshold, z):
    """``z <- H(v - threshold)``."""
    one, zero = v.dtype.type(1), v.dtype.type(0)
    for j in range(v.shape[0]):
        z[j] = one if v[j] - threshold > zero else zero


@jit()
def fire(current, b, beta, threshold, v, z):
    """``v <- beta v - threshold z + I``, ``z <- H(v - threshold)``."""
    for j in range(v.shape[0]):
        v[j] = beta[j] * v[j] - threshold * z[j] + (current[j] + b[j])
    spikes_of(v, threshold, z)


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


@jit(forceinline=True)
def learned(h_ij, eta_ij, x_i, drive_j, decay_j, keep_j, h_max):
    """``clip((1 - rho_j) h_ij + eta_ij (x_i m_j b_j - m_j g_j h_ij))``; ``drive`` and ``decay`` include m."""
    return min(max(keep_j * h_ij + eta_ij * (x_i * drive_j - decay_j * h_ij), -h_max), h_max)


@jit(forceinline=True)
def learned_retroactive(h_ij, e_ij, eta_ij, x_i, drive_j, decay_j, keep_j, m_j, kappa_e_j, h_max):
    """``clip((1 - rho_j) h_ij + eta_ij m_j e_ij)`` and ``(1 - kappa_e_j) e_ij + kappa_e_j (x_i b_j - g_j h_ij)``."""
    h_new = min(max(keep_j * h_ij + eta_ij * (m_j * e_ij), -h_max), h_max)
    return h_new, (type(h_max)(1) - kappa_e_j) * e_ij + kappa_e_j * (x_i * drive_j - decay_j * h_ij)


@jit()
def learn(h, eta, x_trace, drive, decay, keep, h_max):
    """``h <- learned(h)``."""
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        for j in range(h.shape[1]):
            h[i, j] = learned(h[i, j], eta[i, j], x_i, drive[j], decay[j], keep[j], h_max)


@jit()
def learn_retroactive(h, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max):
    """``h, e <- learned_retroactive(h, e)``."""
    for i in range(h.shape[0]):
        x_i = x_trace[i]
        for j in range(h.shape[1]):
            h[i, j], e[i, j] = learned_retroactive(
                h[i, j], e[i, j], eta[i, j], x_i, drive[j], decay[j], keep[j], m[j], kappa_e[j], h_max
            )


# -------------------------------------------------------------------------------------------------------------- forward


@jit()
def forward(
    first, last, K, segment, x, starts, external, state, out, p, spikes, saved, local, modulation,
    keep_fast_weights, threshold, h_max, x_now, work
):  # fmt: skip
    """
    Rows ``first`` to ``last`` of a layer with fast weights.

    :param segment: steps per segment; 0 to save nothing for a backward pass
    :param x: [T, K or 1, B, M_in], with 1 if the input stays for the whole step
    :param external: [T, B, N or 1 or 0]
    :param state: the seven tensors of the incoming state; ``out`` those of the outgoing one
    :param p: the fourteen parameters, each with a leading axis of size B or 1
    :param saved: v [B, T, K, N], in which each row is in one piece since the backward pass reads it often; and x_trace,
        y_trace, theta, h, e at the start of each segment after the first
    :param local: the rule, (y, theta, b, g) over all neurons
    :param x_now: [M], ``work``: six of [N], without content
    """
    saved_v, saved_x_trace, saved_y_trace, saved_theta, saved_h, saved_e = saved
    T, K_x = x.shape[0], x.shape[1]
    retroactive = modulation == MODULATION_RETROACTIVE
    current, drive, decay, keep, m, flat = work
    one = current.dtype.type(1)
    flat[:] = current.dtype.type(0)

    for r in range(first, last):
        w, b, beta, alpha, eta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d = of_row(p, r)
        v, z, x_trace, y_trace = out[0][r], out[1][r], out[2][r], out[3][r]
        theta, h, e = out[4][r], out[5][r], out[6][r]
        copy(v, state[0][r])
        copy(z, state[1][r])
        copy(x_trace, state[2][r])
        copy(y_trace, state[3][r])
        copy(theta, state[4][r])
        copy_matrix(h, state[5][r])
        copy_matrix(e, state[6][r])
        threshold_trace = theta if theta.shape[0] else flat
        for j in range(keep.shape[0]):
            keep[j] = one - rho[j]

        for t in range(T):
            if segment and t and t % segment == 0:
                s = t // segment - 1
                copy(saved_x_trace[s, r], x_trace)
                copy(saved_y_trace[s, r], y_trace)
                copy(saved_theta[s, r], theta)
                copy_matrix(saved_h[s, r], h)
                copy_matrix(saved_e[s, r], e)
            if starts[t, r]:
                v[:], z[:], x_trace[:], y_trace[:] = 0, 0, 0, 0
                if not keep_fast_weights:
                    theta[:], h[:], e[:] = 0, 0, 0
            for k in range(K):
                gather(x[t, k % K_x, r], z, x_now)
                currents(h, w, alpha, x_now, current)
                fire(current, b, beta, threshold, v, z)
                copy(spikes[t, k, r], z)
                if segment:
                    copy(saved_v[r, t, k], v)
                leak(x_trace, lam_pre, x_now)
                leak(y_trace, lam_post, z)
                modulate(modulation, y_trace, a, u, c, d, m)
                if external.shape[2]:
                    for j in range(m.shape[0]):
                        m[j] *= external[t, r, j % external.shape[2]]
                local(y_trace, threshold_trace, drive, decay)
                if retroactive:
                    learn_retroactive(h, e, eta, x_trace, drive, decay, keep, m, kappa_e, h_max)
                else:
                    for j in range(m.shape[0]):
                        drive[j] *= m[j]
                        decay[j] *= m[j]
                    learn(h, eta, x_trace, drive, decay, keep, h_max)
                slide(theta, kappa, y_trace)


@jit()
def static_forward(
    first, last, K, save, x, starts, state, out, p, spikes, saved_v, threshold, x_now, current
):  # fmt: skip
    """Rows ``first`` to ``last`` of a layer without fast weights; see :func:`forward`."""
    w_, b_, beta_ = p[0], p[1], p[2]
    T, K_x = x.shape[0], x.shape[1]
    recurrent = x_now.shape[0] > x.shape[3]
    for r in range(first, last):
        w, b, beta = w_[r % w_.shape[0]], b_[r % b_.shape[0]], beta_[r % beta_.shape[0]]
        v, z = out[0][r], out[1][r]
        copy(v, state[0][r])
        copy(z, state[1][r])
        for t in range(T):
            if starts[t, r]:
                v[:], z[:] = 0, 0
            for k in range(K):
                if k == 0 or K_x > 1 or recurrent:
                    gather(x[t, k % K_x, r], z, x_now)
                    static_currents(w, x_now, current)
                fire(current, b, beta, threshold, v, z)
                copy(spikes[t, k, r], z)
                if save:
                    copy(saved_v[r, t, k], v)
