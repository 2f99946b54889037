"""How hard each perturbation is for each agent, in one figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sb3_plastic.report.document import PAGE, new_figure, plain, plot_style
from sb3_plastic.report.results import Results
from sb3_plastic.report.scores import perturbed, splits_of

_PROTOCOLS = {"static": "from the start", "onset": "mid-episode"}


def heat_map(results: Results, group: str) -> Figure | None:
    """
    Relative forward reward by kind and severity, one panel per label and protocol.

    :param results: of the comparison
    :param group: robot or environment
    """
    intact = perturbed(results, group)
    labels, protocols = results.labels_of(group), list(intact["protocol"].unique())
    if intact["relative"].isna().all():
        return None
    means = intact.groupby(["protocol", "label", "kind", "split", "train_seed"])["relative"].mean()
    means = means.groupby(level=[0, 1, 2, 3]).mean()
    splits = splits_of(intact)
    kinds_of = {protocol: _kinds(intact[intact["protocol"] == protocol]) for protocol in protocols}
    if len(splits) < 2 or max(means.groupby(level=[0, 1]).size()) < 2:
        return None  # how far is the same for all, or one cell for each agent: gallery and tables show it
    n_chunks = -(-len(labels) // max(2, 24 // len(splits)))  # so many cells of a number each fit on a page
    n_columns = -(-len(labels) // n_chunks)
    chunks = [labels[i : i + n_columns] for i in range(0, len(labels), n_columns)]
    rows = [(protocol, chunk) for protocol in protocols for chunk in chunks]
    heights = [0.6 + 0.17 * len(kinds_of[protocol]) for protocol, _ in rows]
    with plot_style():
        figure = new_figure(PAGE, 0.9 + sum(heights))
        grid = figure.subplots(len(rows), n_columns, squeeze=False, sharex=True, sharey="row", height_ratios=heights)
        for axes in grid.flat:
            axes.set_visible(False)
        for axes_row, (protocol, chunk) in zip(grid, rows, strict=True):
            kinds = kinds_of[protocol]
            for axes, label in zip(axes_row, chunk, strict=False):
                values = np.array([[means.get((protocol, label, k, s), np.nan) for s in splits] for k in kinds])
                axes.set_visible(True)
                image = axes.imshow(values, vmin=0, vmax=1.2, cmap="cividis", aspect="auto")
                axes.set_title(f"{plain(label)}\n{_PROTOCOLS[protocol]}")
                axes.set_xticks(range(len(splits)), map(plain, splits), rotation=45, ha="right")
                axes.set_yticks(range(len(kinds)), map(plain, kinds))
                axes.tick_params(length=0)
                axes.grid(False)
                axes.spines[:].set_visible(False)
                for (i, j), value in np.ndenumerate(values):
                    if not np.isnan(value):
                        color = "black" if value > 0.6 else "white"
                        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=5, color=color)
        for column in grid.T:
            [axes for axes in column if axes.get_visible()][-1].tick_params(labelbottom=True)
        figure.colorbar(image, ax=grid, label="relative forward reward", extend="both", shrink=0.5, aspect=30)
    return figure


def _kinds(records: pd.DataFrame) -> list[str]:
    """What is perturbed, the families of the training first."""
    families = records.loc[records["severity"].notna(), "kind"].unique().tolist()
    return families + [kind for kind in records["kind"].unique() if kind not in families]
