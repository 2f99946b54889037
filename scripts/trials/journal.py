"""What came of each trial, one line of JSON each, so that a campaign that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Details = dict[str, Any]


@dataclass
class Trial:
    """
    One trial.

    :param part: which part of the campaign
    :param index: which of its trials
    :param count: what it counts for, such as the number of kills
    :param good: whether it ended as it must
    :param details: what else there is to know: plain data
    :param commit: of the package
    """

    part: str
    index: int
    count: int
    good: bool
    details: Details = field(default_factory=dict)
    commit: str | None = None


class Journal:
    """
    The trials of a campaign.

    :param path: of the file; trials that are in it are not run again
    :param commit: of the package, noted down with each trial
    """

    def __init__(self, path: Path, commit: str | None) -> None:
        self.path, self.commit = path, commit
        self.trials: list[Trial] = []
        if path.is_file():
            for line in path.read_text().splitlines():
                try:
                    self.trials.append(Trial(**json.loads(line)))
                except (ValueError, TypeError):
                    continue  # cut off by whatever stopped the campaign
            if not path.read_bytes().endswith(b"\n"):
                self._append("\n")

    def of(self, part: str) -> list[Trial]:
        """The trials of a part. :param part: its name"""
        return [trial for trial in self.trials if trial.part == part]

    def add(self, part: str, index: int, good: bool, count: int = 1, **details: Any) -> Trial:
        """
        Note down a trial.

        :param part: of the campaign
        :param index: of the trial
        :param good: whether it ended as it must
        :param count: what it counts for
        :param details: plain data
        """
        trial = Trial(part, index, count, good, details, self.commit)
        self.trials.append(trial)
        self._append(json.dumps(asdict(trial)) + "\n")
        if not good:
            print(f"{part}, trial {index}: {details}", flush=True)
        return trial

    def _append(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def run(self, part: str, wanted: int, trial: Callable[[int], tuple[bool, int, Details]]) -> None:
        """
        Run a part's trials until they count for so many.

        :param part: its name
        :param wanted: the sum of the counts
        :param trial: runs one, given its index: whether it was good, what it counts for, and what else there is to know
        """
        done = self.of(part)
        index = max((one.index for one in done), default=-1) + 1
        there = sum(one.count for one in done)
        idle = 0  # trials in a row that counted for nothing: a command that is quicker than every kill
        while there < wanted and idle < 20:
            good, count, details = trial(index)
            self.add(part, index, good, count, **details)
            there, index, idle = there + count, index + 1, 0 if count else idle + 1
