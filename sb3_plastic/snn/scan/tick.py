"""The pieces of a tick that concern single neurons and inputs, each beside its backward, in place.

Names and order are those of :func:`sb3_plastic.snn.scan.reference.plastic_tick`; ``gx`` is the gradient of the loss
with respect to ``x``. Vectors are padded (:func:`sb3_plastic.snn.scan.simd.padded`) unless said otherwise.
"""

# Without `from __future__ import annotations`: the annotations of the workspaces are read (``axes_of``).
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from sb3_plastic.snn.scan.compile import inlined, piece
from sb3_plastic.snn.scan.simd import LANES, call_at, fma, fnma, load, splat, step, store, total, zeros

MODULATION_NONE, MODULATION_SIMPLE, MODULATION_RETROACTIVE = range(3)
MODULATIONS = {"none": MODULATION_NONE, "simple": MODULATION_SIMPLE, "retroactive": MODULATION_RETROACTIVE}

# ------------------------------------------------------------------------------------------- workspaces, one per thread

Inputs = Annotated[Any, "M"]  # padded
Neurons = Annotated[Any, "N"]
PlasticInputs = Annotated[Any, "M_p"]  # 0 in a static layer
PlasticNeurons = Annotated[Any, "N_p"]
FastWeights = Annotated[Any, "I_p N_p"]
Eligibility = Annotated[Any, "I_e N_e"]
TickInputs = Annotated[Any, "L M"]
TickNeurons = Annotated[Any, "L N"]
TickScalars = Annotated[Any, "L"]
TickPlasticInputs = Annotated[Any, "L M_p"]
TickPlasticNeurons = Annotated[Any, "L N_p"]
TickFastWeights = Annotated[Any, "L+1 I_p N_p"]
TickEligibility = Annotated[Any, "L+1 I_e N_e"]


class Tick(NamedTuple):
    """What the tick that is being computed needs beside the state."""

    x: Inputs  # the layer's own spikes among them, if it is recurrent
    current: Neurons
    drive: PlasticNeurons  # b of the rule, times m unless the modulation is retroactive
    decay: PlasticNeurons  # g of the rule, likewise
    m: PlasticNeurons  # modulator
    keep: PlasticNeurons  # 1 - rho


class Start(NamedTuple):
    """Of a state, what does not follow from the saved membranes: what checkpoints are made of."""

    x_trace: PlasticInputs
    y_trace: PlasticNeurons
    theta: PlasticNeurons
    h: FastWeights
    e: Eligibility


class Ticks(NamedTuple):
    """What the replay of a segment of L ticks writes down of each, for the walk back."""

    x: TickInputs
    v_before: TickPlasticNeurons  # membranes before the tick
    z_before: TickPlasticNeurons
    z: TickPlasticNeurons
    x_trace_before: TickPlasticInputs
    x_trace: TickPlasticInputs
    y_trace_before: TickPlasticNeurons
    y_trace: TickPlasticNeurons
    theta_before: TickPlasticNeurons
    drive: TickPlasticNeurons  # b and g of the rule
    decay: TickPlasticNeurons
    signal: TickScalars  # tanh of the modulator
    own: TickPlasticNeurons  # modulator without the external one
    m: TickPlasticNeurons
    m_drive: TickPlasticNeurons  # m b and m g
    m_decay: TickPlasticNeurons
    fresh: TickScalars  # 1 where fast weights start at 0, with an episode
    h: TickFastWeights  # before the tick; the last one after all
    e: TickEligibility
    gcurrent: TickNeurons  # set by the walk back


class Walk(NamedTuple):
    """What a tick of the walk back needs beside the gradient of the state."""

    gx: Inputs
    x_later: PlasticInputs  # input of the tick that comes after, whose share of gh is still to come
    gcurrent_later: PlasticNeurons
    gcurrent: Neurons
    gz: Neurons  # of the tick's own spikes
    slope: Neurons  # the surrogate's derivative
    gm: PlasticNeurons
    sum_x: PlasticNeurons  # sum_i G_ij x_i, of learn_backward
    sum_h: PlasticNeurons
    sum_e: PlasticNeurons
    db_dy: PlasticNeurons  # derivatives of the rule
    db_dtheta: PlasticNeurons
    dg_dy: PlasticNeurons
    dg_dtheta: PlasticNeurons


