"""Reports of `sb3-plastic evaluate`: what adapts, what is just better, and what the intervals support.

    from sb3_plastic.report import write_report
    write_report(["results/oja_0", "results/oja_1", "results/static_0"], "report")

In reading order: `results` (folders, read and checked), `scores` (tables), `curves` (what happens around the onset),
`figures` and `heat_map`, `claims` (what may be said), `page` (all of it in order). It knows nothing of spiking
networks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sb3_plastic.progress import Progress
from sb3_plastic.report.document import FORMATS, checked_formats
from sb3_plastic.report.page import compose
from sb3_plastic.report.results import ReportError, Results, read_results

__all__ = ["ReportError", "Results", "read_results", "write_report"]


def write_report(
    results: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    title: str | None = None,
    formats: str | Collection[str] = FORMATS,
    oracle: str | None = None,
    baseline: str | None = None,
    progress_bar: bool = False,
) -> list[Path]:
    """
    Write ``report.md`` with ``figures/*.svg, *.png``, and ``report.html``, a single file.

    :param results: one results folder or several, one per trained model, or a folder that contains them
    :param out: folder to write to
    :param title: None: from the suite and the robots
    :param formats: ``"md"``, ``"html"``, or both
    :param oracle: label of the policy that observes the context; None: the one with "oracle" in its label
    :param baseline: label of the static policy to compare with; None: the only one without controls, if it is one
    :param progress_bar: show progress (needs tqdm)
    :return: the documents written
    :raises ReportError: if the folders cannot be reported, or not together
    :raises UserError: on an unknown format
    """
    formats = checked_formats(formats)
    folders = [results] if isinstance(results, str | Path) else list(results)
    with Progress(progress_bar) as progress:
        document = compose(read_results(folders, oracle=oracle, baseline=baseline), title, progress)
    return document.write(out, formats)
