"""What happens around the onset, resolved in time: read from the traces, averaged over episodes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sb3_plastic.evaluation.measures import TAIL, aligned, filled, gain_curve
from sb3_plastic.evaluation.records import Trace
from sb3_plastic.report import stats
from sb3_plastic.report.results import Results

Array = NDArray[Any]

BIN = 25  # steps averaged into one point; bins begin at the onset, so that nothing leaks over it
BEFORE, AFTER = TAIL, 500  # steps shown before and after the onset, as far as the episodes go
TIME = np.arange(-BEFORE, AFTER, BIN) + BIN / 2  # [N], steps since the onset at the middle of each bin


@dataclass(frozen=True)
class Onset:
    """
    What one trained model did around the onset in one scenario, averaged over episodes, in the bins of `TIME`.

    :param label: method
    :param train_seed: of the model
    :param scenario: full name
    :param split: of the suite
    :param forward: by control, forward reward per step [N], 0 after a fall
    :param gain: intact minus frozen at the onset [N], in units of the level before; None without that control
    :param net: the same minus that of the sham, same seeds; None without one with the same onsets, and of the sham
    :param fast_weights: by control, root mean square of the fast weights of each layer [N, L]
    :param episodes: how many are behind it: those whose simulation held under every control
    """

    label: str
    train_seed: int
    scenario: str
    split: str
    forward: Mapping[str, Array]
    gain: Array | None
    net: Array | None
    fast_weights: Mapping[str, Array]
    episodes: int


@dataclass(frozen=True)
class Curve:
    """
    A curve with its 95 % interval over trained seeds.

    :param time: [N]
    :param mean: [N]
    :param low: [N], NaN with fewer than two seeds
    :param high: [N]
    """

    time: Array
    mean: Array
    low: Array
    high: Array


def read_onsets(results: Results, group: str) -> list[Onset]:
    """
    The onset protocol of all models of a robot, with the sham, whose split is ``"sham"``.

    :param results: of the comparison
    :param group: robot or environment
    """
    # The sham first, with which the others are compared.
    onset = pd.concat([results.sham_of(group), results.of(group, protocol="onset")])
    keys = ["label", "train_seed", "protocol", "scenario", "split"]
    shams: dict[tuple[str, int], dict[str, Trace]] = {}
    found = []
    for _, row in onset[keys].drop_duplicates().iterrows():
        label, seed, split = row["label"], int(row["train_seed"]), row["split"]
        kept = _kept({control: trace for control, (_, trace) in results.traces(group, label, seed, row).items()})
        if "intact" not in kept or not len(kept["intact"].onset):
            continue
        if split == "sham":
            shams[label, seed] = kept
        sham = shams.get((label, seed)) if split != "sham" else None
        found.append(_onset(label, seed, row["scenario"], split, kept, sham))
    return found


def curve(onsets: Iterable[Onset], value: Callable[[Onset], Array | None]) -> Curve | None:
    """
    Mean over scenarios, then over trained seeds.

    :param onsets: of one label
    :param value: what to draw [N]; None: not there
    :return: None if there is no value anywhere
    """
    by_seed: dict[int, list[Array]] = {}
    for onset in onsets:
        if (values := value(onset)) is not None:
            by_seed.setdefault(onset.train_seed, []).append(values)
    seeds = np.array([mean(scenarios) for scenarios in by_seed.values()])
    if np.isnan(seeds).all():  # of no seed, too
        return None
    return Curve(TIME, mean(seeds), *stats.bootstrap_band(seeds))


def event_curve(times: Mapping[int, tuple[Array, Array]], grid: Array) -> Curve:
    """
    Kaplan-Meier estimate of the fraction without an event: of each trained seed, then their mean.

    :param times: by trained seed: time of each episode [E], and whether the event happened [E]
    :param grid: [N], where to evaluate it
    """
    seeds = []
    for time, observed in times.values():
        at, fraction = stats.kaplan_meier(time, observed)
        curve_of_seed = fraction[np.searchsorted(at, grid, side="right") - 1]
        known = (grid <= time.max()) | (fraction[-1] == 0)  # beyond the last, only if all have had it
        seeds.append(np.where(known, curve_of_seed, np.nan))
    # Where the last episode of one seed has ended, a mean of the others would jump.
    middle = np.mean(seeds, axis=0)
    low, high = np.where(np.isnan(middle), np.nan, stats.bootstrap_band(np.stack(seeds)))
    return Curve(grid, middle, low, high)


def mean(values: Array | list[Array]) -> Array:
    """Mean over the first axis; NaN is left out, and stays where there is nothing else. :param values: [S, ...]"""
    x = np.asarray(values, dtype=np.float64)
    n = (~np.isnan(x)).sum(0)
    return np.where(n > 0, np.nansum(x, 0) / np.maximum(n, 1), np.nan)


def _onset(
    label: str, seed: int, scenario: str, split: str, traces: Mapping[str, Trace], sham: Mapping[str, Trace] | None
) -> Onset:
    intact = traces["intact"]
    gain, net = _gain(traces), None
    if gain is not None and sham is not None and (cost := _gain(sham)) is not None:
        rows = {key: i for i, key in enumerate(zip(sham["intact"].eval_seed, sham["intact"].onset, strict=True))}
        own = [rows.get(key) for key in zip(intact.eval_seed, intact.onset, strict=True)]
        pairs = [(i, j) for i, j in enumerate(own) if j is not None]
        net = np.array([gain[i] - cost[j] for i, j in pairs]) if pairs else None
    return Onset(
        label=label,
        train_seed=seed,
        scenario=scenario,
        split=split,
        forward={c: _binned(aligned(filled(t.forward_reward), t.onset, BEFORE, AFTER)) for c, t in traces.items()},
        gain=None if gain is None else _binned(gain),
        net=None if net is None else _binned(net),
        fast_weights={
            c: _binned(aligned(t.fast_weight_norm, t.onset, BEFORE, AFTER))
            for c, t in traces.items()
            if t.fast_weight_norm.shape[-1]
        },
        episodes=len(intact.onset),
    )


def _gain(traces: Mapping[str, Trace]) -> Array | None:
    intact, frozen = traces["intact"], traces.get("frozen_at_onset")
    if frozen is None:
        return None
    return gain_curve(intact.forward_reward, frozen.forward_reward, intact.onset, BEFORE, AFTER)


def _kept(traces: Mapping[str, Trace]) -> dict[str, Trace]:
    """
    The episodes with a stretch before the onset, and a simulation that held under every control, in the same order.
    What begins earlier has no level to compare with, and shows how a robot starts to walk.
    """
    keys = {
        control: [(int(s), int(e)) for s, e in zip(trace.eval_seed, trace.episode, strict=True)]
        for control, trace in traces.items()
    }
    good = [
        {key for key, bad, onset in zip(keys[c], t.unstable, t.onset, strict=True) if not bad and onset >= BEFORE}
        for c, t in traces.items()
    ]
    common = sorted(set.intersection(*good)) if good else []
    return {control: trace.rows([keys[control].index(key) for key in common]) for control, trace in traces.items()}


def _binned(values: Array) -> Array:
    """Mean over episodes and over the steps of each bin: [E, N * BIN, ...] -> [N, ...]."""
    bins = values.reshape(len(values), -1, BIN, *values.shape[2:])
    return mean(np.moveaxis(bins, 2, 1).reshape(-1, bins.shape[1], *values.shape[2:]))