def axes_of(workspace: Any) -> dict[str, list[str]]:
    """
    :param workspace: one of the classes above
    :return: names of the axes of each of its arrays: M and N padded, I the inputs as rows of a matrix
    """
    return {name: of.__metadata__[0].split() for name, of in workspace.__annotations__.items()}


# ------------------------------------------------------------------------------------------------ set to zero, and copy


@inlined
def reset(vector: Array) -> None:
    """Set a vector to 0."""
    for j in range(0, vector.shape[0], LANES):
        store(vector, j, zeros(vector))


@piece
def reset_matrix(matrix: Array) -> None:
    """Set a matrix to 0."""
    for i in range(matrix.shape[0]):
        reset(matrix[i])


@piece
def copy(target: Array, source: Array) -> None:
    """Copy the numbers that both have, whether padded or not; a longer ``target`` goes on with zeros."""
    n = min(target.shape[0], source.shape[0])
    for i in range(n):
        target[i] = source[i]
    for i in range(n, target.shape[0]):
        target[i] = 0


@piece
def copy_matrix(target: Array, source: Array) -> None:
    """``copy`` for each row of ``target``."""
    for i in range(target.shape[0]):
        copy(target[i], source[i])


@piece
def clear(p: Any) -> None:
    """Set parameters of a layer, or their gradients, to 0."""
    for matrix in (p.w, p.alpha, p.eta):
        reset_matrix(matrix)
    for vector in (p.b, p.beta, p.lam_pre, p.lam_post, p.rho, p.kappa, p.kappa_e, p.a, p.u, p.c, p.d):
        reset(vector)


@inlined
def move(target: Array, source: Array) -> None:
    """``copy`` for two vectors that are padded alike."""
    for j in range(0, target.shape[0], LANES):
        store(target, j, load(source, j))


@inlined
def multiply(target: Array, factor: Array) -> None:
    """``target <- factor target``."""
    for j in range(0, target.shape[0], LANES):
        store(target, j, load(factor, j) * load(target, j))


# ----------------------------------------------------------------------------------------------------- inputs of a tick


@inlined
def gather(x_t: Array, z: Array, x: Array) -> None:
    """``x <- (x_t, z)``: inputs from outside and, in a recurrent layer, the layer's own spikes. None is padded."""
    M_in = x_t.shape[0]
    for i in range(M_in):
        x[i] = x_t[i]
    for j in range(x.shape[0] - M_in):
        x[M_in + j] = z[j]


@inlined
def scatter(gx: Array, add: bool, gx_t: Array, gz: Array) -> None:
    """Backward of ``gather``; ``add`` to ``gx_t``: at all but the last tick, if the input stays for the whole step."""
    M_in = gx_t.shape[0]
    for i in range(M_in):
        gx_t[i] = gx_t[i] + gx[i] if add else gx[i]
    for j in range(gx.shape[0] - M_in):
        gz[j] += gx[M_in + j]


# --------------------------------------------------------------------------------------------------------------- neuron


@inlined
def spikes_of(v: Array, threshold: float, z: Array) -> None:
    """``z <- H(v - threshold)``."""
    bound = splat(threshold)
    for j in range(0, v.shape[0], LANES):
        store(z, j, step(load(v, j), bound))


@inlined
def fire(current: Array, b: Array, beta: Array, threshold: float, v: Array, z: Array) -> None:
    """``v <- beta v - threshold z + current + b``, ``z <- H(v - threshold)``."""
    bound = splat(threshold)
    for j in range(0, v.shape[0], LANES):
        total_current = load(current, j) + load(b, j) - bound * load(z, j)
        store(v, j, fma(load(beta, j), load(v, j), total_current))
    spikes_of(v, threshold, z)


