"""The figures of the study of meta-RL, from its estimates."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sb3_plastic.evaluation.scores import chosen
from sb3_plastic.report.document import COLORS, PAGE, legend_above, new_figure
from sb3_plastic.studies.looks import Look, looks

SPLITS = ("interp", "extrap1", "extrap2", "novel")
GAINS = {"raw_gain": "raw", "net_gain": "net of the sham"}


def relative_figure(scores: pd.DataFrame) -> Figure:
    """
    Relative forward reward from an onset on, by split and agent.

    :param scores: estimates of a robot
    """
    figure = new_figure(PAGE, 2.6)
    axes = figure.subplots()
    found = chosen(scores, protocol="onset", control="intact", score="relative")
    splits = [split for split in SPLITS if split in set(found["split"])]
    agents = list(found["agent"].unique())
    for i, (agent, look) in enumerate(looks(agents).items()):
        part = found[found["agent"] == agent].set_index("split").reindex(splits)
        x = [j + (i - (len(agents) - 1) / 2) * 0.12 for j in range(len(splits))]
        _points(axes, x, part, look, agent)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xticks(range(len(splits)), splits)
    axes.set_ylabel("forward reward, relative to nominal")
    if agents:
        legend_above(figure, [axes])
    return figure


def gain_figure(scores: pd.DataFrame) -> Figure:
    """
    Adaptation gains of each plastic agent by split, and those of the sham.

    :param scores: estimates of a robot
    """
    figure = new_figure(PAGE, 2.4)
    found = chosen(scores, protocol="onset", control="intact")
    agents = list(found[found["score"] == "net_gain"]["agent"].unique())
    splits = [split for split in (*SPLITS, "all", "sham") if split in set(found["split"])]
    panels = figure.subplots(1, max(len(agents), 1), sharey=True, squeeze=False)[0]
    for axes, agent in zip(panels, agents, strict=False):
        for i, (score, label) in enumerate(GAINS.items()):
            part = found[(found["agent"] == agent) & (found["score"] == score)].set_index("split").reindex(splits)
            _points(axes, [j + 0.24 * i - 0.12 for j in range(len(splits))], part, Look(COLORS[i]), label)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xticks(range(len(splits)), splits, rotation=30)
        axes.set_title(agent)
    panels[0].set_ylabel("adaptation gain")
    if agents:
        legend_above(figure, panels)
    return figure


def _points(axes: Axes, x: Sequence[float], part: pd.DataFrame, look: Look, label: str) -> None:
    low, high = part["value"] - part["low"], part["high"] - part["value"]
    errors = [side.fillna(0).clip(lower=0).to_numpy() for side in (low, high)]
    axes.errorbar(
        x, part["value"], errors, fmt=look.marker, color=look.color, markersize=3, elinewidth=0.9, label=label
    )
