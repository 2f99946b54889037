"""The kernels of a layer with fast weights, forward and backward: one row of the batch, all its steps and ticks.

The equations are those of :func:`sb3_plastic.snn.scan.reference.plastic_tick`, in its letters and order; each stands in
`tick.py` (neurons, traces, modulator, rule) or `synapses.py` (currents, learning), beside its backward. A kernel reads
what it needs from the record ``call`` (`call.py`), whose ``threshold`` also says of what type the numbers are. A row's
result depends on nothing but the row: not on the batch, the number of threads, or how a sequence is cut into calls.

The backward pass needs no fast weights but those of the checkpoints, one per interval of many steps. An interval is cut
into segments, whose fast weights fit in the cache. From the last segment to the first it *restores* the state at the
segment's start, *replays* the segment with the functions of the forward pass, bit for bit, and *walks back* through it.
"""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from sb3_plastic.snn.scan import synapses, tick
from sb3_plastic.snn.scan.compile import expanded, inlined, jit, piece
from sb3_plastic.snn.scan.reference import LayerParameters
from sb3_plastic.snn.scan.simd import flush_subnormals, restore_mode, row, rows, take
from sb3_plastic.snn.scan.static import static_forward
from sb3_plastic.snn.scan.tick import clear, copy, copy_matrix, move, reset, reset_matrix
from sb3_plastic.snn.state import LayerState

# -------------------------------------------------------------------------------------------------------------- forward


@inlined
def at(starts: tick.Start, i: int) -> tick.Start:
    """The i-th of several."""
    return tick.Start(starts.x_trace[i], starts.y_trace[i], starts.theta[i], starts.h[i], starts.e[i])


@piece
def copy_start(target: tick.Start, source: tick.Start) -> None:
    """``copy`` of each of its arrays."""
    copy(target.x_trace, source.x_trace)
    copy(target.y_trace, source.y_trace)
    copy(target.theta, source.theta)
    copy_matrix(target.h, source.h)
    copy_matrix(target.e, source.e)


