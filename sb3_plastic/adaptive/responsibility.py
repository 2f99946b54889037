"""
Responsibilities: which hypothesis explains what happens (multiple-model adaptive estimation, MMAE).

    N   <- .95 N + .05 min( 10, min_k mean_i e_ki^2 / R_i )       noise: errors that no hypothesis explains
    d_k  = -1/2 sum_i e_ki^2 / (R_i max(1, N))
    L_k <- .9 max( L_k, -5 ) + d_k - d_nominal                    evidence: it has predicted better
    l_k  = -1/2 ( e' S_k^-1 e + log det S_k ),   S_k = H P_k H' + R max(1, N)
    J_k <- .5 max( J_k, -5 ) + ( l_k - l_nominal if N < 1.5 )     hint: it can explain what has just happened
    C_k <- .999 C_k, while k acts .98 C_k, + ( 1 if nominal takes over from k )     relapses, of sensors

The one with the largest L_k + J_k acts. Nominal has a head start, head_start (1 + max(0, N - 1.5) + max(0, C_k - 1)),
the one that acts a lead. N and C are those of the step before. Others than sensors have no C. What is off stays off;
rough ground under a foot looks like a sensor that is off for some steps, again and again. The hint comes a step or two
sooner; what could explain much else pays for it. If it is for wires it counts for plugs, a case of them: wires explain
any first step, plugs know the cables soon after. In noise that lasts open variances explain anything: there is no hint.
A step says at most 40 against one, compared with the best. Without the leak, what was right for long could not be left.
Without the floor (Maybeck & Stevens, 1991) the shortest delay would act first: all are refuted while all is well.
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.kernels import Array, compiled

LEAK, HINT_LEAK, FLOOR = 0.9, 0.5, -5.0

AT_EASE = 1.5
"""Noise, as a multiple of R, above which nothing is hinted, and more evidence is asked for."""

ERROR_BOUND = 10.0
"""One step's unexplained error counts at most so much, as a multiple of R: a collision is no noise that lasts."""

RELAPSE_LEAK, RELAPSE_LEAK_ACTING = 0.999, 0.98
"""What a step leaves of relapses: they are forgotten in a thousand steps, in fifty where the hypothesis acts."""

STEP_BOUND = 40.0
"""What one step can say against a hypothesis, at most: a single collision must not decide."""


@compiled
def against_nominal(likelihoods: Array) -> Array:
    """
    How much better each hypothesis predicted than the first, which is nominal.

    :param likelihoods: log-likelihood of each one's innovation, [K, B]
    :return: [B, K]
    """
    ratios = np.empty(likelihoods.T.shape)
    for b in range(len(ratios)):
        best = likelihoods[:, b].max()
        for k in range(len(likelihoods)):
            ratios[b, k] = np.maximum(likelihoods[k, b] - best, -STEP_BOUND)
    return ratios - ratios[:, :1]


def accumulate(evidence: Array, ratios: Array, leak: float = LEAK, floor: float = FLOOR) -> Array:
    """
    :param evidence: [B, K]
    :param ratios: log-likelihood ratios of this step, [B, K]
    :param leak: what is left of older evidence; 1, without a floor: Bayes' rule for a hypothesis that never changes
    :param floor: older evidence is at least so much
    :return: evidence after this step
    """
    return leak * np.maximum(evidence, floor) + ratios


def noise_after(noise: Array, least_error: Array) -> Array:
    """
    Noise that lasts, as a multiple of R, [B].

    :param noise: before
    :param least_error: mean squared innovation of the hypothesis that has predicted best, in units of R, [B]
    """
    return 0.95 * noise + 0.05 * np.minimum(least_error, ERROR_BOUND)


def relapses_after(relapses: Array, before: Array, after: Array, lasting: Array) -> Array:
    """
    How often nominal took over from each hypothesis of late, [B, K].

    :param relapses: before
    :param before: index of the hypothesis that acted, [B]
    :param after: index of the one that acts now, [B]
    :param lasting: those that are counted, bool [K]
    """
    acted = np.arange(len(lasting)) == before[:, None]
    relapsed = acted & lasting & ((after == 0) & (before != 0))[:, None]
    return np.where(acted, RELAPSE_LEAK_ACTING, RELAPSE_LEAK) * relapses + relapsed


def needed(head_start: float, noise: Array, in_noise: Array, relapses: Array) -> Array:
    """
    Evidence that each hypothesis needs to act in the place of nominal, which is the first, [B, K].

    :param head_start: without noise
    :param noise: as a multiple of R, [B]
    :param in_noise: those for which noise speaks, bool [K]
    :param relapses: how often nominal took over from each of late, [B, K]
    """
    doubt = ~in_noise * np.maximum(noise - AT_EASE, 0)[:, None] + np.maximum(relapses - 1, 0)
    return head_start * (np.arange(len(in_noise)) > 0) * (1 + doubt)


@compiled
def choose(evidence: Array, acting: Array, head_start: Array, lead: float) -> Array:
    """
    Which hypothesis acts, its index [B].

    :param evidence: [B, K]
    :param acting: index of the one that has acted so far, [B]
    :param head_start: what each needs more than nominal, [B, K]
    :param lead: what a rival needs more than the one that acts
    """
    chosen = acting.copy()
    for b in range(len(acting)):
        score = evidence[b] - head_start[b]
        if score.max() > score[acting[b]] + lead:
            chosen[b] = score.argmax()
    return chosen


def probabilities(evidence: Array, head_start: Array) -> Array:
    """
    Model probabilities that belong to the evidence, [B, K]: for whoever watches.

    :param evidence: [B, K]
    :param head_start: as for :func:`choose`
    """
    score = evidence - head_start
    return np.exp(score - np.logaddexp.reduce(score, 1, keepdims=True))
