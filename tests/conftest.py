"""Shared by all tests: one thread each, so that results are the same everywhere and tests can run side by side."""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MUJOCO_GL", "egl")  # before the first import of mujoco

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tests that draw weights at random draw the same ones every time."""
    torch.manual_seed(0)
