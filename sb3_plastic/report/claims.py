"""What the intervals support, in words, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from sb3_plastic.evaluation.measures import TAIL
from sb3_plastic.evaluation.scores import matrix
from sb3_plastic.report.results import Results
from sb3_plastic.report.scores import RAW, estimate, gain_estimates, splits_of
from sb3_plastic.report.stats import COVERAGE

RULE = "net gain above 0, and late above early"
CLAIM = 3  # trained seeds, below which nothing is claimed of a method
# Why an agent has no gain in any episode: a gain is a share of the forward reward before the onset.
NO_GAIN = {
    "costs": "earned less than 0, of which no gain is a share: compare forward rewards, intact and frozen, in the "
    "table of every scenario",
    "early": f"met each onset before step {TAIL}, and a gain is a share of the mean of the {TAIL} steps before",
    "still": "stood still or had fallen before each onset",
}


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


def adapts_in(results: Results, group: str, label: str) -> list[str] | None:
    """
    The splits in which adaptation is shown, by `RULE`.

    :param results: of the comparison
    :param group: robot or environment
    :param label: an agent that was run with frozen fast weights
    :return: None if nothing is claimed, see :func:`open_because`
    """
    if open_because(results, group, label) is not None:
        return None
    onset = results.of(group, protocol="onset", control="intact", label=label)
    intact = onset[onset["net"].notna()]
    return [split for split in splits_of(intact) if _opens(intact[intact["split"] == split])]


def open_because(results: Results, group: str, label: str) -> str | None:
    """
    Why nothing is claimed of an agent: ``no onset`` was run; a reason of `NO_GAIN`; ``no sham`` with these onsets;
    ``few`` trained seeds.

    :param results: of the comparison
    :param group: robot or environment
    :param label: an agent that was run with frozen fast weights
    :return: None if there can be a claim
    """
    onset = results.of(group, protocol="onset", control="intact", label=label)
    if onset.empty:
        return "no onset"
    if onset[RAW].isna().all():
        if onset["forward_reward"].max() < 0:
            return "costs"
        return "early" if onset["onset"].max() < TAIL else "still"
    intact = onset[onset["net"].notna()]
    if intact.empty:
        return "no sham"
    return "few" if intact["train_seed"].nunique() < CLAIM else None


def few_seeds(results: Results) -> str:
    """What to keep in mind of the intervals. :param results: of the comparison"""
    counts = results.records.groupby(["group", "label"])["train_seed"].nunique()
    single = [str(label) for label in counts[counts == 1].index.get_level_values("label").unique()]
    text = (
        "Freezing costs a slower policy less, and the sham is run at full speed: a net gain above 0 shows adaptation, "
        "one below 0 does not show the opposite. "
    )
    if single:
        text += f"Of {_listed(single)} there is one trained seed: no interval, and no claim. "
    if counts.max() > 1:
        held = ", ".join(f"{share} % with {n} seeds" for n, share in COVERAGE.items())
        text += (
            f"Of few trained seeds intervals are too narrow: they hold the true mean in {held}, not in 95 % (measured "
            "on normal draws). Where nothing differs, the others exclude 0 by chance: of many intervals some do. "
            "All seeds met the same episodes: intervals are not about other ones."
        )
    return text.strip()


def _adapts(results: Results, group: str, label: str) -> str:
    onset = results.of(group, protocol="onset", control="intact", label=label)
    reason = open_because(results, group, label)
    if reason == "no onset":
        return f"{label}: it was not run with an onset in mid-episode, so nothing can be said of adaptation."
    if reason in NO_GAIN:
        return f"{label}: nothing can be said of adaptation, since it {NO_GAIN[reason]}."
    intact = onset[onset["net"].notna()]
    if reason == "no sham":
        return (
            f"{label}: no claim. There is no sham with these onsets, so what freezing costs where nothing is perturbed "
            f"is not known; the raw adaptation gain, {estimate(matrix(onset, RAW))}, may be all of that."
        )
    scores, raw = matrix(intact, "net"), estimate(matrix(intact, RAW))
    sham = estimate(matrix(results.sham_of(group, control="intact", label=label), RAW))
    net = estimate(scores)
    figures = f"{net}: raw {raw}, of which the sham, freezing where nothing is perturbed, has {sham}"
    if reason == "few":
        n_seeds = len(scores)
        return (
            f"{label}: {n_seeds} trained seed{'' if n_seeds == 1 else 's'}, too few for a claim. The net adaptation "
            f"gain is {figures}. Whether another training would show the same is open."
        )
    per_cell = [estimate(scores[[name]]) for name in scores]
    above, below = sum(cell.above_zero for cell in per_cell), sum(cell.below_zero for cell in per_cell)
    yes = adapts_in(results, group, label) or []
    no = [split for split in splits_of(intact) if split not in yes]
    text = (
        f"{label}: the net adaptation gain is {figures}. Its interval is above 0 in {above} of {len(per_cell)} "
        f"scenarios, below 0 in {below}. "
    )
    if yes:
        text += f"Adaptation ({RULE}) is shown in {_listed(yes)}. "
    if no:
        text += f"{'None' if yes else f'No adaptation ({RULE})'} is shown in {_listed(no)}. "
    if raw.above_zero and sham.above_zero and not net.above_zero:
        text += "It needs its plasticity to move: freezing costs as much where there is nothing to adapt to. "
    unpaired = [str(name) for name in matrix(onset, RAW).dropna(axis=1, how="all") if name not in scores]
    if unpaired:
        text += f"Without a sham of the same onsets, and left out: {_listed(unpaired)}."
    return text.strip()


def _opens(intact: pd.DataFrame) -> bool:
    """Whether the net gain over the scenarios of a split is above 0, and grew after the onset, in enough seeds."""
    if intact["train_seed"].nunique() < CLAIM:
        return False
    gains = gain_estimates(intact)
    return gains["net gain"].above_zero and gains["net, late - early"].above_zero


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
