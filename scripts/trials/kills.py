"""Commands are killed and called again: their results must be those of a command that nobody disturbed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from trials.jobs import Job
from trials.journal import Details, Journal
from trials.processes import complete, start, wait

FRESH_EVERY = 20
"""Each twentieth trial kills an interpreter of its own, once."""


class Killer:
    """
    Kills one job.

    :param job: which
    :param work: scratch
    :param seed: of the moments
    """

    def __init__(self, job: Job, work: Path, seed: int) -> None:
        self.job, self.work, self.seed = job, work, seed
        self.log = work / f"{job.name}.log"
        self.whole = work / f"{job.name}_whole"
        complete(job.command(self.whole), self.log)
        self.length: dict[bool, float] = {}

    def length_of(self, fresh: bool) -> float:
        """Processor time of the undisturbed command. :param fresh: with its imports"""
        if fresh not in self.length:
            timed = self.work / f"{self.job.name}_timed"
            shutil.rmtree(timed, ignore_errors=True)
            self.length[fresh] = complete(self.job.command(timed), self.log, fresh).cpu
            shutil.rmtree(timed, ignore_errors=True)
        return self.length[fresh]

    def expected(self, out: Path) -> dict[str, str]:
        """
        What an undisturbed command leaves; of a training that went on from a checkpoint, one that does so undisturbed.

        :param out: what the killed one left
        """
        went_on = [int(path.name.rpartition("_")[2]) for path in out.glob("went_on_from_*")]
        if self.job.in_a_row > 1 or not went_on:
            return self.job.result(self.whole)
        (steps,) = went_on
        reference = self.work / f"{self.job.name}_from_{steps}"
        if not (reference / "final.json").is_file():
            shutil.rmtree(reference, ignore_errors=True)
            for path in self.whole.rglob(f"*_{steps}_steps.*"):
                copied = reference / path.relative_to(self.whole)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copied)
            complete(self.job.command(reference), self.log)
        return self.job.result(reference)

    def compare(self, out: Path) -> str:
        """
        Call the command once more, to its end, and compare.

        :param out: what the killed one left
        :return: what is wrong; empty: nothing
        """
        try:
            before = self.job.kept(out)
        except Exception as error:  # as many kinds as there are files
            return f"half written: {error!r}"
        try:
            complete(self.job.command(out), self.log)
        except RuntimeError as error:
            return str(error)[-1500:]
        if lost := sorted(before.items() - self.job.kept(out).items()):
            return f"lost: {lost}"
        found, expected = self.job.result(out), self.expected(out)
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        return f"differ: {wrong}" if wrong else ""

    def at_a_moment(self, index: int) -> tuple[bool, int, Details]:
        """
        One trial: kills at random moments of the command's processor time, several in a row.

        :param index: of the trial
        """
        random, fresh = Random(f"{self.seed} {self.job.name} {index}"), index % FRESH_EVERY == FRESH_EVERY - 1
        out = self.work / f"{self.job.name}_{index}"
        shutil.rmtree(out, ignore_errors=True)
        # An interpreter of its own spends the time before this on imports.
        start_up = self.length_of(True) - self.length_of(False) if fresh else 0.0
        moments: list[float] = []
        wrong = ""
        while len(moments) < (1 if fresh else self.job.in_a_row) and not wrong:
            moment = start_up + random.random() * self.length_of(False)
            ended = wait(start(self.job.command(out), self.log, fresh), self.log, moment)
            if ended.code is None:
                moments.append(round(moment, 3))
            elif ended.code:
                wrong = f"ended with {ended.code}: {ended.printed[-1500:]}"
            else:
                break  # it was quicker
        files = len([path for path in out.rglob("*") if path.is_file()]) if out.is_dir() else 0
        wrong = wrong or self.compare(out)
        if not wrong:
            shutil.rmtree(out)
        return not wrong, len(moments), {"fresh": fresh, "moments": moments, "files": files, "wrong": wrong}

    def before_a_step(self, index: int) -> tuple[bool, int, Details]:
        """
        One trial: a kill just before the command's n-th step on files. To open, move or remove one is a step; and to
        write into one that has just been opened is another.

        :param index: n - 1; counts 0 where the command has fewer steps
        """
        out = self.work / f"{self.job.name}_step_{index}"
        shutil.rmtree(out, ignore_errors=True)
        ended = wait(start(self.job.command(out), self.log, before=lambda: _die_before(index + 1, out)), self.log)
        killed = ended.code == -signal.SIGKILL
        wrong = "" if killed or ended.code == 0 else f"ended with {ended.code}: {ended.printed[-1500:]}"
        wrong = wrong or self.compare(out)
        if not wrong:
            shutil.rmtree(out)
        return not wrong, int(killed), {"wrong": wrong}


def _die_before(n: int, folder: Path) -> None:
    """Have this process killed just before its n-th step on files of a folder. For forks alone."""
    seen = 0

    def die(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code is not hook.__code__:  # which has to return, so that the file is opened
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        changes = event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if changes and isinstance(args[0], str | os.PathLike) and os.fspath(args[0]).startswith(str(folder)):
            seen += 1
            if seen == n:
                os.kill(os.getpid(), signal.SIGKILL)
            if event == "open":
                seen += 1
                if seen == n:
                    sys.setprofile(die)

    sys.addaudithook(hook)


def kills(journal: Journal, job: Job, work: Path, seed: int, wanted: int) -> None:
    """
    Kill a job at random moments.

    :param journal: for the trials
    :param job: which
    :param work: scratch
    :param seed: of the moments
    :param wanted: kills
    """
    part = f"kill {job.name}"
    if sum(one.count for one in journal.of(part)) < wanted:
        journal.run(part, wanted, Killer(job, work, seed).at_a_moment)


def steps(journal: Journal, job: Job, work: Path, seed: int) -> None:
    """
    Kill a job before each of its steps on files, one after the other.

    :param journal: for the trials
    :param job: which
    :param work: scratch
    :param seed: is not used: nothing is random
    """
    part = f"kill {job.name} before each step on files"
    tried = journal.of(part)
    if any(one.count == 0 for one in tried):
        return
    killer = Killer(job, work, seed)
    while not tried or tried[-1].count:
        good, count, details = killer.before_a_step(len(tried))
        tried.append(journal.add(part, len(tried), good, count, **details))
