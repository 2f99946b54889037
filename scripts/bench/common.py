"""What the benchmarks share: a clock, medians in turns, where the numbers come from, tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sb3_plastic.snn.scan import set_num_threads

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
PEERS = ("snntorch", "spikingjelly", "norse")

_clock: list[Callable[[], float]] = [time.perf_counter]


def set_clock(name: str) -> None:
    """``wall``, or ``cpu``: the processor time of this process, to compare one thread with one on a busy machine."""
    _clock[0] = CLOCKS[name]


def now() -> float:
    """Seconds on the clock that was chosen."""
    return _clock[0]()


def clock_name() -> str:
    """The name of the clock that was chosen."""
    return next(name for name, function in CLOCKS.items() if function is _clock[0])


def set_threads(n: int) -> None:
    """Threads of the fused kernels, and of torch, on which the reference and the peers run."""
    torch.set_num_threads(n)
    set_num_threads(n)


def medians(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each function, in turns, after one run that does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = now()
            function()
            if repeat:
                times[name].append(now() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def timed(
    function: Callable[..., Any], total: dict[str, float], name: str, now: Callable[[], float]
) -> Callable[..., Any]:
    """``function``, which adds the time it takes to ``total[name]``."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = now()
        try:
            return function(*args, **kwargs)
        finally:
            total[name] += now() - start

    return wrapper


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    cpu = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if "model name" in line]
        if cpu.exists()
        else []
    )
    versions = {}
    for name in ("torch", "numba", "numpy", *PEERS):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load at the start": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
        **versions,
    }


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    def text(value: Any) -> str:
        return (
            f"{value:.3g}"
            if isinstance(value, float) and abs(value) < 100
            else f"{value:.0f}"
            if isinstance(value, float)
            else str(value)
        )

    cells = [list(rows[0]), *([text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}\n")
    for i, row in enumerate(cells):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if i == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