@inlined
def fire_backward(
    v: Array, v_before: Array, beta: Array, threshold: float, detach_reset: bool, surrogate: int, gv: Array, gz: Array,
    gz_now: Array, gcurrent: Array, gb: Array, gbeta: Array, slope: Array,
) -> None:  # fmt: skip
    """
    Backward of ``fire``: turns ``gv``, ``gz`` into those before the tick, ``gz_now`` being a further part of ``gz``;
    sets ``gcurrent``, adds to ``gb``, ``gbeta``. ``slope`` is room for the surrogate's derivative at ``v - threshold``.
    """
    bound = splat(threshold)
    for j in range(0, v.shape[0], LANES):
        store(gcurrent, j, load(v, j) - bound)
    call_at(surrogate, (gcurrent, slope), v.shape[0])
    reset = zeros(v) if detach_reset else splat(-threshold)
    for j in range(0, v.shape[0], LANES):
        g = fma(load(gz, j) + load(gz_now, j), load(slope, j), load(gv, j))
        store(gcurrent, j, g)
        store(gb, j, load(gb, j) + g)
        store(gbeta, j, fma(g, load(v_before, j), load(gbeta, j)))
        store(gz, j, reset * g)
        store(gv, j, g * load(beta, j))


@inlined
def before_tick(
    t: int, k: int, saved_v: Array, v_0: Array, z_0: Array, starts: bool, threshold: float, v: Array, z: Array
) -> None:
    """Set ``v``, ``z`` to those before tick k of step t: from the saved membranes or, at first, ``v_0`` and ``z_0``."""
    if k == 0 and starts:
        reset(v)
        reset(z)
    elif k == 0 and t == 0:
        copy(v, v_0)
        copy(z, z_0)
    else:
        move(v, saved_v[t, k - 1] if k > 0 else saved_v[t - 1, -1])
        spikes_of(v, threshold, z)


# --------------------------------------------------------------------------------------------------------------- traces


@inlined
def leak(trace: Array, rate: Array, target: Array) -> None:
    """``trace <- rate trace + (1 - rate) target``."""
    for i in range(0, trace.shape[0], LANES):
        target_i = load(target, i)
        store(trace, i, fma(load(rate, i), load(trace, i) - target_i, target_i))


@inlined
def leak_backward(rate: Array, before: Array, target: Array, gtrace: Array, grate: Array, gtarget: Array) -> None:
    """Backward of ``leak``: turns ``gtrace`` into that before the tick; adds to ``grate`` and ``gtarget``."""
    for i in range(0, rate.shape[0], LANES):
        g, rate_i = load(gtrace, i), load(rate, i)
        store(grate, i, fma(g, load(before, i) - load(target, i), load(grate, i)))
        store(gtarget, i, load(gtarget, i) + fnma(g, rate_i, g))
        store(gtrace, i, g * rate_i)


# ------------------------------------------------------------------------------------------------------------ modulator


@inlined
def modulate(modulation: int, y_trace: Array, a: Array, u: Array, c: Array, d: Array, m: Array) -> float:
    """``m_j <- a_j tanh(sum_k u_k y_k + c) + d_j``, or 1; returns the signal, the tanh."""
    if modulation == MODULATION_NONE:
        m[:] = m.dtype.type(1)
        return m.dtype.type(0)
    sums = zeros(m)
    for j in range(0, y_trace.shape[0], LANES):
        sums = fma(load(u, j), load(y_trace, j), sums)
    signal = np.tanh(total(sums) + c[0])
    for j in range(0, y_trace.shape[0], LANES):
        store(m, j, fma(load(a, j), splat(signal), load(d, j)))
    return signal


