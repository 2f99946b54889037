"""The verdict: one sentence, and three figures for each agent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from sb3_plastic.evaluation.scores import iqm, matrix
from sb3_plastic.report.claims import CLAIM, NO_GAIN, adapts_in, open_because
from sb3_plastic.report.document import formatted
from sb3_plastic.report.results import Results
from sb3_plastic.report.scores import estimate, met_onset, perturbed

FIGURES = ("relative forward reward, onset", "net adaptation gain", "fallen after an onset")

ANSWERS = {
    "shown": "adaptation is shown for {}",
    "not shown": "adaptation is not shown for {}: what freezing the fast weights costs is no more than the sham's, or "
    "does not grow after the onset",
    "few": f"whether {{}} adapts is open: there are fewer than {CLAIM} trained seeds",
    **{reason: f"nothing can be said of adaptation in {{}}, which {why}" for reason, why in NO_GAIN.items()},
    "no onset": "nothing is said of adaptation in {}, not run with an onset in mid-episode",
    "no sham": "whether {} adapts is open: there is no sham with these onsets, so what freezing costs where nothing "
    "changes is not known",
    "not asked": "nothing is said of adaptation in {}, not run with frozen fast weights",
}


def verdict(results: Results) -> str:
    """One sentence. :param results: of the comparison"""
    agents: dict[str, list[str]] = {answer: [] for answer in ANSWERS}
    for group in results.groups:
        for label in results.labels_of(group):
            name = label if len(results.groups) == 1 else f"{label} ({group})"
            agents[_answer(results, group, label)].append(name)
    if not any(agents[answer] for answer in ANSWERS if answer != "not asked"):
        return "Nothing can be said of adaptation: no agent was run with its fast weights frozen at the onset."
    parts = [ANSWERS[answer].format(_and(names)) for answer, names in agents.items() if names]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def key_figures(results: Results) -> pd.DataFrame:
    """
    One row per robot and agent, with `FIGURES`, over all scenarios with an onset. Agents without any are left out, and
    figures that no agent has.

    :param results: of a comparison
    """
    rows = []
    for group in results.groups:
        intact = perturbed(results, group)
        for label in results.labels_of(group):
            onset = intact[(intact["label"] == label) & (intact["protocol"] == "onset")]
            values = (
                estimate(matrix(onset, "relative"), iqm),
                estimate(matrix(onset, "net")),
                estimate(matrix(met_onset(onset), "fell")),
            )
            shown = {name: str(v) for name, v in zip(FIGURES, values, strict=True) if not math.isnan(v.value)}
            if not shown:
                continue
            rows.append({"robot": group, "agent": label, "trained seeds": onset["train_seed"].nunique(), **shown})
    there = [name for name in FIGURES if any(name in row for row in rows)]
    return pd.DataFrame(rows, columns=["robot", "agent", "trained seeds", *there]).fillna(formatted(math.nan))


def _answer(results: Results, group: str, label: str) -> str:
    if label not in results.plastic_labels(group):
        return "not asked"
    reason = open_because(results, group, label)
    return reason or ("shown" if adapts_in(results, group, label) else "not shown")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
