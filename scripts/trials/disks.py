"""Full disks, and folders that cannot be written to. Needs root and Linux: file systems are mounted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from trials.jobs import CHEETAH, Job
from trials.journal import Details, Journal
from trials.processes import Command, complete, start, wait

CAPABILITIES = "-dac_override,-dac_read_search,-fowner"
"""What lets root write to folders of others."""


def run(*words: str | Path) -> None:
    """Run a command of the system. :param words: of it :raises subprocess.CalledProcessError: if it fails"""
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """
    A disk of a few kilobytes, mounted.

    :param folder: where
    :param size: bytes
    """
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield
    finally:
        run("umount", folder)


@contextmanager
def read_only(folder: Path, how: str) -> Iterator[None]:
    """
    A folder that cannot be written to.

    :param folder: which
    :param how: ``mount``: a file system that is mounted read-only (EROFS); ``immutable``: chattr +i (EPERM); ``mode``:
        of another user, without write permission (EACCES), which binds root without its capabilities
    """
    folder.mkdir(parents=True, exist_ok=True)
    if how == "mount":
        run("mount", "--bind", folder, folder)
        run("mount", "-o", "remount,ro,bind", folder)
    elif how == "immutable":
        run("chattr", "+i", folder)
    else:
        shutil.chown(folder, 65534)
        folder.chmod(0o555)
    try:
        yield
    finally:
        if how == "mount":
            run("umount", folder)
        elif how == "immutable":
            run("chattr", "-i", folder)


def commands(jobs: dict[str, Job], results: Path) -> dict[str, Job]:
    """
    What is run on bad disks: commands alone, which answer users in words, where scripts show a traceback.

    :param jobs: of the campaign
    :param results: of an evaluation, for the report
    """
    more = [
        Job("convert", lambda out: Command(["convert", CHEETAH, "--format", "onnx", "--to", out / "a.onnx"])),
        Job("report", lambda out: Command(["report", results, "--out", out])),
    ]
    return {name: job for name, job in jobs.items() if name in ("evaluate", "study", "export")} | {
        job.name: job for job in more
    }


class Disks:
    """
    One command on bad disks.

    :param job: which
    :param work: scratch
    :param seed: of the sizes
    """

    def __init__(self, job: Job, work: Path, seed: int) -> None:
        self.job, self.work, self.seed = job, work, seed
        self.log = work / f"{job.name}.log"
        self.whole = work / f"{job.name}_on_a_good_disk"
        complete(job.command(self.whole), self.log)  # goes on, if it was stopped
        self.size = sum(-(-path.stat().st_size // 4096) * 4096 for path in self.whole.rglob("*") if path.is_file())

    def full(self, index: int) -> tuple[bool, int, Details]:
        """
        One trial: the disk is full at some byte; the answer is in words, no half-written file; with room it goes on.

        :param index: of the trial
        """
        size = Random(f"{self.seed} {self.job.name} {index}").randrange(4096, self.size + 16384, 4096)
        disk = self.work / f"disk_{self.job.name}"
        out = disk / "out"
        with small_disk(disk, size):
            ended = wait(start(self.job.command(out), self.log), self.log)
            left = [str(path.name) for path in out.rglob(".*") if path.is_file()] if out.is_dir() else []
            wrong = "" if ended.answered else ended.printed[-1500:]
            wrong = wrong or (f"left {left}" if left else "")
            run("mount", "-o", "remount,size=100m", disk)
            if not wrong:
                again = wait(start(self.job.command(out), self.log), self.log)
                if again.code:
                    wrong = f"with room again: {again.printed[-1500:]}"
                elif self.job.result(out) != self.job.result(self.whole):
                    wrong = "with room again: other results"
        return not wrong, 1, {"bytes": size, "code": ended.code, "said": ended.printed[-300:], "wrong": wrong}

    def locked(self, index: int) -> tuple[bool, int, Details]:
        """
        One trial: the folder, or the one above it, cannot be written to; the answer says so and names it.

        :param index: of the trial
        """
        how = ("mount", "immutable", "mode")[index % 3]
        folder = self.work / f"locked_{self.job.name}_{index}"
        out = folder if index % 2 else folder / "out"
        under = ["setpriv", f"--bounding-set={CAPABILITIES}"] if how == "mode" else []
        with read_only(folder, how):
            ended = wait(start(self.job.command(out), self.log, bool(under), under=under), self.log)
            left = [path.name for path in folder.iterdir()]
        said = ended.code == 2 and ended.answered and str(folder) in ended.printed and "error: " in ended.printed
        wrong = "" if said and not left else f"left {left}, ended with {ended.code}: {ended.printed[-1500:]}"
        shutil.rmtree(folder)
        return not wrong, 1, {"how": how, "said": ended.printed[-300:], "wrong": wrong}


def disks(
    journal: Journal, jobs: dict[str, Job], work: Path, seed: int, wanted: int, only: Sequence[str] | None
) -> None:
    """
    Run the commands on bad disks.

    :param journal: for the trials
    :param jobs: of the campaign
    :param work: scratch
    :param seed: of the sizes
    :param wanted: trials of each command
    :param only: the names of the commands; None: all
    """
    results = work / "evaluate_on_a_good_disk"
    for name, job in commands(jobs, results).items():
        if only is not None and name not in only:
            continue
        where = Disks(job, work, seed)
        journal.run(f"full disk: {name}", wanted, where.full)
        journal.run(f"read-only folder: {name}", wanted, where.locked)
