"""Learning curves of trainings that are there: a table and a figure.

Each argument is a group of trainings (one per seed) drawn in one colour, a label and the folders of the trainings:

sb3-plastic study curves --out docs/results/halfcheetah_100k \\
  "oja + simple=logs/plastic_ppo/HalfCheetah-v5_1,logs/plastic_ppo/HalfCheetah-v5_2"
sb3-plastic study curves --out docs/results/halfcheetah_100k --report-only

A point is the mean return of the training episodes (with exploration noise) that ended within one bin of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import EngFormatter
from stable_baselines3.common.monitor import LoadMonitorResultsError, load_results

from sb3_plastic.errors import UserError
from sb3_plastic.files import replace_file
from sb3_plastic.report.document import legend_above, new_figure, plot_style, small_png
from sb3_plastic.safe import DamagedError
from sb3_plastic.studies.looks import looks
from sb3_plastic.studies.options import add_out, parser_of, whole
from sb3_plastic.studies.results import read_table
from sb3_plastic.studies.table import to_csv
from sb3_plastic.versions import versions

Curve = dict[str, list[float]]
"""``steps``: right edge of each bin that has episodes, environment steps; ``returns``: their mean return."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. :param argv: arguments; None: those of the process"""
    parser = parser_of("curves", __doc__)
    parser.add_argument("groups", nargs="*", metavar="LABEL=FOLDER,FOLDER,...")
    add_out(parser)
    parser.add_argument("--bin-size", type=whole, default=10_000, help="environment steps per point (default: 10000)")
    parser.add_argument("--report-only", action="store_true", help="draw the curves.csv in --out")
    args = parser.parse_args(argv)
    table = args.out / "curves.csv"
    if not args.report_only:
        rows = []
        for group in args.groups:
            label, _, folders = group.rpartition("=")
            seeds = [*map(Path, folders.split(","))]
            if not label or len({*seeds}) < len(seeds):
                parser.error(f"{group!r} is not LABEL=FOLDER,FOLDER,..., one folder for each seed, each once.")
            for folder in seeds:
                curve = read_curve(folder, args.bin_size)
                if not curve["returns"]:
                    raise UserError(f"In {folder} no episode has ended yet: there is no return to show.")
                rows.append({"label": label, **curve, "versions": versions()})
        if not rows:
            parser.error("name the trainings as LABEL=FOLDER,FOLDER,..., or draw a table with --report-only.")
        replace_file(table, to_csv(rows))
    elif not table.is_file():
        parser.error(f"there is no {table}: name the trainings, without --report-only.")
    groups: dict[str, list[Curve]] = {}
    for row in read_table(table, "label"):
        groups.setdefault(row["label"], []).append(row)
    for label, curves in groups.items():
        last = [curve["returns"][-1] for curve in curves]
        print(f"{label:30} last bin: {np.mean(last):8.1f}  by seed: {', '.join(f'{value:.0f}' for value in last)}")
    draw_curves(groups, args.out / "curves.png")


def read_curve(folder: Path, bin_size: int) -> Curve:
    """
    The learning curve of a training.

    :param folder: of the training, with the monitor files of its environments
    :param bin_size: environment steps per point
    :raises UserError: if there are no monitor files, or one is damaged
    """
    try:  # all environments, in the order of time, without a last row that was cut
        episodes = load_results(str(folder))[["r", "l", "t"]].astype(float).dropna()
    except (AssertionError, LookupError, ValueError) as error:
        raise DamagedError(f"A *.monitor.csv in {folder}", "it is cut, or something else") from error
    except LoadMonitorResultsError as error:
        raise UserError(f"{folder} is no training: there are no *.monitor.csv in it.") from error
    bins = np.ceil(episodes.l.cumsum() / bin_size) * bin_size
    means = episodes.r.groupby(bins.to_numpy()).mean()
    return {"steps": [int(step) for step in means.index], "returns": [round(value, 1) for value in means]}


def draw_curves(groups: Mapping[str, Sequence[Mapping[str, list[float]]]], path: Path) -> None:
    """
    Draw one colour per group: thin lines for the seeds, a thick one for their mean.

    :param groups: curves by label
    :param path: of the PNG
    """
    with plot_style():
        figure = new_figure(6.0, 3.4 + 0.08 * len(groups))
        axes = figure.subplots()
        for (label, runs), drawn in zip(groups.items(), looks(groups).values(), strict=True):
            if not (grid := sorted(set.intersection(*(set(run["steps"]) for run in runs)))):
                continue  # no bin in which an episode of every seed has ended
            rows = [np.interp(grid, run["steps"], run["returns"]) for run in runs]
            axes.plot(grid, np.transpose(rows), drawn.line, color=drawn.color, alpha=0.35, linewidth=0.8)
            mean = f"{label} (mean of {len(rows)})"
            axes.plot(grid, np.mean(rows, axis=0), drawn.line, color=drawn.color, linewidth=1.8, label=mean)
        axes.set(xlabel="environment steps", ylabel="return of training episodes")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if axes.has_data():
            legend_above(figure, [axes])
        replace_file(path, small_png(figure))
