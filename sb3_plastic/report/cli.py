"""`sb3-plastic report`: tables and figures of one evaluation or several, as Markdown and as one HTML file.

sb3-plastic report results/oja_0 results/oja_1 results/static_0 --out report
sb3-plastic report results --out report --baseline static --oracle oracle --title "HalfCheetah, first study"
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sb3_plastic.progress import add_no_progress, is_wanted
from sb3_plastic.report import write_report
from sb3_plastic.report.document import FORMATS


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    :raises ReportError: if the folders cannot be reported, or not together
    """
    args = _parser().parse_args(argv)
    written = write_report(
        args.results,
        args.out,
        title=args.title,
        formats=FORMATS if args.format == "both" else [args.format],
        oracle=args.oracle,
        baseline=args.baseline,
        progress_bar=is_wanted(args),
    )
    for path in written:
        print(f"wrote {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-plastic report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", nargs="+", type=Path, help="--out folders of `sb3-plastic evaluate`, or a folder that contains them"
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write to (default: report)")
    parser.add_argument("--format", choices=["both", *FORMATS], default="both", help="what to write (default: both)")
    parser.add_argument("--title", help="of the report")
    parser.add_argument(
        "--oracle", help='label of the policy that observes the context (default: "oracle" in its name)'
    )
    parser.add_argument(
        "--baseline",
        help="label of the static policy to compare with (default: the only one that was evaluated without controls; a "
        "plastic agent run with --controls intact alone passes for static: then name the right label)",
    )
    add_no_progress(parser)
    return parser
