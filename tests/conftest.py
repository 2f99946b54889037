"""Shared by all tests: one thread each, so that results are the same everywhere and tests can run side by side."""

import gc
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
if sys.platform == "linux":  # elsewhere there is no EGL
    os.environ.setdefault("MUJOCO_GL", "egl")  # before the first import of mujoco

import pytest  # noqa: E402
import torch  # noqa: E402
from zoo_commands import ENV, SMALL, zoo  # noqa: E402

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What is imported by now stays, so the garbage collector need not look through all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tests that draw weights at random draw the same ones every time."""
    torch.manual_seed(0)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder: MuJoCo writes its log into the working directory, and commands their results."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which RL Zoo trained an agent, two episodes long for each robot."""
    cwd = tmp_path_factory.mktemp("trained")
    arguments = ["--seed", "1", "-tb", "tensorboard", "--save-freq", "2048"]
    arguments += ["--eval-freq", "2048", "--eval-episodes", "2", *SMALL]
    output = zoo("train", "--env", ENV, "-n", "4096", *arguments, cwd=cwd)
    (cwd / "output.txt").write_text(output)
    return cwd
