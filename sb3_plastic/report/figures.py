"""The figures of a report. Each function returns None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sb3_plastic.evaluation.records import LAYER_OFF
from sb3_plastic.evaluation.scores import matrix
from sb3_plastic.report import stats
from sb3_plastic.report.curves import AFTER, Curve, Onset, curve, event_curve, mean
from sb3_plastic.report.document import COLORS, PAGE, legend_above, legend_columns, new_figure, plain, plot_style
from sb3_plastic.report.results import Results
from sb3_plastic.report.scores import met_onset, perturbed

Array = NDArray[Any]
Look = dict[str, Any]

CONTROLS: dict[str, tuple[str, Look]] = {
    "intact": ("intact", dict(color=COLORS[0], linestyle="-")),
    "frozen_at_onset": ("frozen at the onset", dict(color=COLORS[1], linestyle="--")),
    "zeroed_at_onset": ("zeroed at the onset", dict(color=COLORS[2], linestyle="-.")),
    "off": ("plasticity off", dict(color=COLORS[3], linestyle=":")),
    LAYER_OFF: ("adaptive layer off", dict(color=COLORS[4], linestyle=(0, (3, 1, 1, 1)))),
}
ORACLE: Look = dict(color="black", linestyle=(0, (5, 1)), linewidth=0.9)
FROZEN: Look = dict(linestyle=(0, (1, 1)), linewidth=1.2)
SINCE_ONSET = "steps since the onset"


def looks(results: Results, group: str) -> dict[str, Look]:
    """How each label is drawn, everywhere alike. :param results: of the comparison :param group: robot"""
    styles = ("-", "--", ":", "-.", (0, (4, 1, 1, 1, 1, 1)))
    others = [label for label in results.labels_of(group) if label != results.oracle]
    chosen: dict[str, Look] = {
        label: dict(color=COLORS[i % (len(COLORS) - 1)], linestyle=styles[i % len(styles)])
        for i, label in enumerate(others)
    }
    return chosen if results.oracle is None else {**chosen, results.oracle: ORACLE}


def adaptation(onsets: Sequence[Onset], label: str, oracle: str | None) -> Figure | None:
    """
    Forward reward around the onset: intact, every control, and the oracle, one panel per split and one of the sham.

    :param onsets: of all labels of a robot
    :param label: whose
    :param oracle: label of the oracle
    """
    own = [onset for onset in onsets if onset.label == label]
    lines = [(name, look, own, _forward(control)) for control, (name, look) in CONTROLS.items()]
    lines.append(("oracle", ORACLE, [onset for onset in onsets if onset.label == oracle], _forward("intact")))
    return _by_split(lines, "forward reward per step")


def agents(onsets: Sequence[Onset], look: dict[str, Look]) -> Figure | None:
    """Forward reward around the onset of all labels, intact. :param onsets: of a robot :param look: of the labels"""
    return _by_split(_of_each(onsets, look, _perturbed), "forward reward per step")


def gain(onsets: Sequence[Onset], look: dict[str, Look]) -> Figure | None:
    """The net gain over time, and what the sham takes off. :param onsets: of a robot :param look: of the labels"""
    if all(onset.net is None for onset in onsets):
        return None
    return _by_split(_of_each(onsets, look, lambda o: o.gain if o.split == "sham" else o.net), "gain, net (sham: raw)")


def raw_gain(onsets: Sequence[Onset], look: dict[str, Look]) -> Figure | None:
    """The raw gain, intact minus frozen, over time. :param onsets: of a robot :param look: of the labels"""
    return _by_split(_of_each(onsets, look, lambda o: o.gain), "raw adaptation gain")


def scenario_gains(onsets: Sequence[Onset], look: dict[str, Look]) -> Figure | None:
    """The net adaptation gain of each scenario. :param onsets: of a robot :param look: of the labels"""
    return _by_scenario(_of_each(onsets, look, lambda o: o.net), "net adaptation gain")


def gallery(onsets: Sequence[Onset], look: dict[str, Look]) -> Figure | None:
    """
    Forward reward around the onset in each scenario; of plastic labels frozen, too.

    :param onsets: of a robot
    :param look: of the labels
    """
    lines = _of_each(onsets, look, _perturbed)
    for label in look:
        own = [onset for onset in onsets if onset.label == label and onset.split != "sham"]
        if any("frozen_at_onset" in onset.forward for onset in own):
            lines.append((f"{label}, frozen", look[label] | FROZEN, own, _forward("frozen_at_onset")))
    return _by_scenario(lines, "forward reward per step")


def fast_weights(onsets: Sequence[Onset], label: str, names: Sequence[str] = ()) -> Figure | None:
    """
    Root mean square of the fast weights around the onset, layer by layer; of an adaptive layer, how far each
    hypothesis' estimates are from nominal.

    :param onsets: of all labels
    :param label: whose fast weights
    :param names: of these layers; those without are numbered
    """
    own = [onset for onset in onsets if onset.label == label]
    n_layers = max((h.shape[-1] for onset in own for h in onset.fast_weights.values()), default=0)
    names = [*names, *(f"layer {i}" for i in range(len(names), n_layers))]
    lines = [
        (
            f"{names[i]}, {CONTROLS[control][0]}",
            dict(color=COLORS[i % len(COLORS)], linestyle=styles[i // len(COLORS) % len(styles)]),
            own,
            _layer(control, i),
        )
        for i in range(n_layers)
        for control, styles in (("intact", ("-", "--")), ("zeroed_at_onset", (":", "-.")))
    ]
    return _by_split(lines, "RMS of fast weights")


def profiles(results: Results, group: str, look: dict[str, Look]) -> Figure | None:
    """
    Performance profiles: the fraction of scenarios in which a label keeps more than tau of its nominal forward reward.

    :param results: of the comparison
    :param group: robot or environment
    :param look: of the labels
    """
    intact = perturbed(results, group)
    if intact["relative"].isna().all():
        return None
    tau = np.linspace(0, 1.3, 131)
    curves = {}
    for label in look:
        part = intact[intact["label"] == label]
        if len(scores := matrix(part, "relative")):
            seeds = np.stack([stats.performance_profile(row, tau) for row in scores.to_numpy(dtype=float)])
            curves[label] = Curve(tau, mean(seeds), *stats.bootstrap_band(seeds))
    return _one_panel(curves, look, "relative forward reward τ", "fraction of scenarios above τ")


def survival(results: Results, group: str, look: dict[str, Look]) -> Figure | None:
    """
    Fraction of episodes that have not fallen yet, from the onset on.

    :param results: of the comparison
    :param group: robot or environment
    :param look: of the labels
    """
    onset = met_onset(results.of(group, protocol="onset", control="intact"))
    if not onset["fell"].any():
        return None
    time, observed = onset["length"] - onset["onset"], onset["fell"] == 1
    return _events(onset.assign(time=time, observed=observed), look, "fraction not fallen", complement=False)


def recovery(results: Results, group: str, look: dict[str, Look]) -> Figure | None:
    """
    Fraction of episodes that have recovered, from the onset on.

    :param results: of the comparison
    :param group: robot or environment
    :param look: of the labels
    """
    onset = results.of(group, protocol="onset", control="intact")
    onset = onset[onset["recovery_time"].notna()]
    if onset.empty:
        return None
    onset = onset.assign(time=onset["recovery_time"], observed=onset["recovered"] == 1)
    return _events(onset, look, "fraction recovered", complement=True)


def lifetime(results: Results, group: str, look: dict[str, Look]) -> Figure | None:
    """
    Forward reward over a life, with fast weights carried across episodes (solid) and reset (dotted).

    :param results: of the comparison
    :param group: robot or environment
    :param look: of the labels
    """
    life = results.of(group, protocol="lifetime")
    curves, styles = {}, {}
    for (label, control), part in life.groupby(["label", "control"], sort=False):
        table = part.groupby(["train_seed", "episode"])["forward_reward"].mean().unstack()
        seeds, name = table.to_numpy(dtype=float), f"{label}, {control}"
        curves[name] = Curve(table.columns.to_numpy() + 1, mean(seeds), *stats.bootstrap_band(seeds))
        styles[name] = look[str(label)] | dict(linestyle="-" if control == "carried" else ":", marker=".")
    return _one_panel(curves, styles, "episode of the life", "forward reward")


# Helpers

SHAM_TITLE = "nothing perturbed (sham)"

Value = Callable[[Onset], Array | None]
Line = tuple[str, Look, Sequence[Onset], Value]


def _of_each(onsets: Sequence[Onset], look: dict[str, Look], value: Value) -> list[Line]:
    return [(label, look[label], [o for o in onsets if o.label == label], value) for label in look]


def _perturbed(onset: Onset) -> Array | None:
    return None if onset.split == "sham" else onset.forward["intact"]


def _forward(control: str) -> Value:
    return lambda onset: onset.forward.get(control)


def _layer(control: str, i: int) -> Value:
    return lambda onset: onset.fast_weights[control][:, i] if control in onset.fast_weights else None


def _short(scenario: str) -> str:
    """Without the suite's name and what all have in common."""
    return scenario.split("/", 1)[-1].removesuffix("/onset")


