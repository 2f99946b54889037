"""A progress bar, if it is wanted."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import Any


def add_no_progress(parser: argparse.ArgumentParser) -> None:
    """Add the switch of the bars. :param parser: of a command"""
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def is_wanted(args: argparse.Namespace) -> bool:
    """Whether a command shows bars: at a terminal, if tqdm is there. :param args: with :func:`add_no_progress`'s"""
    return not args.no_progress and sys.stderr.isatty() and find_spec("tqdm") is not None


class Progress:
    """
    One bar at a time, by tqdm.

    :param show: whether there are bars at all
    :raises ImportError: if they are wanted without tqdm
    """

    def __init__(self, show: bool) -> None:
        self._bar: Any = None
        self._make: Any = None
        if show:
            try:
                from tqdm import tqdm
            except ImportError as error:
                raise ImportError("The progress bar needs tqdm: pip install stable-baselines3[extra]") from error
            self._make = tqdm

    def begin(self, name: str, total: int) -> None:
        """Start the bar of the next part. :param name: of the part :param total: of what it counts"""
        self.close()
        if self._make is not None:
            self._bar = self._make(total=total, desc=name, unit_scale=total >= 10_000)

    def tick(self, n: int) -> None:
        """Count. :param n: how many more"""
        if self._bar is not None:
            self._bar.update(n)

    def say(self, text: str) -> None:
        """Show beside the bar how it goes. :param text: a few words"""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
