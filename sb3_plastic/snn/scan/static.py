"""The kernels of the static network: a layer without fast weights, forward and backward; see `kernels.py`."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from sb3_plastic.snn.scan import synapses, tick
from sb3_plastic.snn.scan.compile import expanded, jit, piece
from sb3_plastic.snn.scan.reference import LayerParameters
from sb3_plastic.snn.scan.simd import flush_subnormals, restore_mode, row, rows, take
from sb3_plastic.snn.scan.tick import Tick, Ticks, Walk, clear, copy, reset
from sb3_plastic.snn.state import LayerState


@piece
def static_forward(call: Any, thread: int, r: int) -> None:
    """Row r: sets spikes, the outgoing state and, where a backward pass follows, the membranes of all ticks."""
    number, K = call.threshold, call.K
    x, episode_start = row(call.x, 0, number), row(call.episode_start, 0, True)
    p, state = rows(LayerParameters, call.p, r, number), rows(LayerState, call.state, r, number)
    spikes, saved_v = row(call.spikes, 0, number), row(call.saved_v, r, number)
    out, now = rows(LayerState, call.out, r, number), rows(LayerState, call.now, thread, number)
    work, K_x, M = rows(Tick, call.tick, thread, number), x.shape[1], p.w.shape[0]
    recurrent = x.shape[3] < M
    copy(now.v, state.v)
    copy(now.z, state.z)
    for t in range(call.T):
        if episode_start[t, r]:
            reset(now.v)
            reset(now.z)
        for k in range(K):
            if k == 0 or K_x > 1 or recurrent:
                tick.gather(x[t, k % K_x, r], now.z, work.x[:M])
                synapses.static_currents(p.w, work.x, work.current)
            tick.fire(work.current, p.b, p.beta, call.threshold, now.v, now.z)
            copy(spikes[t, k, r], now.z)
            if call.interval:
                copy(saved_v[t, k], now.v)
    copy(out.v, now.v)
    copy(out.z, now.z)


@jit()
def static_forward_queue(queue: Array, count: int, thread: int, calls: Array) -> None:
    """``static_forward`` of the rows, ``count`` in all, that this thread takes from the queue."""
    mode = flush_subnormals()
    r = take(queue)
    while r < count:
        static_forward(calls[0], thread, r)
        r = take(queue)
    restore_mode(mode)


@jit()
def static_backward_queue(queue: Array, count: int, thread: int, calls: Array) -> None:
    """Backward of ``static_forward``, of the groups of rows that this thread takes from the queue."""
    mode = flush_subnormals()
    call, group = calls[0], take(queue)
    while group < count:
        clear(rows(LayerParameters, call.gp, group, call.threshold))
        for r in range(group * call.B // count, (group + 1) * call.B // count):
            static_backward(call, thread, group, r)
        group = take(queue)
    restore_mode(mode)


@expanded
def static_backward(call: Any, thread: int, group: int, r: int) -> None:
    """Row r: turns ``gstate`` from that of the outgoing state into that of the incoming one; adds to ``gp``."""
    number, K = call.threshold, call.K
    x, episode_start = row(call.x, 0, number), row(call.episode_start, 0, True)
    p, gp = rows(LayerParameters, call.p, r, number), rows(LayerParameters, call.gp, group, number)
    state, gstate = rows(LayerState, call.state, r, number), rows(LayerState, call.gstate, r, number)
    gspikes, gx, saved_v = row(call.gspikes, 0, number), row(call.gx, 0, number), row(call.saved_v, r, number)
    before, g = rows(LayerState, call.now, thread, number), rows(LayerState, call.g, thread, number)
    ticks, walk = rows(Ticks, call.ticks, thread, number), rows(Walk, call.walk, thread, number)
    K_x, M_in, M, L = x.shape[1], x.shape[3], p.w.shape[0], ticks.x.shape[0]
    once_per_step = K_x == 1 and M_in == M  # The same input at each tick: what it gets back is one sum.
    copy(g.v, gstate.v)
    copy(g.z, gstate.z)
    n = 0  # ticks, or steps, whose share of gw is still to come
    for t in range(call.T - 1, -1, -1):
        for k in range(K - 1, -1, -1):
            copy(walk.gz, gspikes[t, k, r])
            tick.before_tick(t, k, saved_v, state.v, state.z, episode_start[t, r], call.threshold, before.v, before.z)
            tick.fire_backward(
                saved_v[t, k], before.v, p.beta, call.threshold, call.detach_reset, call.surrogate, g.v, g.z, walk.gz,
                walk.gcurrent, gp.b, gp.beta, walk.slope,
            )  # fmt: skip
            gcurrent = ticks.gcurrent[n]
            for j in range(gcurrent.shape[0]):
                gcurrent[j] = gcurrent[j] + walk.gcurrent[j] if once_per_step and k < K - 1 else walk.gcurrent[j]
            if once_per_step and k > 0:
                continue
            tick.gather(x[t, k % K_x, r], before.z, ticks.x[n, :M])
            if call.want_gx:
                synapses.static_currents_backward(p.w, gcurrent, walk.gx)
                tick.scatter(walk.gx[:M], K_x == 1 and k < K - 1 and not once_per_step, gx[t, k % K_x, r], g.z)
            n += 1
            if n == L:
                synapses.static_weights_backward(n, ticks.x, ticks.gcurrent, gp.w)
                n = 0
        if episode_start[t, r]:
            reset(g.v)
            reset(g.z)
    synapses.static_weights_backward(n, ticks.x, ticks.gcurrent, gp.w)
    copy(gstate.v, g.v)
    copy(gstate.z, g.z)
