"""The results of a study as tables: one record per network and test, and means with intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from sb3_plastic.report.stats import bootstrap_interval
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.temporal.settings import CONTROLS, HEADLINE, LONGER, N_TEST, NOISE, UPDATES

KEYS = ["task", "network", "ablation", "n_updates"]


def records(cells: Iterable[Result]) -> pd.DataFrame:
    """
    One row per network and test.

    :param cells: results of the study. Those judged on most trials count: a smoke run in the same folder does not
    :return: ``task, network, ablation, n_updates, seed, lesion, drop, spurious, delay, accuracy, reference,
        n_parameters``; ``reference`` is the reference decoder's accuracy on trials of the same kind
    """
    cells = list(cells)
    most = max((cell.get("trials") or N_TEST for cell in cells), default=N_TEST)
    rows = []
    for cell in cells:
        if (cell.get("trials") or N_TEST) < most:
            continue
        shared = {name: cell.get(name, "") for name in [*KEYS, "seed"]} | {"n_parameters": cell.get("n_parameters")}
        for test in cell["tests"]:
            rows.append({**shared, "lesion": "", "delay": None, **test})
        for test in cell.get("lesions", []):
            rows.append({**shared, "delay": None, **test})
    frame = pd.DataFrame(rows)
    reference = frame[frame.network == "reference"].set_index(["task", "seed", "drop", "spurious", "delay"]).accuracy
    keys = pd.MultiIndex.from_frame(frame[["task", "seed", "drop", "spurious", "delay"]])
    frame["reference"] = reference.reindex(keys).to_numpy()
    columns = [*KEYS, "seed", "lesion", "drop", "spurious", "delay", "accuracy", "reference", "n_parameters"]
    return frame[columns].sort_values(columns[:9], na_position="first", ignore_index=True)


def at_level(frame: pd.DataFrame, level: int) -> pd.DataFrame:
    """The records of one level of noise, at the delay of training."""
    drop, spurious = NOISE[level]
    return frame[(frame["drop"] == drop) & (frame.spurious == spurious) & frame.delay.isna()]


def select(
    frame: pd.DataFrame, task: str, network: str, times: int = 1, ablation: str = "", lesion: str = ""
) -> pd.DataFrame:
    """
    The records of one kind of network.

    :param frame: records
    :param task: a name in ``TASKS``
    :param network: its name
    :param times: how many times the usual updates it had
    :param ablation: what its training left out
    :param lesion: what was cut out of it
    """
    n_updates = 0 if network == "reference" else times * UPDATES[task]
    return frame[
        (frame.task == task)
        & (frame.network == network)
        & (frame.n_updates == n_updates)
        & (frame.ablation == ablation)
        & (frame.lesion == lesion)
    ]


def compared(frame: pd.DataFrame, task: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The networks that tables compare, with their records. :param frame: records :param task: a name in ``TASKS``"""
    names = [(name, 1) for name in ("reference", *HEADLINE[task], *CONTROLS)] + [(name, 10) for name in LONGER]
    for name, times in names:
        chosen = select(frame, task, name, times)
        if not chosen.empty:
            yield name + (f", {times}x updates" if times > 1 else ""), chosen


def interval(values: Any) -> str:
    """
    Mean over seeds with its 95 % bootstrap interval, as text.

    :param values: one per seed
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return "–"  # noqa: RUF001

    def shown(value: float) -> str:
        return f"{round(value, 3) + 0.0:.3f}"  # + 0.0: without -0.000

    low, high = bootstrap_interval(x[:, None])
    return shown(x.mean()) if np.isnan(low) else f"{shown(x.mean())} [{shown(low)}, {shown(high)}]"


def differences_by_seed(a: pd.DataFrame, b: pd.DataFrame) -> pd.Series:
    """
    Accuracies of one network minus those of another, paired by seed: both were trained and tested on the same trials.

    :param a: records of one network and level
    :param b: of another
    :return: one number per seed that both have
    """
    return (a.set_index("seed").accuracy - b.set_index("seed").accuracy).dropna()
