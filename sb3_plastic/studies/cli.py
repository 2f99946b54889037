"""`sb3-plastic study`: whole studies with one command each, which can be stopped and go on where they were.

sb3-plastic study temporal --out results
sb3-plastic study temporal --out results --tasks association reversal --seeds 0 1 2 --jobs 2
sb3-plastic study temporal --out smoke --smoke
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sb3_plastic.tasks import TASKS


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a study.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    parser = argparse.ArgumentParser(
        prog="sb3-plastic study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    studies = parser.add_subparsers(required=True, metavar="study")
    temporal = studies.add_parser("temporal", help="temporal tasks with plastic and static networks, under noise")
    temporal.add_argument("--out", type=Path, required=True, help="folder; what is finished there is not run again")
    temporal.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    temporal.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    temporal.add_argument(
        "--grid-seeds", type=int, default=1, metavar="N", help="how many of the seeds the rest of the grid gets"
    )
    temporal.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, one thread each")
    temporal.add_argument("--smoke", action="store_true", help="a few updates of a few networks: does it run?")
    temporal.add_argument("--report-only", action="store_true", help="report on what is there, and run nothing")
    temporal.set_defaults(run=_temporal)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


def _temporal(args: argparse.Namespace) -> None:
    from sb3_plastic.studies.temporal.cells import one_thread, run_cells
    from sb3_plastic.studies.temporal.report import write_report
    from sb3_plastic.studies.temporal.study import list_cells, run_cell, run_smoke_cell, smoke_cells

    one_thread()
    cells = smoke_cells(args.tasks) if args.smoke else list_cells(args.tasks, args.seeds, args.grid_seeds)
    if not args.report_only:
        run = run_smoke_cell if args.smoke else run_cell
        for i, (cell, result) in enumerate(run_cells(cells, run, args.out, args.jobs), start=1):
            accuracies = " ".join(f"{test['accuracy']:.3f}" for test in result["tests"])
            print(f"[{i}/{len(cells)}] {cell.name}: {accuracies}", flush=True)
    for path in write_report(args.out):
        print(f"Wrote {path}")
