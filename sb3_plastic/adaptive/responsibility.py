"""
Responsibilities: which hypothesis explains what happens (multiple-model adaptive estimation, MMAE).

    l_k  = max( 1/2 sum_i (best_i^2 - e_ki^2) / Rc_i , -40 )      log-likelihood against the one that predicted best
    L_k <- .9 L_k + l_k - l_0                                     evidence, against nominal

The bound is against the best: against nominal, all good hypotheses would reach it at once where the robot does
something wild, and could not be told apart. The hypothesis with the most evidence acts; nominal has a head start, and
whoever acts has a lead, so that nothing flickers. The leak is a probability floor: without it, a hypothesis that was
right for long could not be left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEAK = 0.9
STEP_BOUND = 40.0
"""What one step can say against a hypothesis, at most: a single collision must not decide."""


def log_likelihood_ratios(innovations: Array, R: Array) -> Array:
    """
    How much better each hypothesis predicted than the first, which is nominal.

    :param innovations: [K, B, C]
    :param R: variance, [B, C]
    :return: [B, K]
    """
    misfit = 0.5 * (innovations**2 / R).sum(2)
    likelihood = np.maximum(misfit.min(0) - misfit, -STEP_BOUND)
    return (likelihood - likelihood[0]).T


def accumulate(evidence: Array, ratios: Array, leak: float = LEAK) -> Array:
    """
    :param evidence: [B, K]
    :param ratios: log-likelihood ratios of this step, [B, K]
    :param leak: what is left of older evidence; 1: Bayes' rule for a hypothesis that never changes
    :return: evidence after this step
    """
    return leak * evidence + ratios


def choose(evidence: Array, acting: Array, head_start: Array, lead: float) -> Array:
    """
    Which hypothesis acts.

    :param evidence: [B, K]
    :param acting: index of the one that has acted so far, [B]
    :param head_start: what each needs more than nominal, [K]; the first is 0
    :param lead: what a rival needs more than the one that acts
    :return: index [B]
    """
    rows = np.arange(len(acting))
    score = evidence - head_start
    best = score.argmax(1)
    return np.where(score[rows, best] > score[rows, acting] + lead, best, acting)


def probabilities(evidence: Array, head_start: Array) -> Array:
    """
    Model probabilities that belong to the evidence, [B, K]: for whoever watches.

    :param evidence: [B, K]
    :param head_start: [K]
    """
    score = evidence - head_start
    weight = np.exp(score - score.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)
