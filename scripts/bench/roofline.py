"""How near is the fused scan to what the machine can do? Prints tables, writes JSON.

    python scripts/bench/roofline.py --json roofline.json

Measured on one core: the peak of multiply-adds on vectors in registers; the bandwidth of a pass that reads two arrays
and writes one, by the size of the three together; and the scan, forward and backward, of a square layer (oja, simple,
every gradient asked for) whose fast weights outgrow the caches. Counted from the source of the kernels, per synapse and
tick: operations (a multiply-add is two) and bytes that cross from cache to registers. The limit is the larger of
operations over peak and bytes over the bandwidth of the cache in which the layer's matrices lie: a roofline (Williams,
Waterman & Patterson, 2009). No speed is printed before outputs and gradients equal the reference's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, now, print_table, set_clock, set_threads
from scan_network import Setting, check, forward_backward

from sb3_plastic.files import replace_file
from sb3_plastic.snn.scan.compile import jit
from sb3_plastic.snn.scan.simd import LANES, fma, load, splat, store, total

# By pass: operations, numbers read from or written to matrices. The inputs here are currents, so none is passed over,
# and no gradient of theirs, of x_trace or of rho is wanted. At a step's last tick, learning and the next currents are
# two passes: one more.
PASSES = {
    "learn and currents": (12, 5),  # h, eta, alpha, w; h
    "replay": (8, 1),  # h, kept in a register meanwhile
    "learn and currents, backward": (21, 7),  # h, alpha, eta, gh, geta; gh, geta
    "w and alpha, backward": (4, 1),  # h
}
OPERATIONS = sum(operations for operations, _ in PASSES.values())
BYTES = 4 * sum(numbers for _, numbers in PASSES.values())
MATRICES = 6  # w, alpha, eta, geta, gh and the h of a tick: what a tick of the backward pass goes through


KILOBYTES = [24, 96, 192, 384, 768, 1536, 3072, 6144, 24576, 98304]
NEURONS = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024]


@jit()
def multiply_add(repeats, x):  # type: ignore[no-untyped-def]
    """Ten chains of multiply-adds that do not wait for each other."""
    a = splat(x[0])
    b0, b1, b2, b3, b4, b5, b6, b7, b8, b9 = a, a, a, a, a, a, a, a, a, a
    for _ in range(repeats):
        b0, b1, b2, b3, b4 = fma(b0, a, a), fma(b1, a, a), fma(b2, a, a), fma(b3, a, a), fma(b4, a, a)
        b5, b6, b7, b8, b9 = fma(b5, a, a), fma(b6, a, a), fma(b7, a, a), fma(b8, a, a), fma(b9, a, a)
    return total(b0 + b1 + b2 + b3 + b4 + b5 + b6 + b7 + b8 + b9)


@jit()
def triad(repeats, a, b, c):  # type: ignore[no-untyped-def]
    """``c <- a + x b``, a vector at a time."""
    x = splat(a[0])
    for _ in range(repeats):
        for i in range(0, len(a), LANES):
            store(c, i, fma(load(b, i), x, load(a, i)))


def best(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run: a limit is what can be had."""
    function()
    times = []
    for _ in range(10 * repeats):
        start = now()
        function()
        times.append(now() - start)
    return min(times)


def peak(repeats: int) -> float:
    """Operations per second of one core in float32."""
    x, n = np.full(1, 0.5, np.float32), 100_000
    return 2 * 10 * LANES * n / best(lambda: multiply_add(n, x), repeats)


def bandwidth(repeats: int, sizes: Sequence[int]) -> list[dict[str, float]]:
    """Bytes per second of one core, by the kilobytes of three arrays together."""
    rows = []
    for kilobytes in sizes:
        n = kilobytes * 1024 // 12 // LANES * LANES
        a, b, c = (torch.zeros(n).numpy() for _ in range(3))
        passes = max(1, 2**24 // (12 * n))
        seconds = best(lambda a=a, b=b, c=c, passes=passes: triad(passes, a, b, c), repeats)  # type: ignore[misc]
        rows.append({"kB": kilobytes, "GB/s": 12 * n * passes / seconds / 1e9})
    return rows


def caches(
    repeats: int, sizes: Sequence[int], peak_rate: float, bandwidths: list[dict[str, float]]
) -> list[dict[str, float]]:
    """The scan as a layer outgrows the caches, and the share of the limit that it reaches."""
    check(Setting(sizes=(64, 64), T=16))
    rows = []
    for n in sizes:
        # Long enough that what a call costs does not show.
        setting = Setting(sizes=(n, n), B=2, T=max(16, 512 * 64 * 64 // (n * n)))
        seconds = best(forward_backward(setting, "fused"), repeats)
        nanoseconds = 1e9 * seconds / setting.synapse_ticks()
        kilobytes = MATRICES * 4 * n * n / 1024
        reach = next((row["GB/s"] for row in bandwidths if row["kB"] >= kilobytes), bandwidths[-1]["GB/s"])
        limit = max(1e9 * OPERATIONS / peak_rate, BYTES / reach)
        rows.append(
            {
                "neurons": n,
                "matrices, kB": kilobytes,
                "ns per synapse and tick": nanoseconds,
                "limit, ns": limit,
                "share of the limit": limit / nanoseconds,
            }
        )
    return rows


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--repeats", type=int, default=5, help="the more, the less other work shows")
    parser.add_argument("--neurons", nargs="+", type=int, default=NEURONS, help="sizes of the layer")
    parser.add_argument(
        "--kilobytes", nargs="+", type=int, default=KILOBYTES, help="sizes of the three arrays together"
    )
    arguments = parser.parse_args()
    set_threads(1)
    set_clock("cpu")
    rate = peak(arguments.repeats)
    bandwidths = bandwidth(arguments.repeats, arguments.kilobytes)
    counts = {"GFLOP/s, peak": rate / 1e9, "operations per synapse and tick": OPERATIONS, "bytes": BYTES}
    results: dict[str, Any] = {
        "command": " ".join(sys.argv),
        "machine": machine(),
        "counts": [counts | {"operations per byte": OPERATIONS / BYTES}],
        "bandwidth": bandwidths,
        "caches": caches(arguments.repeats, arguments.neurons, rate, bandwidths),
    }
    for name in ("counts", "bandwidth", "caches"):
        print_table(name, results[name])
    if arguments.json:
        replace_file(arguments.json, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
