"""The figure of the scan's growth."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from sb3_plastic.report.document import PAGE, legend_above, new_figure

NAMES = {
    "N": "N, neurons a layer",
    "T": "T, environment steps",
    "B": "B, environments",
    "K": "K, ticks of a step",
}


def growth_figure(rows: list[dict[str, Any]]) -> Figure:
    """Time above, memory below, one column per size that grows; a dashed line is proportional to synapses x ticks."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = new_figure(PAGE, 3.4)
    panels = figure.subplots(2, len(axes), sharex="col", squeeze=False)
    for column, axis in enumerate(axes):
        series = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in series]
        for panel, name in zip(panels[:, column], ("ms", "peak MB"), strict=True):
            panel.loglog(values, [row[name] for row in series], "o-", base=2, markersize=3, label="measured")
        middle = series[len(series) // 2]
        rate = middle["ms"] / middle["synapses x ticks"]
        proportional = [rate * row["synapses x ticks"] for row in series]
        panels[0, column].loglog(values, proportional, "k--", base=2, label="proportional to synapses x ticks")
        panels[1, column].set_xlabel(NAMES.get(axis, axis))
    panels[0, 0].set_ylabel("forward +\nbackward, ms")
    panels[1, 0].set_ylabel("peak extra\nmemory, MB")
    legend_above(figure, panels[0])
    return figure
