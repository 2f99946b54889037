"""The figures of the study of temporal tasks."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sb3_plastic.report.document import COLORS, PAGE, legend_of, new_figure
from sb3_plastic.report.stats import bootstrap_interval
from sb3_plastic.studies.looks import KNOWN
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.temporal.records import at_level, select
from sb3_plastic.studies.temporal.settings import ANALYSED, CONTROLS, HEADLINE, LONGER, NOISE, UPDATES, make_task
from sb3_plastic.tasks import TASKS, RewardReversal

LEVELS = [f"{drop:.0%}, {spurious:.1%}".replace(".0%", "%") for drop, spurious in NOISE]

COLOR = {name: KNOWN[name].color for name in [*itertools.chain(*HEADLINE.values()), *CONTROLS]}
"""Of the networks that are drawn; black is the reference decoder's."""


def drawn_lines(task: str) -> list[tuple[str, int, str, str]]:
    """Networks that are drawn for a task: name, times the updates, colour, style."""
    plastic = [(name, 1, COLOR[name], "-") for name in HEADLINE[task]]
    controls = [(name, 1, COLOR[name], "--") for name in CONTROLS]
    longer = [(name, 10, COLOR[name], ":") for name in LONGER]
    return plastic + controls + longer


def panels(tasks: list[str]) -> tuple[Figure, list[Axes]]:
    """One panel per task, side by side."""
    figure = new_figure(PAGE, 2.65)
    axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=True):
        axis.set_title(task)
    return figure, list(axes)


def shared_legend(figure: Figure, axes: list[Axes]) -> None:
    """Below all panels: each name once."""
    figure.legend(*legend_of(axes), loc="outside lower center", ncols=4)


def sweep(frame: pd.DataFrame, tasks: list[str]) -> Figure:
    """Accuracy against noise."""
    figure, axes = panels(tasks)
    x = range(len(NOISE))
    for axis, task in zip(axes, tasks, strict=True):
        reference = [at_level(select(frame, task, "reference"), level).accuracy.mean() for level in x]
        axis.plot(x, reference, color="black", linewidth=0.8, label="reference decoder")
        axis.axhline(make_task(task).chance, color="grey", linewidth=0.8, linestyle="-.", label="chance")
        for name, times, color, style in drawn_lines(task):
            scores = [at_level(select(frame, task, name, times), level).accuracy.to_numpy() for level in x]
            if not all(len(s) for s in scores):
                continue
            low, high = np.array([bootstrap_interval(s[:, None]) for s in scores]).T
            label = name if times == 1 else f"{name}, {times}x updates"
            axis.plot(x, [s.mean() for s in scores], color=color, linestyle=style, label=label)
            axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axis.set_xticks(x, LEVELS, rotation=40, ha="right")
        axis.set_xlabel("dropped, spurious")
    axes[0].set_ylabel("accuracy")
    shared_legend(figure, axes)
    return figure


def learning(cells: list[Result], tasks: list[str]) -> Figure:
    """Accuracy in training against updates, mean over seeds."""
    figure, axes = panels(tasks)
    for axis, task in zip(axes, tasks, strict=True):
        for name, times, color, style in drawn_lines(task):
            n = times * UPDATES[task]
            curves = [
                cell["curve"]
                for cell in cells
                if (cell["task"], cell["network"], cell["n_updates"], cell.get("ablation", "")) == (task, name, n, "")
            ]
            if times == 1 and curves:
                mean = np.mean(curves, axis=0)
                axis.plot((np.arange(len(mean)) + 0.5) / len(mean) * n, mean, color=color, linestyle=style, label=name)
        axis.set_xlabel("updates")
    axes[0].set_ylabel("accuracy in training")
    shared_legend(figure, axes)
    return figure


def traces(cells: list[Result], task: str) -> Figure | None:
    """Fast weights and modulator over a trial; for the reversal, the modulator over a round."""
    drawn = task, ANALYSED[task], UPDATES[task]
    found = [c["trace"] for c in cells if c.get("trace") and (c["task"], c["network"], c["n_updates"]) == drawn]
    if not found:
        return None
    figure = new_figure(PAGE, 2.3)
    left, right = figure.subplots(1, 2)
    for i, one in enumerate(found):
        left.plot(one["fast"], color=COLORS[0], linewidth=0.8, label="alpha h" if i == 0 else None)
        left.axhline(one["fixed"], color=COLORS[1], linewidth=0.8, linestyle="--", label="w" if i == 0 else None)
    left.set(xlabel="tick", ylabel="root mean square")
    left.legend()
    setting = make_task(task)
    for start, stop in setting.windows:
        left.axvspan(start, stop, color="grey", alpha=0.2, linewidth=0)
    if isinstance(setting, RewardReversal):
        for name, color in (("rewarded", COLORS[2]), ("unrewarded", COLORS[3])):
            for i, one in enumerate(found):
                right.plot(one[name], color=color, linewidth=0.8, label=name if i == 0 else None)
        begin = setting.show + setting.delay
        right.axvspan(setting.show - setting.answer, setting.show, color="grey", alpha=0.2, linewidth=0)
        right.axvspan(begin, begin + setting.feedback, color=COLORS[5], alpha=0.2, linewidth=0)
        right.set_xlabel("tick of the round")
        right.legend()
    else:
        for one in found:
            right.plot(one["modulator"], color=COLORS[2], linewidth=0.8)
        for start, stop in setting.windows:
            right.axvspan(start, stop, color="grey", alpha=0.2, linewidth=0)
        right.set_xlabel("tick")
    right.set_ylabel("modulator, mean over neurons")
    return figure


def tasks_of(frame: pd.DataFrame) -> list[str]:
    """Tasks that a study has results of, in the usual order."""
    return [task for task in TASKS if (frame.task == task).any()]
