"""The kernels' cache on disk: what has been compiled is found again, unless any file of the scan has changed since."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import CacheImpl

import sb3_plastic
from sb3_plastic.adaptive import kernels
from sb3_plastic.adaptive.hypotheses import disturbance, plugs_kernel
from sb3_plastic.snn.scan.compile import KernelFiles, jit

STATIC_STEPS = """
import sys
import torch
from sb3_plastic.snn.scan import LayerConfig, LayerParameters, plastic_scan
from sb3_plastic.snn.state import LayerState
for name in sys.argv[1:]:
    torch.set_default_dtype(getattr(torch, name))
    p = LayerParameters(w=torch.ones(1, 1), b=torch.full((1,), 0.5), beta=torch.full((1,), 0.5))
    state = LayerState(*(torch.zeros(1, n) for n in (1, 1, 0, 0, 0)), *(torch.zeros(1, 0, 0) for _ in range(2)))
    start, config = torch.zeros(1, 1, dtype=torch.bool), LayerConfig(rule="none")
    _, after = plastic_scan(torch.full((1, 1, 1, 1), 0.25), start, state, p, config, backend="fused")
    print(after.v.item())
"""


def run(package: Path, cache: Path, *dtypes: str) -> tuple[list[float], int]:
    """The membrane of a neuron with input .25 and bias .5, and how often it was said that kernels are compiled."""
    environment = os.environ | {
        "PYTHONPATH": str(package),
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", STATIC_STEPS, *dtypes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=package)
    return [float(line) for line in done.stdout.split()], done.stderr.count("Compiling the fused kernels")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the package, and a cache in which its kernels for float32 were compiled."""
    folder = tmp_path_factory.mktemp("compiled")
    package, cache = folder / "copy", folder / "cache"
    source = Path(sb3_plastic.__file__).parent
    shutil.copytree(source, package / "sb3_plastic", ignore=shutil.ignore_patterns("__pycache__"))
    assert run(package, cache, "float32") == ([0.75], 1)
    return package, cache


def test_a_kernel_is_compiled_and_announced_once_per_version_of_every_file_of_the_scan(
    compiled: tuple[Path, Path],
) -> None:
    """The edited function is in another file than the kernel that is called from Python, into which it is compiled."""
    package, cache = compiled
    simd = package / "sb3_plastic" / "snn" / "scan" / "simd.py"
    before = simd.read_text()
    after = before.replace('_define(operator.add, "fadd")', '_define(operator.add, "fsub")')
    assert after != before
    simd.write_text(after)
    assert run(package, cache, "float32") == ([-0.25], 1)

    simd.write_text(before)
    assert run(package, cache, "float32") == ([0.75], 0), "what was compiled of this version is still there"


def test_code_from_the_cache_is_not_mistaken_for_code_that_is_compiled_beside_it(compiled: tuple[Path, Path]) -> None:
    """Both processes compile first what the other does not: numba gives both of these the same numbers."""
    assert run(*compiled, "float64", "float32") == ([0.75, 0.75], 1)


def test_without_a_folder_for_the_cache_kernels_still_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert jit()(lambda x: x + 1)(1) == 2


def test_a_full_disk_does_not_stop_a_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = jit()(lambda x: x + 2)
    full = tmp_path / "a file where a folder is to be"
    full.touch()
    monkeypatch.setattr(kernel._cache, "folder", full / "scan")
    assert kernel(1) == 3


@pytest.mark.parametrize("key", ["float32", "float64"])
def test_kernels_that_two_processes_save_at_once_are_never_mistaken_for_each_other(key: str, tmp_path: Path) -> None:
    place = str(tmp_path), "kernel", "stamp"

    class Late(KernelFiles):
        """Read the index before the other process saved."""

        def _load_index(self) -> dict[str, str]:
            return {}

    class Early(KernelFiles):
        """The other process, in the midst of whose saving all of this one's happens."""

        def _save_data(self, name: str, data: str) -> None:
            Late(*place).save("float64", "code of float64")
            super()._save_data(name, data)

    Early(*place).save("float32", "code of float32")
    assert KernelFiles(*place).load(key) in (f"code of {key}", None)


def test_a_kernel_of_the_adaptive_layer_is_made_anew_with_any_file_of_its_room():
    for kernel in (kernels._learn, plugs_kernel._learn, disturbance._solve):
        assert kernel._cache._cache_file._source_stamp == kernels.DIGEST


def test_the_kernels_are_there_where_processes_cannot_fork():
    code = "import os, numba, torch; del os.register_at_fork; import sb3_plastic.snn.scan"
    subprocess.run([sys.executable, "-c", code], check=True)
