"""Memory of the scan, and its first call: each measured in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import clock_name, now, set_clock, set_threads
from scan_network import B, K, Setting, check, forward_backward


def memory(repeats: int) -> list[dict[str, Any]]:
    """Peak extra memory of forward and backward."""
    rows = []
    for rule, modulation in (("oja", "simple"), ("none", "none")):
        setting = Setting(rule, modulation)
        check(setting._replace(T=16))
        megabytes = {
            b: statistics.median(in_process("memory", setting, b)["bytes"] / 1e6 for _ in range(max(1, repeats // 2)))
            for b in ("fused", "reference")
        }
        rows.append(
            {
                "rule": rule,
                "modulation": modulation,
                "fused MB": megabytes["fused"],
                "reference MB": megabytes["reference"],
                "ratio": megabytes["reference"] / megabytes["fused"],
            }
        )
    return rows


def memory_growth(repeats: int) -> list[dict[str, Any]]:
    """Peak extra memory of square layers by T: what a tick adds should grow as neurons do, not synapses."""
    check(Setting(sizes=(64, 64), T=16))
    rows = []
    for n in (32, 64, 128, 256, 512):
        settings = [Setting(sizes=(n, n), T=t) for t in (128, 256, 512)]
        peaks = [
            statistics.median(in_process("memory", setting, "fused")["bytes"] for _ in range(max(1, repeats // 2)))
            for setting in settings
        ]
        megabytes = {f"MB at T = {s.T}": peak / 1e6 for s, peak in zip(settings, peaks, strict=True)}
        ticks = (settings[-1].T - settings[0].T) * K * B
        rows.append({"N": n, **megabytes, "bytes per tick and neuron": (peaks[-1] - peaks[0]) / (ticks * 2 * n)})
    return rows


def first_call(repeats: int) -> list[dict[str, Any]]:
    """Forward and backward for the first time in a process, with an empty cache and with a full one; less imports."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("cold", *["warm"] * repeats):
            answer = in_process("first", Setting(T=2), "fused", NUMBA_CACHE_DIR=folder)
            rows.append({"cache": cache, "seconds": answer["seconds"]})
    warm = statistics.median(row["seconds"] for row in rows[1:])
    return [rows[0], {"cache": "warm", "seconds": warm}]


def in_process(what: str, setting: Setting, backend: str, **environment: str) -> dict[str, float]:
    """Run ``worker`` in a fresh process and return its answer."""
    fields = setting._replace(dtype=str(setting.dtype).removeprefix("torch."))._asdict()  # type: ignore[arg-type]
    job = json.dumps(
        {"what": what, "setting": fields, "backend": backend, "threads": torch.get_num_threads(), "clock": clock_name()}
    )
    command = [sys.executable, __file__, job]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def worker(job: dict[str, Any]) -> dict[str, float]:
    """What ``in_process`` asks for."""
    set_threads(job["threads"])
    set_clock(job["clock"])
    fields = job["setting"]
    setting = Setting(**{**fields, "sizes": tuple(fields["sizes"]), "dtype": getattr(torch, fields["dtype"])})
    if job["what"] == "first":
        start = now()
        forward_backward(setting, job["backend"])()
        return {"seconds": now() - start}
    forward_backward(setting._replace(T=1, B=2), job["backend"])()
    run = forward_backward(setting, job["backend"])
    Path("/proc/self/clear_refs").write_text("5")  # sets the highest resident set to the present one
    before = resident("VmRSS")
    run()
    return {"bytes": resident("VmHWM") - before}


def resident(field: str) -> int:
    """Bytes in memory, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    print(json.dumps(worker(json.loads(sys.argv[1]))))
