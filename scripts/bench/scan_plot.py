"""The figure of the scan's growth."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure


def growth_figure(rows: list[dict[str, Any]]) -> Figure:
    """Time above, memory below, one column per size that grows; a dashed line is proportional to synapses x ticks."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3 * len(axes), 5), layout="constrained")
    panels = figure.subplots(2, len(axes), sharex="col")
    for column, axis in enumerate(axes):
        series = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in series]
        for panel, name in zip(panels[:, column], ("ms", "peak MB"), strict=True):
            panel.loglog(values, [row[name] for row in series], "o-", base=2)
        middle = series[len(series) // 2]
        rate = middle["ms"] / middle["synapses x ticks"]
        panels[0, column].loglog(values, [rate * row["synapses x ticks"] for row in series], "k--", base=2)
        panels[1, column].set_xlabel(axis)
    panels[0, 0].set_ylabel("forward + backward, ms")
    panels[1, 0].set_ylabel("peak extra memory, MB")
    return figure