@inlined
def modulate_backward(
    signal: float, y_trace: Array, a: Array, u: Array, gm: Array, gy_trace: Array, ga: Array, gu: Array, gc: Array,
    gd: Array,
) -> None:  # fmt: skip
    """Backward of ``modulate``; adds to all of ``gy_trace``, ``ga``, ``gu``, ``gc``, ``gd``."""
    signals = splat(signal)
    sums = zeros(gm)
    for j in range(0, y_trace.shape[0], LANES):
        gm_j = load(gm, j)
        store(ga, j, fma(gm_j, signals, load(ga, j)))
        store(gd, j, load(gd, j) + gm_j)
        sums = fma(gm_j, load(a, j), sums)
    g = total(sums)
    g -= g * signal * signal
    gc[0] += g
    g_j = splat(g)
    for j in range(0, y_trace.shape[0], LANES):
        store(gu, j, fma(g_j, load(y_trace, j), load(gu, j)))
        store(gy_trace, j, fma(g_j, load(u, j), load(gy_trace, j)))


@inlined
def modulate_externally(m: Array, external: Array, N: int) -> None:
    """``m_j <- m_j external_j``, for the N neurons; ``external`` has N numbers, or one for all, or none."""
    E = external.shape[0]
    if E:
        for j in range(N):
            m[j] *= external[j % E]


@inlined
def modulate_externally_backward(own: Array, external: Array, N: int, gm: Array, gexternal: Array) -> None:
    """Backward of ``modulate_externally``: turns ``gm`` into that of the layer's ``own`` m; adds to ``gexternal``."""
    E = external.shape[0]
    if E:
        for j in range(N):
            gexternal[j % E] += gm[j] * own[j]
            gm[j] *= external[j % E]


# --------------------------------------------------------------------------------------------------- rule and threshold


@inlined
def rule_of(local: int, y_trace: Array, theta: Array, drive: Array, decay: Array) -> None:
    """``drive, decay <- b, g`` of the rule, whose function over all neurons is at the address ``local``."""
    call_at(local, (y_trace, theta, drive, decay), y_trace.shape[0])


@inlined
def rule_backward(
    derivative: int, y_trace: Array, theta: Array, scale: Array, sum_x: Array, sum_h: Array, db_dy: Array,
    db_dtheta: Array, dg_dy: Array, dg_dtheta: Array, gy_trace: Array, gtheta: Array,
) -> None:  # fmt: skip
    """
    Backward of ``rule_of``, whose drive has the gradient ``scale sum_x`` and whose decay has ``-scale sum_h``; adds to
    ``gy_trace``, ``gtheta``. The four derivatives are room for what the function at the address ``derivative`` sets.
    """
    call_at(derivative, (y_trace, theta, db_dy, db_dtheta, dg_dy, dg_dtheta), y_trace.shape[0])
    for j in range(0, gy_trace.shape[0], LANES):
        gb = load(scale, j) * load(sum_x, j)
        minus_gg = load(scale, j) * load(sum_h, j)
        store(gy_trace, j, fnma(minus_gg, load(dg_dy, j), fma(gb, load(db_dy, j), load(gy_trace, j))))
        store(gtheta, j, fnma(minus_gg, load(dg_dtheta, j), fma(gb, load(db_dtheta, j), load(gtheta, j))))


@piece
def slide(theta: Array, kappa: Array, y_trace: Array) -> None:
    """``theta <- (1 - kappa) theta + kappa y^2``."""
    for j in range(0, theta.shape[0], LANES):
        theta_j, y_j = load(theta, j), load(y_trace, j)
        store(theta, j, fma(load(kappa, j), y_j * y_j - theta_j, theta_j))


@piece
def slide_backward(
    kappa: Array, y_trace: Array, theta_before: Array, gtheta: Array, gkappa: Array, gy_trace: Array
) -> None:
    """Backward of ``slide``: turns ``gtheta`` into that before the tick; adds to ``gkappa`` and ``gy_trace``."""
    for j in range(0, kappa.shape[0], LANES):
        g, y_j = load(gtheta, j), load(y_trace, j)
        learned = g * load(kappa, j)
        store(gkappa, j, fma(g, y_j * y_j - load(theta_before, j), load(gkappa, j)))
        store(gy_trace, j, fma(learned, y_j + y_j, load(gy_trace, j)))
        store(gtheta, j, g - learned)
