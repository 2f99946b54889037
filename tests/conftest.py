"""Shared by all tests: one thread each, so that results are the same everywhere and tests can run side by side."""

import os
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MUJOCO_GL", "egl")  # before the first import of mujoco
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Each compiles for itself: in a fresh clone two that shared one cache aborted in kernels.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / f"numba-{worker}"))

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tests that draw weights at random draw the same ones every time."""
    torch.manual_seed(0)
