"""The property tests, each with thousands of inputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from trials.journal import Journal
from trials.processes import ROOT

TESTS = ROOT / "tests" / "test_properties.py"


def doors(journal: Journal, examples: int, seed: int) -> None:
    """
    Run each property test in a process of its own.

    :param journal: for the outcomes
    :param examples: inputs per door
    :param seed: of the inputs
    """
    environ = os.environ | {"SB3_PLASTIC_EXAMPLES": str(examples), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0"]
    for name in re.findall(r"^def (test_\w+)", TESTS.read_text(), re.MULTILINE):
        part = f"door: {name.removeprefix('test_').replace('_', ' ')}"
        if sum(trial.count for trial in journal.of(part)) >= examples:
            continue
        command = [*pytest, f"--hypothesis-seed={seed}", f"{TESTS}::{name}"]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
        seconds = re.search(r"in ([\d.]+)s", done.stdout)
        wrong = done.stdout[-3000:] if done.returncode else ""
        journal.add(part, 0, not wrong, examples, seconds=float(seconds[1]) if seconds else None, wrong=wrong)
