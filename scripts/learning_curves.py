"""Learning curves of RL Zoo runs, as a table, a JSON file and a picture.

Each argument is a group of runs (one per seed) to be drawn in one colour: a label and the folders that training made::

    python scripts/learning_curves.py --out docs/results/halfcheetah_100k \
        "oja + simple=logs/plastic_ppo/HalfCheetah-v5_1,logs/plastic_ppo/HalfCheetah-v5_2"

What is plotted is the return of the training episodes, with the exploration noise, averaged over bins of steps.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
from stable_baselines3.common.monitor import load_results

from sb3_plastic.evaluation.provenance import versions
from sb3_plastic.files import replace_file


def read_curve(folder: Path, bin_size: int) -> dict[str, list[float]]:
    """
    :param folder: a training's folder, with the monitor files of its environments
    :param bin_size: steps per bin
    :return: ``steps``: right edge of each bin with episodes in it; ``returns``: their mean return
    """
    episodes = load_results(str(folder))  # all environments, in the order of time
    bins = np.ceil(episodes.l.cumsum() / bin_size) * bin_size
    means = episodes.r.groupby(bins.to_numpy()).mean()
    return {"steps": means.index.to_list(), "returns": [round(value, 1) for value in means]}


def plot(groups: dict[str, list[dict[str, list[float]]]], path: Path) -> None:
    """One colour per group: thin lines for the seeds, a thick one for their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for i, (label, curves) in enumerate(groups.items()):
        grid = sorted(set.intersection(*(set(curve["steps"]) for curve in curves)))
        rows = [np.interp(grid, curve["steps"], curve["returns"]) for curve in curves]
        for row in rows:
            axes.plot(grid, row, color=f"C{i}", alpha=0.35, linewidth=1)
        axes.plot(grid, np.mean(rows, axis=0), color=f"C{i}", linewidth=2.2, label=f"{label} (mean of {len(rows)})")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return of training episodes")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    replace_file(path, picture.getvalue())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+", metavar="LABEL=FOLDER,FOLDER,...")
    parser.add_argument("--out", type=Path, required=True, help="folder for curves.json and curves.png")
    parser.add_argument("--bin-size", type=int, default=10_000, help="environment steps per point")
    args = parser.parse_args()

    groups = {}
    for group in args.groups:
        label, separator, folders = group.rpartition("=")
        if not separator:
            parser.error(f"{group!r} is not LABEL=FOLDER,FOLDER,...")
        groups[label] = [read_curve(Path(folder), args.bin_size) for folder in folders.split(",")]
    for label, curves in groups.items():
        last = [curve["returns"][-1] for curve in curves]
        print(f"{label:30} last {args.bin_size} steps: {np.mean(last):8.1f}  seeds: {last}")

    content = json.dumps({"versions": versions(), "groups": groups}, indent=1) + "\n"
    replace_file(args.out / "curves.json", content.encode())
    plot(groups, args.out / "curves.png")


if __name__ == "__main__":
    main()