def _by_split(lines: Iterable[Line], ylabel: str) -> Figure | None:
    return _panels(lines, ylabel, lambda o: SHAM_TITLE if o.split == "sham" else o.split, height=1.7)


def _by_scenario(lines: Iterable[Line], ylabel: str) -> Figure | None:
    return _panels(lines, ylabel, lambda onset: _short(onset.scenario), height=1.3)


def _panels(lines: Iterable[Line], ylabel: str, panel_of: Callable[[Onset], str], height: float) -> Figure | None:
    """Curves with their bands in small multiples, which share their axes."""
    drawn: dict[str, dict[str, tuple[Look, Curve]]] = {}
    for name, look, onsets, value in lines:
        panels = list(dict.fromkeys(map(panel_of, onsets)))
        for panel in panels:
            if (found := curve([onset for onset in onsets if panel_of(onset) == panel], value)) is not None:
                drawn.setdefault(panel, {})[name] = (look, found)
    if not drawn:
        return None
    drawn = dict(sorted(drawn.items(), key=lambda panel: panel[0] == SHAM_TITLE))  # the sham last
    n_columns = min(4, len(drawn)) if len(drawn) not in (5, 6) else 3
    n_rows = -(-len(drawn) // n_columns)
    with plot_style():
        names = {name for curves in drawn.values() for name in curves}
        beyond = max(0, -(-len(names) // legend_columns(names, PAGE)) - 2)  # rows of a legend that is a long one
        figure = new_figure(PAGE, 0.5 + (height if n_columns > 1 else max(height, 2.2)) * n_rows + 0.16 * beyond)
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
        for axes, (title, curves) in zip(grid.flat, drawn.items(), strict=False):
            axes.axvline(0, color="gray", linewidth=0.8, zorder=0)
            axes.axhline(0, color="gray", linewidth=0.8, zorder=0)  # and 0 is seen: a small change looks small
            for name, (look, found) in curves.items():
                _draw(axes, name, look, found)
            axes.set_title(plain(title))
        for axes in grid.flat[len(drawn) :]:
            axes.set_visible(False)
        for axes in [*grid[-1, :], *grid.flat[len(drawn) - n_columns : len(drawn)]]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel(SINCE_ONSET, fontsize=8)
        figure.supylabel(ylabel, fontsize=8)
        legend_above(figure, grid.flat)
    return figure


def _events(episodes: Any, look: dict[str, Look], ylabel: str, complement: bool) -> Figure | None:
    grid = np.linspace(0, min(AFTER, float(episodes["time"].max())), 201)
    curves = {}
    for label in look:
        by_seed = episodes[episodes["label"] == label].groupby("train_seed")
        times = {int(seed): (part["time"].to_numpy(), part["observed"].to_numpy()) for seed, part in by_seed}
        if times:
            found = event_curve(times, grid)
            turned = Curve(grid, 1 - found.mean, 1 - found.high, 1 - found.low)
            curves[label] = turned if complement else found
    return _one_panel(curves, look, SINCE_ONSET, ylabel)


def _one_panel(curves: dict[str, Curve], look: dict[str, Look], xlabel: str, ylabel: str) -> Figure | None:
    if not curves:
        return None
    with plot_style():
        legend_rows = -(-len(curves) // legend_columns(curves, PAGE))
        figure = new_figure(PAGE, 2.3 + 0.16 * legend_rows)
        axes = figure.subplots()
        for name, found in curves.items():
            _draw(axes, name, look[name], found)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if "fraction" in ylabel:
            axes.set_ylim(-0.05, 1.05)  # a curve at 0 or 1 stays clear of the frame
        legend_above(figure, [axes])
    return figure


def _draw(axes: Axes, name: str, look: Look, found: Curve) -> None:
    """A curve and its band, broken at the onset: a line across it would lead up to what has not begun."""
    label = plain(name)
    for part in (found.time < 0, found.time >= 0):
        if not part.any():
            continue
        axes.plot(found.time[part], found.mean[part], label=label, **look)
        label = "_nolegend_"
        if not np.isnan(found.low).all():
            band = found.time[part], found.low[part], found.high[part]
            axes.fill_between(*band, color=look["color"], alpha=0.15, linewidth=0)
