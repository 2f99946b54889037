"""Options that the commands of all studies share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from sb3_plastic.studies.cli import StudyParser
from sb3_plastic.studies.ray_tasks import RayTasks
from sb3_plastic.studies.runner import LocalProcesses, Place


def parser_of(study: str, description: str | None) -> argparse.ArgumentParser:
    """
    The parser of a study's command.

    :param study: name of the study
    :param description: docstring of its module, with examples
    """
    return StudyParser(
        prog=f"sb3-plastic study {study}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_running(parser: argparse.ArgumentParser, seeds: list[int]) -> None:
    """
    Add what decides where and how long a study runs.

    :param parser: of the study
    :param seeds: default seeds
    """
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds, help=f"default: {' '.join(map(str, seeds))}")
    parser.add_argument(
        "--jobs", "--n-jobs", type=whole, default=1, metavar="N", help="processes, one thread each (default: 1)"
    )
    ray = "run cells as Ray tasks: auto, host:port, or local with --jobs processes"
    parser.add_argument("--ray", metavar="ADDRESS", help=ray)
    parser.add_argument("--report-only", action="store_true", help="run nothing: report on the results in --out")


def whole(text: str) -> int:
    """
    How many of something, as argparse's ``type``.

    :param text: from the command line
    :raises argparse.ArgumentTypeError: unless it is a whole number from 1 on
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, got {text!r}")
    return int(text)


def above_zero(text: str) -> float:
    """
    A factor, as argparse's ``type``.

    :param text: from the command line
    :raises argparse.ArgumentTypeError: unless it is a finite number above 0
    """
    value = from_zero(text)
    if not value:
        raise argparse.ArgumentTypeError(f"a number above 0, got {text!r}")
    return value


def from_zero(text: str) -> float:
    """
    How much of something, as argparse's ``type``.

    :param text: from the command line
    :raises argparse.ArgumentTypeError: unless it is a finite number from 0 on
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"a finite number from 0 on, got {text!r}")
    return value


def add_out(parser: argparse.ArgumentParser) -> None:
    """
    Add the folder of the study.

    :param parser: of the study
    """
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the results; cells that have a result there are not run again",
    )


def place_of(args: argparse.Namespace) -> Place:
    """
    Where the cells run.

    :param args: parsed arguments
    """
    return LocalProcesses(args.jobs) if args.ray is None else RayTasks(args.ray, args.jobs)