@piece
def forward(call: Any, thread: int, r: int) -> None:
    """Row r: sets spikes, the outgoing state and, where a backward pass follows, membranes and checkpoints."""
    number, T, K, N, h_max = call.threshold, call.T, call.K, call.N, call.h_max
    x, external, episode_start = row(call.x, 0, number), row(call.external, 0, number), row(call.episode_start, 0, True)
    p, state = rows(LayerParameters, call.p, r, number), rows(LayerState, call.state, r, number)
    spikes, out = row(call.spikes, 0, number), rows(LayerState, call.out, r, number)
    saved_v, checkpoints = row(call.saved_v, r, number), rows(tick.Start, call.checkpoints, r, number)
    now, work = rows(LayerState, call.now, thread, number), rows(tick.Tick, call.tick, thread, number)
    K_x, M, interval = x.shape[1], p.w.shape[0], call.interval
    retroactive = call.modulation == tick.MODULATION_RETROACTIVE

    # The fast weights are worked on where they go, if they need no padding; the first tick then reads the incoming ones
    # where they are, which saves a copy.
    h_before, e_before, h, e = state.h, state.e, out.h, out.e
    if h.shape[1] != now.h.shape[1]:
        h, e = now.h, now.e
        copy_matrix(h, state.h)
        copy_matrix(e, state.e)
        h_before, e_before = h, e
    copy(now.v, state.v)
    copy(now.z, state.z)
    copy(now.x_trace, state.x_trace)
    copy(now.y_trace, state.y_trace)
    copy(now.theta, state.theta)
    reset(work.x)
    for j in range(p.rho.shape[0]):
        work.keep[j] = 1 - p.rho[j]

    for t in range(T):
        if interval and t and t % interval == 0:
            copy_start(at(checkpoints, t // interval - 1), tick.Start(now.x_trace, now.y_trace, now.theta, h, e))
        if episode_start[t, r]:
            reset(now.v)
            reset(now.z)
            reset(now.x_trace)
            reset(now.y_trace)
            if not call.keep_fast_weights:
                reset(now.theta)
                reset_matrix(h)
                reset_matrix(e)
                h_before, e_before = h, e
        for k in range(K):
            if k == 0 or retroactive:
                tick.gather(x[t, k % K_x, r], now.z, work.x[:M])
                synapses.currents(h_before, p.w, p.alpha, work.x, work.current)
            tick.fire(work.current, p.b, p.beta, call.threshold, now.v, now.z)
            copy(spikes[t, k, r], now.z)
            if interval:
                move(saved_v[t, k], now.v)
            tick.leak(now.x_trace, p.lam_pre, work.x)
            tick.leak(now.y_trace, p.lam_post, now.z)
            tick.modulate(call.modulation, now.y_trace, p.a, p.u, p.c, p.d, work.m)
            tick.modulate_externally(work.m, external[t, r], N)
            tick.rule_of(call.local, now.y_trace, now.theta, work.drive, work.decay)
            if retroactive:
                synapses.learn_retroactive(
                    h_before, h, e_before, e, p.eta, now.x_trace, work.drive, work.decay, work.keep, work.m, p.kappa_e,
                    h_max,
                )  # fmt: skip
            else:
                tick.multiply(work.drive, work.m)
                tick.multiply(work.decay, work.m)
                if k < K - 1:
                    tick.gather(x[t, (k + 1) % K_x, r], now.z, work.x[:M])
                    synapses.learn_and_currents(
                        h_before, h, p.w, p.alpha, p.eta, now.x_trace, work.drive, work.decay, work.keep, h_max, work.x,
                        work.current,
                    )  # fmt: skip
                else:
                    synapses.learn(h_before, h, p.eta, now.x_trace, work.drive, work.decay, work.keep, h_max)
            h_before, e_before = h, e
            if call.sliding:
                tick.slide(now.theta, p.kappa, now.y_trace)

    copy(out.v, now.v)
    copy(out.z, now.z)
    copy(out.x_trace, now.x_trace)
    copy(out.y_trace, now.y_trace)
    copy(out.theta, now.theta)
    if out.h.shape[1] != now.h.shape[1]:
        copy_matrix(out.h, h)
        copy_matrix(out.e, e)


@jit()
def forward_queue(queue: Array, count: int, thread: int, calls: Array) -> None:
    """``forward`` of the rows, ``count`` in all, that this thread takes from the queue; ``calls`` holds one record."""
    mode = flush_subnormals()
    r = take(queue)
    while r < count:
        forward(calls[0], thread, r)
        r = take(queue)
    restore_mode(mode)


@jit()
def network_forward(calls: Array) -> None:
    """All rows of layers one after the other, each with a record of its own; a static layer has no rule: address 0."""
    mode = flush_subnormals()
    for i in range(len(calls)):
        call = calls[i]
        for r in range(call.B):
            if call.local == 0:
                static_forward(call, 0, r)
            else:
                forward(call, 0, r)
    restore_mode(mode)


# ------------------------------------------------------------------------------------------------------------- backward


@jit()
def backward_queue(queue: Array, count: int, thread: int, calls: Array) -> None:
    """
    Backward of ``forward``, of the groups, ``count`` in all, that this thread takes from the queue. A group is some
    rows one after the other, whose gradients of the parameters add up in one order.
    """
    mode = flush_subnormals()
    call = calls[0]
    reset_matrix(rows(tick.Ticks, call.ticks, thread, call.threshold).x)  # For what it is padded with.
    reset(rows(tick.Walk, call.walk, thread, call.threshold).gx)
    group = take(queue)
    while group < count:
        gp = rows(LayerParameters, call.gp, group, call.threshold)
        clear(gp)
        for r in range(group * call.B // count, (group + 1) * call.B // count):
            backward(call, thread, group, r)
        for j in range(gp.rho.shape[0]):
            gp.rho[j] *= -1  # so far it was that of 1 - rho
        group = take(queue)
    restore_mode(mode)


@inlined
def fast_weights_of(of_row: Array, workspace: Array) -> Array:
    """Where the gradient of fast weights is worked on: in the row's own place, if that needs no padding."""
    return of_row if of_row.shape[1] == workspace.shape[1] else workspace


@expanded
def backward(call: Any, thread: int, group: int, r: int) -> None:
    """Row r: turns ``gstate`` from that of the outgoing state into that of the incoming one; adds to ``gp``."""
    number = call.threshold
    p, gstate = rows(LayerParameters, call.p, r, number), rows(LayerState, call.gstate, r, number)
    g, starts = rows(LayerState, call.g, thread, number), rows(tick.Start, call.starts, thread, number)
    work, walk = rows(tick.Tick, call.tick, thread, number), rows(tick.Walk, call.walk, thread, number)
    gh, ge = fast_weights_of(gstate.h, g.h), fast_weights_of(gstate.e, g.e)
    if gstate.h.shape[1] != g.h.shape[1]:
        copy_matrix(gh, gstate.h)
    if gstate.e.shape[1] != g.e.shape[1]:
        copy_matrix(ge, gstate.e)
    copy(g.v, gstate.v)
    copy(g.z, gstate.z)
    copy(g.x_trace, gstate.x_trace)
    copy(g.y_trace, gstate.y_trace)
    copy(g.theta, gstate.theta)
    reset(walk.x_later)
    reset(walk.gcurrent_later)
    for j in range(p.rho.shape[0]):
        work.keep[j] = 1 - p.rho[j]

    for s in range((call.T - 1) // call.segment, -1, -1):
        first = restore(call, thread, r, s)
        for i in range(first, s + 1):
            if i < s:
                copy_start(at(starts, i - first), replayed(call, thread))
            replay(call, thread, r, i, int(i == s))
        walk_back(call, thread, group, r, s)

    copy(gstate.v, g.v)
    copy(gstate.z, g.z)
    copy(gstate.x_trace, g.x_trace)
    copy(gstate.y_trace, g.y_trace)
    copy(gstate.theta, g.theta)
    if gstate.h.shape[1]:
        synapses.fast_weights_backward(p.alpha, walk.x_later, walk.gcurrent_later, gh)
    if gstate.h.shape[1] != g.h.shape[1]:
        copy_matrix(gstate.h, gh)
    if gstate.e.shape[1] != g.e.shape[1]:
        copy_matrix(gstate.e, ge)


# ------------------------------------------------------------------------------------------- restore, replay, walk back


@inlined
def replayed(call: Any, thread: int) -> tick.Start:
    """What a replay begins with and goes on with; its fast weights are those of the segment's first tick."""
    now = rows(LayerState, call.now, thread, call.threshold)
    ticks = rows(tick.Ticks, call.ticks, thread, call.threshold)
    return tick.Start(now.x_trace, now.y_trace, now.theta, ticks.h[0], ticks.e[0])


@expanded
def restore(call: Any, thread: int, r: int, s: int) -> int:
    """
    Restore the state from which segment s can be reached, and return the segment that it is the start of: s itself, or
    the first of the checkpoint interval when its last segment is asked for; the others' starts are kept on that way.
    """
    number = call.threshold
    per_interval, last = call.interval // call.segment, (call.T - 1) // call.segment
    first = s - s % per_interval
    if s > first and s != last and s != first + per_interval - 1:
        copy_start(replayed(call, thread), at(rows(tick.Start, call.starts, thread, number), s - first))
        return s
    if first > 0:
        checkpoints = rows(tick.Start, call.checkpoints, r, number)
        copy_start(replayed(call, thread), at(checkpoints, first // per_interval - 1))
    else:
        copy_start(replayed(call, thread), rows(tick.Start, call.state, r, number))
    return first


@expanded
def replay(call: Any, thread: int, r: int, s: int, keep_all: int) -> None:
    """
    Go through segment s again, and write down what each tick computes. With ``keep_all`` 0 in place of 1, only the last
    fast weights are kept, in the place of the first: on the way to a later segment.
    """
    number, T, K, h_max = call.threshold, call.T, call.K, call.h_max
    x, external, episode_start = row(call.x, 0, number), row(call.external, 0, number), row(call.episode_start, 0, True)
    p, state = rows(LayerParameters, call.p, r, number), rows(LayerState, call.state, r, number)
    saved_v, work = row(call.saved_v, r, number), rows(tick.Tick, call.tick, thread, number)
    now, ticks = rows(LayerState, call.now, thread, number), rows(tick.Ticks, call.ticks, thread, number)
    K_x, M, retroactive = x.shape[1], p.w.shape[0], call.modulation == tick.MODULATION_RETROACTIVE
    n = 0
    for t in range(s * call.segment, min((s + 1) * call.segment, T)):
        if episode_start[t, r]:
            reset(now.x_trace)
            reset(now.y_trace)
            if not call.keep_fast_weights:
                reset(now.theta)
                reset_matrix(ticks.e[n * keep_all])
        for k in range(K):
            ticks.fresh[n] = k == 0 and episode_start[t, r] and not call.keep_fast_weights
            move(ticks.x_trace_before[n], now.x_trace)
            move(ticks.y_trace_before[n], now.y_trace)
            move(ticks.theta_before[n], now.theta)
            tick.before_tick(
                t, k, saved_v, state.v, state.z, episode_start[t, r], call.threshold, ticks.v_before[n],
                ticks.z_before[n],
            )  # fmt: skip
            tick.spikes_of(saved_v[t, k], call.threshold, ticks.z[n])
            tick.gather(x[t, k % K_x, r], ticks.z_before[n], ticks.x[n, :M])
            tick.leak(now.x_trace, p.lam_pre, ticks.x[n])
            tick.leak(now.y_trace, p.lam_post, ticks.z[n])
            move(ticks.x_trace[n], now.x_trace)
            move(ticks.y_trace[n], now.y_trace)
            drive, decay, m = ticks.drive[n], ticks.decay[n], ticks.m[n]
            ticks.signal[n] = tick.modulate(call.modulation, now.y_trace, p.a, p.u, p.c, p.d, ticks.own[n])
            move(m, ticks.own[n])
            tick.modulate_externally(m, external[t, r], call.N)
            tick.rule_of(call.local, now.y_trace, now.theta, drive, decay)
            if retroactive:
                h, h_after = ticks.h[n * keep_all], ticks.h[(n + 1) * keep_all]
                e, e_after = ticks.e[n * keep_all], ticks.e[(n + 1) * keep_all]
                if ticks.fresh[n] != 0:
                    reset_matrix(h)
                synapses.learn_retroactive(
                    h, h_after, e, e_after, p.eta, now.x_trace, drive, decay, work.keep, m, p.kappa_e, h_max
                )  # fmt: skip
            else:
                move(ticks.m_drive[n], drive)
                move(ticks.m_decay[n], decay)
                tick.multiply(ticks.m_drive[n], m)
                tick.multiply(ticks.m_decay[n], m)
            if call.sliding:
                tick.slide(now.theta, p.kappa, now.y_trace)
            n += 1
    if not retroactive:
        synapses.learn_segment(
            n, ticks.fresh, keep_all, ticks.h, p.eta, ticks.x_trace, ticks.m_drive, ticks.m_decay, work.keep, h_max
        )  # fmt: skip


@expanded
def walk_back(call: Any, thread: int, group: int, r: int, s: int) -> None:
    """Go back through segment s, which has been replayed, tick by tick: the backward of each piece in reverse order."""
    number, T, K, N, h_max = call.threshold, call.T, call.K, call.N, call.h_max
    x, external, episode_start = row(call.x, 0, number), row(call.external, 0, number), row(call.episode_start, 0, True)
    gx, gspikes, gexternal = row(call.gx, 0, number), row(call.gspikes, 0, number), row(call.gexternal, 0, number)
    p, gp = rows(LayerParameters, call.p, r, number), rows(LayerParameters, call.gp, group, number)
    g, gstate = rows(LayerState, call.g, thread, number), rows(LayerState, call.gstate, r, number)
    ticks, walk = rows(tick.Ticks, call.ticks, thread, number), rows(tick.Walk, call.walk, thread, number)
    saved_v, keep = row(call.saved_v, r, number), rows(tick.Tick, call.tick, thread, number).keep
    gh, ge = fast_weights_of(gstate.h, g.h), fast_weights_of(gstate.e, g.e)
    K_x, M, retroactive = x.shape[1], p.w.shape[0], call.modulation == tick.MODULATION_RETROACTIVE
    want_grho, want_gx_trace, want_gx = call.want_grho, call.want_gx_trace, call.want_gx
    t_first, t_last = s * call.segment, min((s + 1) * call.segment, T)
    n = (t_last - t_first) * K
    for t in range(t_last - 1, t_first - 1, -1):
        for k in range(K - 1, -1, -1):
            n -= 1
            y_trace, drive, decay, m = ticks.y_trace[n], ticks.drive[n], ticks.decay[n], ticks.m[n]
            if call.sliding:
                tick.slide_backward(p.kappa, y_trace, ticks.theta_before[n], g.theta, gp.kappa, g.y_trace)

            # Fast weights, and the rule.
            if retroactive:
                synapses.learn_retroactive_backward(
                    ticks.h[n], ticks.e[n], p.alpha, p.eta, walk.x_later, walk.gcurrent_later, ticks.x_trace[n], drive,
                    decay, keep, m, p.kappa_e, h_max, gh, ge, gp.eta, walk.sum_x, walk.sum_h, walk.sum_e, walk.gm,
                    want_grho, gp.rho, want_gx_trace, g.x_trace,
                )  # fmt: skip
                for j in range(gp.kappa_e.shape[0]):
                    gp.kappa_e[j] += drive[j] * walk.sum_x[j] - decay[j] * walk.sum_h[j] - walk.sum_e[j]
                scale = p.kappa_e
            else:
                synapses.learn_backward(
                    ticks.h[n], p.alpha, p.eta, walk.x_later, walk.gcurrent_later, ticks.x_trace[n], ticks.m_drive[n],
                    ticks.m_decay[n], keep, h_max, gh, gp.eta, walk.sum_x, walk.sum_h, want_grho, gp.rho, want_gx_trace,
                    g.x_trace,
                )  # fmt: skip
                for j in range(walk.gm.shape[0]):
                    walk.gm[j] = drive[j] * walk.sum_x[j] - decay[j] * walk.sum_h[j]
                scale = m
            tick.rule_backward(
                call.derivative, y_trace, ticks.theta_before[n], scale, walk.sum_x, walk.sum_h, walk.db_dy,
                walk.db_dtheta, walk.dg_dy, walk.dg_dtheta, g.y_trace, g.theta,
            )  # fmt: skip

            # Modulator, traces, neuron, currents.
            tick.modulate_externally_backward(ticks.own[n], external[t, r], N, walk.gm, gexternal[t, r])
            if call.modulation != tick.MODULATION_NONE:
                tick.modulate_backward(ticks.signal[n], y_trace, p.a, p.u, walk.gm, g.y_trace, gp.a, gp.u, gp.c, gp.d)
            copy(walk.gz, gspikes[t, k, r])
            tick.leak_backward(p.lam_post, ticks.y_trace_before[n], ticks.z[n], g.y_trace, gp.lam_post, walk.gz)
            tick.fire_backward(
                saved_v[t, k], ticks.v_before[n], p.beta, call.threshold, call.detach_reset, call.surrogate, g.v, g.z,
                walk.gz, ticks.gcurrent[n], gp.b, gp.beta, walk.slope,
            )  # fmt: skip
            move(walk.x_later, ticks.x[n])
            move(walk.gcurrent_later, ticks.gcurrent[n])
            if want_gx_trace:
                reset(walk.gx)
                tick.leak_backward(p.lam_pre, ticks.x_trace_before[n], ticks.x[n], g.x_trace, gp.lam_pre, walk.gx)
            if want_gx:
                synapses.inputs_backward(ticks.h[n], p.w, p.alpha, ticks.gcurrent[n], walk.gx)
                tick.scatter(walk.gx[:M], K_x == 1 and k < K - 1, gx[t, k % K_x, r], g.z)

        if episode_start[t, r]:
            reset(g.v)
            reset(g.z)
            reset(g.x_trace)
            reset(g.y_trace)
            if not call.keep_fast_weights:
                reset(g.theta)
                reset_matrix(gh)
                reset_matrix(ge)
                reset(walk.x_later)
                reset(walk.gcurrent_later)
    synapses.weights_backward((t_last - t_first) * K, ticks.x, ticks.gcurrent, ticks.h, gp.w, gp.alpha)
