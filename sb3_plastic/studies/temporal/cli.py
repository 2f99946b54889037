"""Temporal tasks: which networks solve them, under how much noise (docs/temporal.md).

sb3-plastic study temporal --out study --jobs 2
sb3-plastic study temporal --out study --tasks association reversal --seeds 0 1 2
sb3-plastic study temporal --out smoke --smoke                       # half a minute: does it run?
sb3-plastic study temporal --out search --search --seeds 100 101     # the search behind the settings
sb3-plastic study temporal --out docs/results/temporal --report-only # figures and tables of what is published
"""

from __future__ import annotations

from collections.abc import Sequence

from sb3_plastic.studies.options import add_out, add_running, parser_of, place_of, whole
from sb3_plastic.studies.results import required_results
from sb3_plastic.studies.runner import one_thread, run_cells
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.temporal.records import records
from sb3_plastic.studies.temporal.report import write_report
from sb3_plastic.studies.temporal.search import FIRST_SEED, ranking, run_search_cell, search_cells
from sb3_plastic.studies.temporal.study import list_cells, run_cell, smoke_cells
from sb3_plastic.studies.temporal.tables import headline, parts
from sb3_plastic.tasks import TASKS


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the study.

    :param argv: arguments; None: those of the process
    """
    parser = parser_of("temporal", __doc__)
    add_out(parser)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    add_running(parser, [0, 1, 2, 3, 4])
    parser.add_argument(
        "--grid-seeds",
        type=whole,
        default=1,
        metavar="N",
        help="how many of the seeds the rest of the grid gets (default: %(default)s)",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--smoke", action="store_true", help="a few updates of a few networks: does it run?")
    kind.add_argument("--search", action="store_true", help=f"search for settings, with seeds from {FIRST_SEED} on")
    args = parser.parse_args(argv)
    one_thread()
    if args.search:
        if not args.report_only:
            cells = search_cells(args.tasks, args.seeds)
            run_cells(cells, run_search_cell, args.out, place_of(args), accuracies)
        print(
            ranking(required_results(args.out, "task", "network").values()).to_string(index=False, float_format="%.3f")
        )
        return
    if not args.report_only:
        cells = smoke_cells(args.tasks) if args.smoke else list_cells(args.tasks, args.seeds, args.grid_seeds)
        run_cells(cells, run_cell, args.out, place_of(args), accuracies)
    frame = records(required_results(args.out, "task", "network").values())
    print("\n".join(["", *headline(frame), "", *parts(frame), ""]))
    for path in write_report(args.out):
        print(f"Wrote {path}")


def accuracies(result: Result) -> str:
    """Accuracy under each condition, as text: what is not 0 of noise and changes of the task, then the share."""
    conditions = [
        ", ".join(f"{name} {value:g}" for name, value in test.items() if name != "accuracy" and value) or "noise-free"
        for test in result["tests"]
    ]
    accuracies = zip(conditions, result["tests"], strict=True)
    return "accuracy " + "; ".join(f"{condition}: {test['accuracy']:.3f}" for condition, test in accuracies)
