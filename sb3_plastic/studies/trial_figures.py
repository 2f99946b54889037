"""The figures of the studies of trained agents."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sb3_plastic.adaptive.hypotheses import DEFAULT, HYPOTHESES
from sb3_plastic.evaluation.measures import TAIL
from sb3_plastic.evaluation.scores import chosen
from sb3_plastic.perturbations.registration import ROBOTS
from sb3_plastic.report.document import COLORS, PAGE, legend_above, legend_of, new_figure
from sb3_plastic.studies.agents import ARMS
from sb3_plastic.studies.layers import FITTED_STEPS
from sb3_plastic.studies.looks import looks
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.trial_scores import over_seeds
from sb3_plastic.studies.trials import AFTER, BIN, CLOSE, CLOSE_BIN, SHOWN

LOOKS: dict[str, dict[str, Any]] = {
    "adaptive": dict(color=COLORS[0], linewidth=1.6, zorder=3),
    "frozen": dict(color=COLORS[1]),
    "told": dict(color="black", linestyle="--", linewidth=0.9),
    "lms": dict(color=COLORS[2], linestyle=":"),
    "rls": dict(color=COLORS[3], linestyle=":"),
    "l1": dict(color=COLORS[5], linestyle="-."),
}
"""How each arm is drawn."""
OTHER_AGENTS: list[dict[str, Any]] = [
    dict(color=COLORS[4], linewidth=0.9, linestyle=style) for style in ("-", (0, (5, 1)), "-.", ":")
]
"""How agents without a layer, which stand beside, are drawn, one after the other."""

ORDER = [*dict.fromkeys(["nominal", *DEFAULT, *HYPOTHESES])]
"""Of hypotheses: each has its colour by its place, whichever others a layer has."""

TITLES = {
    "reversed": "motors reversed",
    "wires_signed": "motors plugged in anew,\nsome reversed",
    "sensors_far_off": "all sensors off by 0.3",
    "late_1": "commands one step late",
}


def onset_figure(results: Sequence[Result]) -> Figure | None:
    """
    Speed around the onset, mean and quartiles of the episodes; below, which hypothesis acts, and what it estimates.

    :param results: of one robot and agent
    :return: None without curves of its own: other agents stand beside it
    """
    trials = [result for result in results if result.get("curves")]
    if not any(trial["arm"] in ARMS for trial in trials):
        return None
    watched = max((result for result in results if "watched" in result), key=_size, default=None)
    scenarios = [name for name in SHOWN if any(name in trial["curves"] for trial in trials)]
    n_rows = 1 if watched is None else 3
    figure = new_figure(PAGE, 1.8 if watched is None else 4.6)
    panels = figure.subplots(n_rows, len(scenarios), squeeze=False, sharex="row", sharey="row")
    for i, scenario in enumerate(scenarios):
        family = scenario.removesuffix("/onset").rsplit("/", 1)[-1]
        panels[0, i].set_title(TITLES.get(family, family))
        _speed(panels[0, i], [trial for trial in trials if scenario in trial["curves"]], scenario)
        if watched is not None:
            _acting(panels[1, i], watched, scenario)
            _estimates(panels[2, i], watched["watched"][scenario]["estimates"])
    speed = "speed, m/s" if trials[0]["robot"] in ROBOTS else "forward reward"
    for row, label in zip(panels, (speed, "share of robots", "estimates"), strict=False):
        row[0].set_ylabel(label)
        for axes in row:
            if axes.axison:
                axes.axvline(0, color="grey", linewidth=0.6)
    for axes in panels[-1]:
        axes.set_xlabel("steps since the onset")
    legend_above(figure, panels[0])
    if watched is not None:
        panels[2, -1].legend(*legend_of(panels[1]), fontsize=6, loc="lower center", title="which hypothesis acts")
    return figure


def _speed(axes: Axes, trials: Sequence[Result], scenario: str) -> None:
    x = np.arange(-TAIL, AFTER, BIN) + BIN / 2
    others = [arm for arm in dict.fromkeys(trial["arm"] for trial in trials) if arm not in LOOKS]
    looks = LOOKS | dict(zip(others, itertools.cycle(OTHER_AGENTS), strict=False))
    for arm, look in looks.items():
        curves = [trial["curves"][scenario] for trial in _counted([trial for trial in trials if trial["arm"] == arm])]
        if not curves:
            continue
        n = min(len(curve[0]) for curve in curves)  # short episodes end sooner
        middle, low, high = np.mean([np.array(curve)[:, :n] for curve in curves], axis=0)
        axes.plot(x[:n], middle, label=arm, **look)
        if arm in ("adaptive", "frozen"):
            axes.fill_between(x[:n], low, high, color=look["color"], alpha=0.2, linewidth=0)


def _counted(trials: Sequence[Result]) -> list[Result]:
    """The trials of an arm that count in the tables, too: one of each agent and layer, see ``trial_scores``."""
    most = max((_size(trial)[0] for trial in trials), default=0)
    largest: dict[tuple[Any, ...], Result] = {}
    for trial in sorted(trials, key=_size):
        if _size(trial)[0] == most:
            largest[trial["agent_seed"], trial.get("layer_seed")] = trial
    return [*largest.values()]


def _size(result: Result) -> tuple[int, int]:
    """Steps that the layer was fitted on, if there is one, and episodes."""
    layered = result.get("layer_seed") is not None
    return (result.get("steps") or FITTED_STEPS) if layered else 0, result.get("episodes", 0)


def _acting(axes: Axes, watched: Result, scenario: str) -> None:
    x = np.arange(-TAIL, CLOSE, CLOSE_BIN) + CLOSE_BIN / 2
    shares = np.array(watched["watched"][scenario]["acting"])
    below = np.zeros(len(x))
    for k, name in enumerate(watched["names"]):
        place = ORDER.index(name) if name in ORDER else len(ORDER)  # or one of your own
        color = "lightgrey" if name == "nominal" else COLORS[(place - 1) % len(COLORS)]
        seen = shares[k].max() > 0.1 or shares[k].mean() > 0.01  # for a moment in many robots, or for long in one
        label: dict[str, Any] = {"label": name.replace("_and_", " + ")} if seen else {}
        # There are more names than colours.
        again: dict[str, Any] = {"hatch": "////", "edgecolor": "white"} if place > len(COLORS) else {}
        axes.fill_between(x, below, below + shares[k], facecolor=color, linewidth=0, alpha=0.85, **again, **label)
        below = below + shares[k]


def _estimates(axes: Axes, estimates: Sequence[Sequence[float]]) -> None:
    x = np.arange(-TAIL, CLOSE, CLOSE_BIN) + CLOSE_BIN / 2
    if not estimates:
        axes.set_axis_off()  # late commands have nothing to estimate
    for i, values in enumerate(estimates):
        axes.plot(x, values, color=COLORS[i % len(COLORS)], linewidth=0.7)


def robustness_figure(frame: pd.DataFrame) -> Figure | None:
    """
    Speed of each agent in each arm by family, with intervals over seeds; one panel per suite and protocol.

    :param frame: scores of a robot
    :return: None if nothing was perturbed
    """
    frame = frame[(frame["control"] == "intact") & ~frame["split"].isin(["nominal", "reference", "sham"])]
    if frame.empty:
        return None
    shown = list(frame[["suite", "protocol"]].drop_duplicates().itertuples(index=False, name=None))
    families = {key: list(chosen(frame, suite=key[0], protocol=key[1])["family"].unique()) for key in shown}
    agents = list(frame[["agent", "arm"]].drop_duplicates().itertuples(index=False, name=None))
    row, apart = 0.06 + 0.02 * len(agents), 0.7 / len(agents)
    labels = {(agent, arm): agent if arm in ("frozen", "controls") else f"{agent}, {arm}" for agent, arm in agents}
    drawn = looks(labels.values())
    figure = new_figure(PAGE, 0.8 + row * sum(len(names) + 2 for names in families.values()))
    ratios = [len(names) + 1 for names in families.values()]
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    for axes, key in zip(panels, shown, strict=True):
        part = chosen(frame, suite=key[0], protocol=key[1])
        for i, (agent, arm) in enumerate(agents):
            found = [over_seeds(chosen(part, agent=agent, arm=arm, family=name), "speed") for name in families[key]]
            values, low, high = np.array([(e.value, e.low, e.high) for e in found]).T
            y = np.arange(len(found)) + apart * (i - (len(agents) - 1) / 2)
            errors = np.nan_to_num([values - low, high - values]).clip(min=0)
            label, look = labels[agent, arm], drawn[labels[agent, arm]]
            bar = dict(markersize=2.5, elinewidth=0.9)
            axes.errorbar(values, y, xerr=errors, fmt=look.marker, color=look.color, label=label, **bar)
        for i in range(0, len(families[key]), 2):  # every other row lies on grey, so that it ends where it ends
            axes.axhspan(i - 0.5, i + 0.5, color="grey", alpha=0.1, linewidth=0)
        axes.grid(False, axis="y")
        axes.axvline(1, color="grey", linewidth=0.6)
        axes.set_yticks(range(len(families[key])), families[key], fontsize=6)
        axes.set_ylim(len(families[key]) - 0.5, -0.5)
        axes.set_title(f"{key[0]}, {key[1]}")
    legend_above(figure, panels)
    panels[-1].set_xlabel("speed, 1: unperturbed")
    return figure
