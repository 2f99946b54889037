"""Where a command writes, alike in each that writes a model, and what one does next with it."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import TrainedIn, robot_of
from sb3_plastic.extensions import import_flags


def add_out(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """Add where a model goes. :param parser: of a command :param metavar: ``DIR`` or ``FILE`` :param what: its help"""
    parser.add_argument("--out", "--to", required=True, type=Path, metavar=metavar, help=what)


def check_out(folder: Path) -> None:
    """
    Refuse what cannot be written into, before minutes of work.

    :param folder: that ``--out`` names; it need not exist
    :raises UserError: if it is a file, is to be in one, or may not be written
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--out is a folder to write into, but {there} is a file.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--out is a folder to write into, but nothing may be written into {there}.")


def what_next(folder: Path, trained: TrainedIn, options: str = "") -> str:
    """
    The command with which one goes on after a policy was written: judge it, if it moves a robot, or else watch it.

    :param folder: that it was written into
    :param trained: its environment
    :param options: of the evaluation
    """
    results = shlex.quote(str(Path("results") / folder.name))
    model = shlex.join(["--model", str(folder), *import_flags()])
    if robot_of(trained.env_id):
        return f"evaluate {model} {options}--out {results}"
    # A file may have no module imported, so the environment that is named with one is named again.
    return f"enjoy {model}" + (f" --env {trained.env_id}" if ":" in trained.env_id else "")
