"""What the intervals support, in words, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from sb3_plastic.document import number
from sb3_plastic.report.results import Results
from sb3_plastic.report.scores import LATE, estimate, gain_estimates, matrix, splits_of
from sb3_plastic.stats import mean

CLAIM = 3  # trained seeds, below which nothing is claimed of a method
ENOUGH = 5  # trained seeds, below which a bootstrap interval is little more than the range of the seeds


def claims(results: Results, group: str) -> list[str]:
    """
    Sentences about one robot.

    :param results: of the comparison
    :param group: robot or environment
    """
    plastic = results.plastic_labels(group)
    sentences = [_adapts(results, group, label) for label in plastic]
    others = [label for label in results.labels_of(group) if label not in plastic]
    if others:
        sentences.append(
            f"{_listed(others)}: not run with frozen fast weights, so nothing can be said of adaptation within an "
            "episode, however good the returns are."
        )
    return sentences


def few_seeds(results: Results) -> str:
    """What to keep in mind of the intervals. :param results: of the comparison"""
    counts = results.records.groupby(["group", "label"])["train_seed"].nunique()
    single = [str(label) for label in counts[counts == 1].index.get_level_values("label").unique()]
    text = (
        "A gap may open because of the novelty, or because a frozen network walks worse in any case: compare it with "
        "splits in which little changes. "
    )
    if single:
        text += f"Of {_listed(single)} there is one trained seed: no interval, and no claim. "
    if counts.max() > 1:
        text += "Of many intervals some exclude 0 by chance, one in twenty at best. "
    if counts.max() > 1 and counts.min() < ENOUGH:
        text += (
            f"With fewer than {ENOUGH} trained seeds a bootstrap interval is about the range from the lowest to the "
            "highest seed, and covers less than the 95 % that it is named after."
        )
    return text.strip()


def _adapts(results: Results, group: str, label: str) -> str:
    intact = results.of(group, protocol="onset", control="intact", label=label)
    if intact[LATE].isna().all():
        return f"{label}: it moved forward before no onset, so nothing can be said of adaptation."
    n_seeds = intact["train_seed"].nunique()
    if n_seeds < CLAIM:
        late = number(mean(matrix(intact, LATE).to_numpy()))
        return (
            f"{label}: {n_seeds} trained seed{'' if n_seeds == 1 else 's'}, too few for a claim. The mean adaptation "
            f"gain late after the onset is {late} of the level before; whether another training would show it is open."
        )
    scores = matrix(intact, LATE).dropna(axis=1, how="all")
    per_cell = [estimate(scores[[name]]) for name in scores]
    above, below = sum(cell.above_zero for cell in per_cell), sum(cell.below_zero for cell in per_cell)
    opens = {split: _opens(intact[intact["split"] == split]) for split in splits_of(intact)}
    yes, no = [s for s, holds in opens.items() if holds], [s for s, holds in opens.items() if not holds]
    text = (
        f"{label}: late after the onset the adaptation gain (intact minus frozen, paired) has an interval above 0 in "
        f"{above} of {len(per_cell)} scenarios, below 0 in {below}. "
    )
    if yes:
        text += f"A gap that opens after the onset (late above 0, and above early) is shown in {_listed(yes)}. "
    if no:
        text += f"{'None' if yes else 'No gap that opens after the onset'} is shown in {_listed(no)}."
    return text.strip()


def _opens(intact: pd.DataFrame) -> bool:
    """Whether the gain over the scenarios of a split is above 0 late after the onset, and grew until then."""
    gains = gain_estimates(intact)
    return gains["late"].above_zero and gains["late - early"].above_zero


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
