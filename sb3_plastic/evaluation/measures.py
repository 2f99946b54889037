"""What is measured of one episode: pure functions of its forward rewards, step by step.

Letters: f[t] forward reward of step t, 0 after a fall (who lies does not move); T the time limit; o the onset, index
of the first perturbed step; e the end of what began there: the removal, the next switch, or T. The level of a stretch
is the mean of f over it; lvl[t] is that of [t, t + WINDOW). HalfCheetah and Ant make a stride in 10 to 20 steps.

    before   level of [o - TAIL, o), the episode's own before the onset
    early    level of [o, o + WINDOW)
    plateau  level of [e - TAIL, e), what is reached in the end
    trough   min of lvl[t], o <= t <= e - WINDOW

Ratios are to the episode's own ``before``, so that a better policy does not pass for one that adapts. They are NaN
where nothing begins after step TAIL, where the episode fell before, or did not move forward (before < MOVING).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WINDOW = 50  # steps
TAIL = 100  # steps
RECOVERED = 0.8  # of the level before
RECOVERED_WELL = 0.9  # of the level before
MOVING = 0.05  # forward reward per step, from which a robot counts as moving: for the five robots, m/s

MEASURES: dict[str, str] = {
    "before": "forward reward per step over the last 100 steps before the onset",
    "drop": "1 - early / before: fraction lost in the first 50 perturbed steps",
    "retention": "early / before, as NS-Gym calls it; that of the control frozen_at_onset is the policy's resilience",
    "regret": "mean over perturbed steps of (f of the intact model in the nominal scenario, same seed, - f) / before",
    "plateau": "level of the last 100 perturbed steps / before",
    "slope": "least-squares rise of f from 100 steps after the onset to the end, in units of before per 100 steps",
    "recovery_ratio": "(plateau - trough) / (before - trough); empty where the level never fell below 80 % of before",
    "recovery_time": "steps from the onset until the level, once below 80 % of before, is there again; 0: never below",
    "recovered": "1: it did; 0: recovery_time is right-censored, at the end of the perturbation",
    "steps_to_recovery": "as recovery_time, to 90 % of before; right-censored at the end of the perturbation",
    "adaptation_gain": "mean over perturbed steps of f, intact minus frozen_at_onset, same seed, / before",
    "adaptation_gain_early": "the same over the first 50 perturbed steps",
    "adaptation_gain_late": "the same over the last 100 perturbed steps; adaptation: late above early",
    "after_effect": "1 - level of the 50 steps after the removal / that of the nominal scenario there, same seed",
    "switch_gain": "mean over the stretches between switches of (level of their last 50 steps - of their first 50) "
    "/ before: does it get better between switches",
    "late_ratio": "forward reward per step beyond the training length / the same within it",
}
"""Measures of an episode, which are columns of the records, with their meaning."""


def episode_measures(
    forward: Array,
    onset: int,
    removal: int = -1,
    nominal: Array | None = None,
    frozen: Array | None = None,
    switch_every: int | None = None,
    training_steps: int | None = None,
) -> dict[str, float]:
    """
    All measures of one episode.

    :param forward: forward rewards [T], NaN after the end
    :param onset: first perturbed step, -1 without, 0 from the start
    :param removal: first step that is unperturbed again, -1 without
    :param nominal: forward rewards [T] of the intact model in the nominal scenario with the same seed
    :param frozen: forward rewards [T] of the same model, frozen at the onset, same seed
    :param switch_every: steps between switches, None without
    :param training_steps: length of training episodes, where this one is longer
    :return: values by name in `MEASURES`, NaN where one does not apply
    """
    f = filled(forward)
    values = dict.fromkeys(MEASURES, float("nan"))
    if training_steps is not None and training_steps < len(f):
        values["late_ratio"] = ratio(f[training_steps:].mean(), f[:training_steps].mean())
    too_early = onset < TAIL or bool(np.isnan(forward[:onset]).any())
    before = 0.0 if too_early else float(f[onset - TAIL : onset].mean())
    if before < MOVING:
        return values

    end = len(f) if removal < 0 else removal
    last = end  # of all that is perturbed; `end` is that of the first stretch
    if switch_every is not None:
        end = min(end, onset + switch_every)
    values["before"] = before
    values["drop"] = 1 - f[onset : onset + WINDOW].mean() / before
    values["retention"] = 1 - values["drop"]
    if nominal is not None:
        values["regret"] = float((filled(nominal) - f)[onset:last].mean()) / before
    values["plateau"] = f[max(onset, end - TAIL) : end].mean() / before
    values["slope"] = slope(f[onset + TAIL : end]) * 100 / before
    values |= recovery(f[onset:end], before)
    values["steps_to_recovery"] = recovery(f[onset:end], before, RECOVERED_WELL)["recovery_time"]
    if frozen is not None:
        gain = (f - filled(frozen))[onset:last] / before
        values["adaptation_gain"] = float(gain.mean())
        values["adaptation_gain_early"] = float(gain[:WINDOW].mean())
        values["adaptation_gain_late"] = float(gain[-TAIL:].mean())
    if removal >= 0 and nominal is not None:
        after = slice(removal, removal + WINDOW)
        values["after_effect"] = 1 - ratio(f[after].mean(), filled(nominal)[after].mean())
    if switch_every is not None:
        starts = range(onset, last - switch_every + 1, switch_every)
        stretches = [f[start : start + switch_every] for start in starts]
        gains = [stretch[-WINDOW:].mean() - stretch[:WINDOW].mean() for stretch in stretches]
        values["switch_gain"] = float(np.mean(gains)) / before if gains else float("nan")
    return {name: float(value) for name, value in values.items()}


def recovery(f: Array, before: float, share: float = RECOVERED) -> dict[str, float]:
    """
    Ratio and time of recovery. Falling is not recovering: the level stays at 0.

    :param f: forward rewards from the onset to the end of the perturbation
    :param before: level before the onset, above 0
    :param share: of it, from which a level counts as recovered
    :return: ``recovery_ratio``, ``recovery_time`` and ``recovered``; NaN if there are fewer than `WINDOW` steps
    """
    if len(f) < WINDOW:
        return dict.fromkeys(("recovery_ratio", "recovery_time", "recovered"), float("nan"))
    level = rolling_level(f)
    below = np.flatnonzero(level < share * before)
    if not len(below):
        return {"recovery_ratio": float("nan"), "recovery_time": 0.0, "recovered": 1.0}
    again = np.flatnonzero(level[below[0] :] >= share * before)
    trough, plateau = level.min(), f[-TAIL:].mean()
    return {
        "recovery_ratio": float((plateau - trough) / (before - trough)),
        "recovery_time": float(below[0] + again[0] if len(again) else len(f)),
        "recovered": float(len(again) > 0),
    }


def filled(forward: Array) -> Array:
    """Forward rewards as float64, 0 after the end of the episode. :param forward: [..., T], NaN after the end"""
    return np.nan_to_num(np.asarray(forward, dtype=np.float64), nan=0.0)


def rolling_level(f: Array) -> Array:
    """
    lvl[t], the mean of f over [t, t + WINDOW).

    :param f: [T]
    :return: [T - WINDOW + 1]
    """
    return np.convolve(f, np.full(WINDOW, 1 / WINDOW), "valid")


def slope(f: Array) -> float:
    """Least-squares slope of f per step; NaN for fewer than 100 steps. :param f: [T]"""
    return float(np.polyfit(np.arange(len(f)), f, 1)[0]) if len(f) >= 100 else float("nan")


def ratio(a: float, b: float) -> float:
    """
    ``a / b``, NaN unless b is of a robot that moves.

    :param a: forward reward per step
    :param b: that of what it is compared with
    """
    return float(a / b) if b >= MOVING else float("nan")


# Over time, for curves


def aligned(values: Array, onset: Array, before: int = TAIL, after: int = 500) -> Array:
    """
    Cut episodes around their onsets.

    :param values: [E, T, ...], for instance forward rewards
    :param onset: [E], first perturbed step; -1, without one: all NaN
    :param before: steps to keep before the onset
    :param after: steps to keep from the onset on
    :return: [E, before + after, ...]; column ``before`` is the first perturbed step; NaN outside of the episode
    """
    values = np.asarray(values, dtype=np.float64)
    cut = np.full((len(values), before + after, *values.shape[2:]), np.nan)
    for row, source, o in zip(cut, values, np.asarray(onset).tolist(), strict=True):
        if o < 0:
            continue
        start, stop = max(o - before, 0), min(o + after, values.shape[1])
        row[start - o + before : stop - o + before] = source[start:stop]
    return cut


def gain_curve(intact: Array, frozen: Array, onset: Array, before: int = TAIL, after: int = 500) -> Array:
    """
    The adaptation gain resolved in time: intact minus frozen at the onset, episode by episode, in units of ``before``.
    Up to the onset it is exactly 0; evidence of adaptation is a gap that opens after it.

    :param intact: forward rewards [E, T], NaN after the end
    :param frozen: those of the frozen model in the same episodes
    :param onset: [E]
    :param before: steps before the onset
    :param after: steps from the onset on
    :return: [E, before + after]; NaN for episodes without a level before the onset
    """
    f, g = filled(intact), filled(frozen)
    level = np.array(  # NaN as well where the episode has ended before
        [row[o - TAIL : o].mean() if o >= TAIL else np.nan for row, o in zip(intact, np.asarray(onset), strict=True)]
    )
    return aligned(f - g, onset, before, after) / np.where(level >= MOVING, level, np.nan)[:, None]


def gap_closed(model: float, baseline: float, oracle: float) -> float:
    """
    Fraction of the gap between a baseline and the context-observing oracle that a model closes.

    :param model: score of the model
    :param baseline: score of the static baseline
    :param oracle: score of the oracle
    :return: 0: as the baseline, 1: as the oracle; NaN where the oracle is no better: then there is nothing to close
    """
    return (model - baseline) / (oracle - baseline) if oracle > baseline else float("nan")
