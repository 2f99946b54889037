"""Two processes that write into one folder at once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from sb3_plastic.errors import UserError
from sb3_plastic.export import load_policy
from trials.jobs import ANT, Job
from trials.journal import Details, Journal
from trials.processes import Command, complete, start, wait


def pairs(
    journal: Journal, jobs: dict[str, Job], work: Path, seed: int, wanted: int, only: Sequence[str] | None
) -> None:
    """
    Start each command twice, the second one a moment later.

    :param journal: for the trials
    :param jobs: of the campaign
    :param work: scratch
    :param seed: of the moments
    :param wanted: trials of each command
    :param only: the names of the commands; None: all
    """
    for name in ("export", "evaluate", "study"):
        if only is not None and name not in only:
            continue
        job = jobs[name]
        log = work / f"{name}.log"
        whole = work / f"{name}_alone"
        complete(job.command(whole), log)  # goes on, if it was stopped

        def trial(index: int, job: Job = job, log: Path = log, whole: Path = whole) -> tuple[bool, int, Details]:
            out = work / f"{job.name}_pair"
            shutil.rmtree(out, ignore_errors=True)
            second = job.command(out)
            if job.name == "export" and index % 2:
                second = Command(["export", ANT, "--to", out])  # another model
            logs = [log.with_suffix(f".{i}") for i in range(2)]
            first = start(job.command(out), logs[0])
            time.sleep(Random(f"{seed} {job.name} {index}").random() ** 2)
            both = [wait(pid, one) for pid, one in zip((first, start(second, logs[1])), logs, strict=True)]
            wrong = "\n".join(ended.printed[-1000:] for ended in both if not ended.answered)
            mixed = ""
            if job.name == "export":
                try:
                    load_policy(out)
                except UserError as error:
                    mixed = str(error)  # of two models; found out, so that nobody acts with it
            if not wrong:
                again = wait(start(job.command(out), log), log)
                same = again.code == 0 and job.result(out) == job.result(whole)
                wrong = "" if same else f"afterwards, {again.code}: {again.printed[-1000:]}"
            return not wrong, 1, {"codes": [ended.code for ended in both], "mixed": mixed, "wrong": wrong}

        journal.run(f"two at once: {name}", wanted, trial)
