"""
Commands in processes of their own, which can be killed at a moment of their processor time.

Most of a short command's time goes into imports. So most commands here are forks of the campaign's own process, which
has imported all that they need already: they begin with the command's work. ``fresh`` ones start an interpreter of
their own. Moments are of processor time, which a busy machine does not stretch.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sb3_plastic.artefacts.converting
import sb3_plastic.artefacts.exporting
import sb3_plastic.artefacts.inspection
import sb3_plastic.evaluation.cli
import sb3_plastic.report.cli
import sb3_plastic.studies.cli
import sb3_plastic.studies.temporal.cli  # noqa: F401
from sb3_plastic.cli import main

ROOT = Path(__file__).resolve().parents[2]
TICK = os.sysconf("SC_CLK_TCK")
HANGS = 1800.0
"""Seconds after which a command is said to hang: no command here takes a minute of processor time."""


@dataclass(frozen=True)
class Command:
    """
    A command of the package, or a user's script.

    :param words: its arguments
    :param script: a file of Python; None: ``sb3-plastic``
    """

    words: Sequence[str | Path]
    script: Path | None = None

    @property
    def argv(self) -> list[str]:
        """The words as text."""
        return [str(word) for word in self.words]

    def run(self) -> int:
        """In this process. :return: exit status"""
        if self.script is None:
            sys.argv = ["sb3-plastic", *self.argv]
            return main(self.argv)
        sys.argv = [str(self.script), *self.argv]
        runpy.run_path(str(self.script), run_name="__main__")
        return 0


def start(
    command: Command,
    log: Path,
    fresh: bool = False,
    before: Callable[[], None] | None = None,
    under: Sequence[str] = (),
) -> int:
    """
    Begin a command.

    :param command: which
    :param log: file for what it prints; it works in that file's folder
    :param fresh: with an interpreter of its own
    :param before: called in the new process first
    :param under: words that come before the interpreter, such as ``setpriv``; fresh alone
    :return: process id
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(log.parent)
        if before is not None:
            before()
        if fresh:
            entry = ["-m", "sb3_plastic.cli"] if command.script is None else [str(command.script)]
            argv = [*under, sys.executable, *entry, *command.argv]
            os.execvpe(argv[0], argv, os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
        imported = set(sys.modules)
        code = command.run()
        modules_file(log).write_text(json.dumps([name for name in sys.modules if name not in imported]))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def modules_file(log: Path) -> Path:
    """Where a fork leaves the names of the modules that it imported. :param log: where it printed"""
    return log.with_suffix(".modules")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children so far, s. :param pid: of a child that was not waited for"""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    running = 0.0
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # some end meanwhile
            running += sum(cpu_seconds(int(child)) for child in listed.read_text().split())
    return sum(map(int, fields[11:15])) / TICK + running


@dataclass(frozen=True)
class Ended:
    """
    How a command ended.

    :param code: exit status; None: it was killed at the moment asked for
    :param cpu: processor time that it took, s
    :param printed: all that it printed
    """

    code: int | None
    cpu: float
    printed: str

    @property
    def answered(self) -> bool:
        """Whether it succeeded, or said in words why not."""
        return self.code == 0 or (self.code == 2 and "Traceback" not in self.printed)


def wait(pid: int, log: Path, moment: float | None = None) -> Ended:
    """
    Wait for the end of a command.

    :param pid: of the command
    :param log: where it prints
    :param moment: of its processor time at which it is killed (SIGKILL)
    :raises RuntimeError: if it hangs
    """
    began = time.monotonic()
    while True:
        cpu = cpu_seconds(pid)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return Ended(code, cpu, log.read_text(errors="replace"))
        if moment is not None and cpu >= moment:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Ended(None, cpu, log.read_text(errors="replace"))
        if time.monotonic() - began > HANGS:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise RuntimeError(f"hangs: {log.read_text(errors='replace')[-1000:]}")
        time.sleep(0.002)


def complete(command: Command, log: Path, fresh: bool = False) -> Ended:
    """
    Run a command to its end, and import what it imported, so that the next one need not.

    :param command: which
    :param log: where it prints
    :param fresh: with an interpreter of its own
    :raises RuntimeError: if it fails
    """
    ended = wait(start(command, log, fresh), log)
    if ended.code:
        raise RuntimeError(f"{' '.join(command.argv)} ended with {ended.code}:\n{ended.printed[-2000:]}")
    if not fresh:
        for name in json.loads(modules_file(log).read_text()):
            with suppress(Exception):  # some are no modules of their own
                importlib.import_module(name)
    return ended
