"""Reports whose names try to run scripts, opened in a real browser: ``tests/test_browser.py``, with more names."""

from __future__ import annotations

import os
import subprocess
import sys

from trials.journal import Journal
from trials.processes import ROOT


def pages(journal: Journal, examples: int) -> None:
    """
    Open the pages.

    :param journal: for the outcome
    :param examples: names that are put together at random
    """
    part = "pages in a browser, names"
    if sum(trial.count for trial in journal.of(part)) >= examples:
        return
    environ = os.environ | {"SB3_PLASTIC_EXAMPLES": str(examples), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/test_browser.py"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    skipped = "skipped" in done.stdout
    wrong = "" if done.returncode == 0 and not skipped else done.stdout[-2000:]
    journal.add(part, len(journal.of(part)), not wrong, examples, wrong=wrong)
