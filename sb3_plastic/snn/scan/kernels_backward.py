"""The backward pass of `kernels.py`. ``gx`` is the gradient of the loss with respect to ``x``."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from sb3_plastic.snn.scan.arrays import array_2, array_3, array_4, parameters_at, saved_at, state_at
from sb3_plastic.snn.scan.compile import jit, piece
from sb3_plastic.snn.scan.kernels import (
    MODULATION_NONE,
    MODULATION_RETROACTIVE,
    clear,
    copy,
    copy_matrix,
    gather,
    leak,
    learn_retroactive,
    modulate,
    move,
    multiply,
    of_row,
    reset,
    reset_matrix,
    slide,
    spikes_of,
)
from sb3_plastic.snn.scan.passes_backward import (
    before,
    fast_weights_backward,
    fire_backward,
    inputs_backward,
    leak_backward,
    learn_backward,
    learn_retroactive_backward,
    modulate_backward,
    replay,
    rule_backward,
    scatter,
    slide_backward,
    weights_backward,
)
from sb3_plastic.snn.scan.simd import call, flush_subnormals, restore, take


@piece
def at(state, i):
    """Traces, threshold, fast weights and eligibility: item i of each."""
    return state[0][i], state[1][i], state[2][i], state[3][i], state[4][i]


@piece
def copy_state(target, source):
    """``copy`` for each of the same."""
    copy(target[0], source[0])
    copy(target[1], source[1])
    copy(target[2], source[2])
    copy_matrix(target[3], source[3])
    copy_matrix(target[4], source[4])


@jit()
def backward_queue(queue, groups, K, table, kinds, numbers):
    """
    The backward pass of ``forward``, of the groups that this thread takes from the queue. A group is some rows one
    after the other, whose gradients of the parameters add up. With L ticks per segment:

    :param table: the arrays. What the forward pass was given (24) and has saved (6). Gradients: of the spikes, [T, K,
        B, N]; of x, [T, K or 1, B, M_in], set; of the external modulator, [T, B, N or 1 or 0], added to; of the
        outgoing state (7), on return those of the incoming one, without columns where the former is 0 and the latter
        not wanted; of the parameters (14), of the first group, set. What the replay of a segment records of each tick,
        [3, L, M], [15, L, N]; working memory, [4, M], [18, N]; fast weights and eligibility before each tick, [L + 1,
        M, N], or without columns; two matrices as in ``forward``; states (5) at the start of a stretch's segments but
        the last. All these without content
    :param kinds: addresses of the rule, its derivative and the surrogate's; modulation; whether fast weights are kept,
        the reset is detached, and the gradients of ``rho``, of ``x_trace`` (or ``lam_pre``, or x), and of x are wanted;
        steps per segment; segments per stretch; bytes from a group's gradients of the parameters to the next one's
    :param numbers: threshold, h_max
    """
    mode = flush_subnormals()
    threshold, h_max = numbers[0], numbers[1]
    local, derivative, surrogate, modulation, keep_fast_weights = kinds[0], kinds[1], kinds[2], kinds[3], kinds[4] != 0
    detach_reset, want_grho, want_gx_trace, want_gx = kinds[5] != 0, kinds[6] != 0, kinds[7] != 0, kinds[8] != 0
    segment, stretch = kinds[9], kinds[10]
    x, starts, external = array_4(table, 0, h_max), array_2(table, 1, True), array_3(table, 2, h_max)
    state, p, saved = state_at(table, 3, h_max), parameters_at(table, 10, h_max), saved_at(table, 24, h_max)
    gspikes, gx, gexternal = array_4(table, 30, h_max), array_4(table, 31, h_max), array_3(table, 32, h_max)
    gstate = state_at(table, 33, h_max)
    ticks_m, ticks_n, work_m = array_3(table, 54, h_max), array_3(table, 55, h_max), array_2(table, 56, h_max)
    work_n, h_at, e_at = array_2(table, 57, h_max), array_3(table, 58, h_max), array_3(table, 59, h_max)
    work_h, work_e, kept_x_trace = array_2(table, 60, h_max), array_2(table, 61, h_max), array_2(table, 62, h_max)
    kept_y_trace, kept_theta = array_2(table, 63, h_max), array_2(table, 64, h_max)
    kept = kept_x_trace, kept_y_trace, kept_theta, array_3(table, 65, h_max), array_3(table, 66, h_max)
    saved_v = saved[0]
    x_at, x_old_at, x_new_at = ticks_m[0], ticks_m[1], ticks_m[2]
    v_old_at, z_old_at, z_at, y_old_at, y_new_at = ticks_n[0], ticks_n[1], ticks_n[2], ticks_n[3], ticks_n[4]
    theta_at, drive_at, decay_at, own_at, m_at = ticks_n[5], ticks_n[6], ticks_n[7], ticks_n[8], ticks_n[9]
    m_drive_at, m_decay_at, gi_at, signal_at, fresh_at = ticks_n[10], ticks_n[11], ticks_n[12], ticks_n[13], ticks_n[14]
    x_trace, x_later, gx_now, gx_trace = work_m[0], work_m[1], work_m[2], work_m[3]
    y_trace, theta, keep, slope, sum_x, sum_h = work_n[0], work_n[1], work_n[2], work_n[3], work_n[4], work_n[5]
    sum_e, gm, db_dy, db_dtheta, dg_dy, dg_dtheta = work_n[6], work_n[7], work_n[8], work_n[9], work_n[10], work_n[11]
    gv, gz, gy_trace, gtheta, gz_now, gi_later = work_n[12], work_n[13], work_n[14], work_n[15], work_n[16], work_n[17]
    T, K_x, B, M, N = x.shape[0], x.shape[1], x.shape[2], p[0].shape[1], p[0].shape[2]
    E, N_own = external.shape[2], gspikes.shape[3]
    retroactive, sliding = modulation == MODULATION_RETROACTIVE, state[4].shape[1] > 0
    now = (x_trace, y_trace, theta, h_at[0], e_at[0])
    reset_matrix(x_at)
    reset(gx_now)
    group = take(queue)
    while group < groups:
        gp = parameters_at(table, 40, h_max, group * kinds[11])
        clear(of_row(gp, 0))
        for r in range(group * B // groups, (group + 1) * B // groups):
            w, _, beta, alpha, eta, lam_pre, lam_post, rho, kappa, kappa_e, a, u, c, d = of_row(p, r)
            gw, gb, gbeta, galpha, geta, glam_pre, glam_post, grho, gkappa, gkappa_e, ga, gu, gc, gd = of_row(gp, 0)
            gh, ge = gstate[5][r], gstate[6][r]
            if gh.shape[1] != N:
                gh = work_h
                copy_matrix(gh, gstate[5][r])
            if retroactive and ge.shape[1] != N:
                ge = work_e
                copy_matrix(ge, gstate[6][r])
            copy(gv, gstate[0][r])
            copy(gz, gstate[1][r])
            copy(gx_trace, gstate[2][r])
            copy(gy_trace, gstate[3][r])
            copy(gtheta, gstate[4][r])
            reset(x_later)
            reset(gi_later)
            for j in range(N):
                keep[j] = 1 - rho[j]

            last = (T - 1) // segment
            for s in range(last, -1, -1):
                # The state at the start of a stretch was saved by the forward pass, those at the start of its further
                # segments are kept on the way to its last one.
                first = s - s % stretch
                start = first if s == last or s == first + stretch - 1 else s
                if start > first:
                    copy_state(now, at(kept, s - first))
                elif first > 0:
                    copy_state(now, at(at(saved[1:], first // stretch - 1), r))
                else:
                    copy_state(now, at(state[2:], r))

                # Replay: record the state before each tick, and what follows from it, then learn. Of the segments on
                # the way to s only the last fast weights count, and take the place of the first.
                for i in range(start, s + 1):
                    apart, t_first, t_last = int(i == s), i * segment, min((i + 1) * segment, T)
                    if not apart:
                        copy_state(at(kept, i - first), now)
                    n = 0
                    for t in range(t_first, t_last):
                        if starts[t, r]:
                            reset(x_trace)
                            reset(y_trace)
                            if not keep_fast_weights:
                                reset(theta)
                                reset_matrix(e_at[n * apart])
                        for k in range(K):
                            fresh_at[n, 0] = k == 0 and starts[t, r] and not keep_fast_weights
                            move(x_old_at[n], x_trace)
                            move(y_old_at[n], y_trace)
                            move(theta_at[n], theta)
                            before(t, k, saved_v, state, starts, r, threshold, v_old_at[n], z_old_at[n])
                            spikes_of(saved_v[r, t, k], threshold, z_at[n])
                            gather(x[t, k % K_x, r], z_old_at[n], x_at[n, :M])
                            leak(x_trace, lam_pre, x_at[n])
                            leak(y_trace, lam_post, z_at[n])
                            move(x_new_at[n], x_trace)
                            move(y_new_at[n], y_trace)
                            drive, decay, m = drive_at[n], decay_at[n], m_at[n]
                            signal_at[n, 0] = modulate(modulation, y_trace, a, u, c, d, own_at[n])
                            move(m, own_at[n])
                            if E:
                                for j in range(N_own):
                                    m[j] *= external[t, r, j % E]
                            call(local, (y_trace, theta, drive, decay), N)
                            if retroactive:
                                h, h_new = h_at[n * apart], h_at[(n + 1) * apart]
                                e, e_new = e_at[n * apart], e_at[(n + 1) * apart]
                                if fresh_at[n, 0] != 0:
                                    reset_matrix(h)
                                learn_retroactive(
                                    h, h_new, e, e_new, eta, x_trace, drive, decay, keep, m, kappa_e, h_max
                                )  # fmt: skip
                            else:
                                move(m_drive_at[n], drive)
                                move(m_decay_at[n], decay)
                                multiply(m_drive_at[n], m)
                                multiply(m_decay_at[n], m)
                            if sliding:
                                slide(theta, kappa, y_trace)
                            n += 1
                    if not retroactive:
                        replay(n, fresh_at[:, 0], apart, h_at, eta, x_new_at, m_drive_at, m_decay_at, keep, h_max)
                ticks = n

                # Walk back through it.
                for t in range(t_last - 1, t_first - 1, -1):
                    for k in range(K - 1, -1, -1):
                        n -= 1
                        y_new, drive, decay, m = y_new_at[n], drive_at[n], decay_at[n], m_at[n]
                        if sliding:
                            slide_backward(kappa, y_new, theta_at[n], gtheta, gkappa, gy_trace)

                        # Fast weights, and the rule.
                        call(derivative, (y_new, theta_at[n], db_dy, db_dtheta, dg_dy, dg_dtheta), N)
                        partial = (db_dy, db_dtheta, dg_dy, dg_dtheta)
                        if retroactive:
                            learn_retroactive_backward(
                                h_at[n], e_at[n], alpha, eta, x_later, gi_later, x_new_at[n], drive, decay, keep, m,
                                kappa_e, h_max, gh, ge, geta, sum_x, sum_h, sum_e, gm, want_grho, grho,
                                want_gx_trace, gx_trace
                            )  # fmt: skip
                            for j in range(N):
                                gkappa_e[j] += drive[j] * sum_x[j] - decay[j] * sum_h[j] - sum_e[j]
                            rule_backward(kappa_e, sum_x, sum_h, partial, gy_trace, gtheta)
                        else:
                            learn_backward(
                                h_at[n], alpha, eta, x_later, gi_later, x_new_at[n], m_drive_at[n], m_decay_at[n], keep,
                                h_max, gh, geta, sum_x, sum_h, want_grho, grho, want_gx_trace, gx_trace
                            )  # fmt: skip
                            for j in range(N):
                                gm[j] = drive[j] * sum_x[j] - decay[j] * sum_h[j]
                            rule_backward(m, sum_x, sum_h, partial, gy_trace, gtheta)

                        # Modulator, traces, neuron, currents.
                        if E:
                            for j in range(N_own):
                                gexternal[t, r, j % E] += gm[j] * own_at[n, j]
                                gm[j] *= external[t, r, j % E]
                        if modulation != MODULATION_NONE:
                            modulate_backward(signal_at[n, 0], y_new, a, u, gm, gy_trace, ga, gu, gc, gd)
                        copy(gz_now, gspikes[t, k, r])
                        leak_backward(lam_post, y_old_at[n], z_at[n], gy_trace, glam_post, gz_now)
                        fire_backward(
                            saved_v[r, t, k], v_old_at[n], beta, threshold, detach_reset, surrogate, gv, gz, gz_now,
                            gi_at[n], gb, gbeta, slope
                        )  # fmt: skip
                        move(x_later, x_at[n])
                        move(gi_later, gi_at[n])
                        if want_gx_trace:
                            reset(gx_now)
                            leak_backward(lam_pre, x_old_at[n], x_at[n], gx_trace, glam_pre, gx_now)
                        if want_gx:
                            inputs_backward(h_at[n], w, alpha, gi_at[n], gx_now)
                            scatter(gx_now[:M], K_x == 1 and k < K - 1, gx[t, k % K_x, r], gz)

                    if starts[t, r]:
                        reset(gv)
                        reset(gz)
                        reset(gx_trace)
                        reset(gy_trace)
                        if not keep_fast_weights:
                            reset(gtheta)
                            reset_matrix(gh)
                            reset_matrix(ge)
                            reset(x_later)
                            reset(gi_later)
                weights_backward(ticks, x_at, gi_at, h_at, gw, galpha)

            copy(gstate[0][r], gv)
            copy(gstate[1][r], gz)
            copy(gstate[2][r], gx_trace)
            copy(gstate[3][r], gy_trace)
            copy(gstate[4][r], gtheta)
            if gstate[5].shape[2]:
                fast_weights_backward(alpha, x_later, gi_later, gh)
            if gstate[5].shape[2] != N:
                copy_matrix(gstate[5][r], gh)
            if gstate[6].shape[2] != N:
                copy_matrix(gstate[6][r], ge)
        for j in range(N):
            gp[7][0, j] *= -1  # so far it was that of 1 - rho
        group = take(queue)
    restore(mode)
