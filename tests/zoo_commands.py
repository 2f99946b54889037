"""RL Zoo's commands, each in a process of its own, as a user starts it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ENV = "HalfCheetah-v5"
COMMAND = Path(sys.executable).with_name("sb3-plastic")
ROOT = Path(__file__).parent.parent
RUN = Path("logs") / "plastic_ppo" / f"{ENV}_1"  # the first training's folder
# Two robots, and one epoch of updates where the configuration asks for ten.
SMALL = ["-params", "n_envs:2", "n_steps:1024", "n_epochs:1"]


def run(command, cwd, code=0, **environ):
    """Run a command on a machine without a display, and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environ = {"OMP_NUM_THREADS": "1", **inherited, **environ}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == code, result.stdout
    return result.stdout


def zoo(*arguments, cwd, code=0, **environ):
    return run([COMMAND, *arguments], cwd, code, **environ)


def saved(path):
    """The hyperparameters in a saved model."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("data"))
