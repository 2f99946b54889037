"""How fast is the fused plastic scan, and what does it need? Prints tables, writes JSON.

    python scripts/bench/scan.py --json scan.json
    python scripts/bench/scan.py --only speed peers --repeats 9

The network is 105-64-64-8 unless said otherwise (the size of Ant-v5's), K = 4 ticks per step, B = 16 environments,
T = 128 steps, with 2 % of the steps starting an episode. Ratios are those of medians of runs that take turns, so that a
busy machine slows all of them alike. No speed is printed before spikes, states and gradients have been found equal to
the reference's, on the same network and inputs in float64 (spikes exactly, the rest to a relative error of 1e-9).

The `peers` are static networks of equal size in the packages that the extra `bench` installs.

Peak memory is that of a process of its own (Linux): its highest resident set during a forward and backward pass, less
the resident set before it, with compilation and first-use allocations behind it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sb3_plastic.snn.scan import FusedLayers, LayerConfig, LayerParameters, plastic_scan, set_num_threads
from sb3_plastic.snn.state import LayerState

SIZES = (105, 64, 64, 8)
T, K, B = 128, 4, 16
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
PEERS = ("snntorch", "spikingjelly", "norse")


_clock: list[Callable[[], float]] = [time.perf_counter]


def set_clock(name: str) -> None:
    """``wall``, or ``cpu``: the processor time of this process, to compare one thread with one on a busy machine."""
    _clock[0] = CLOCKS[name]


def now() -> float:
    """Seconds on the clock that was chosen."""
    return _clock[0]()


def set_threads(n: int) -> None:
    """Threads of the fused kernels, and of torch, on which the reference and the peers run."""
    torch.set_num_threads(n)
    set_num_threads(n)


class Layer(NamedTuple):
    """One layer of the network: what it is made of and where it starts."""

    config: LayerConfig
    p: LayerParameters
    state: LayerState


class Setting(NamedTuple):
    """A network and how much it has to do."""

    rule: str = "oja"
    modulation: str = "simple"
    sizes: tuple[int, ...] = SIZES
    T: int = T
    K: int = K
    B: int = B
    dtype: torch.dtype = torch.float32

    def synapse_ticks(self) -> int:
        """Synapses x ticks x rows."""
        return sum(m * n for m, n in pairwise(self.sizes)) * self.T * self.K * self.B


def network(setting: Setting) -> list[Layer]:
    """Random layers whose neurons fire in some 10 to 40 % of all ticks."""
    generator = torch.Generator().manual_seed(0)

    def normal(scale: float, *shape: int) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    config = LayerConfig(rule=setting.rule, modulation=setting.modulation)
    plastic, sliding = setting.rule != "none", setting.rule == "bcm"
    retroactive = plastic and setting.modulation == "retroactive"
    layers = []
    for M, N in pairwise(setting.sizes):
        p = {"w": normal(1.4 / M**0.5, M, N), "b": 0.3 + normal(0.1, N), "beta": normal(0, N) + 0.5}
        if plastic:
            p |= {"alpha": normal(0.2, M, N), "eta": 0.1 * torch.exp(normal(0.1, M, N))}
            p |= {"lam_pre": normal(0, M) + 0.8, "lam_post": normal(0, N) + 0.8, "rho": normal(0, N) + 0.02}
        if sliding:
            p["kappa"] = normal(0, N) + 0.05
        if retroactive:
            p["kappa_e"] = normal(0, N) + 0.3
        if plastic and setting.modulation != "none":
            p |= {"a": normal(0.1, N), "u": normal(0.3, N), "c": normal(0, 1), "d": 1 + normal(0, N)}
        shapes: list[tuple[int, ...]] = [(N,), (N,), (M * plastic,), (N * plastic,), (N * sliding,)]
        shapes += [(M * on, N * on) for on in (plastic, retroactive)]
        state = LayerState(*(torch.zeros(setting.B, *shape, dtype=setting.dtype) for shape in shapes))
        leaves = {name: value.to(setting.dtype).requires_grad_() for name, value in p.items()}
        layers.append(Layer(config, LayerParameters(**leaves), state))
    return layers


def inputs(setting: Setting) -> tuple[Tensor, Tensor]:
    """Currents that stay for a step, and episode starts."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(setting.T, 1, setting.B, setting.sizes[0], generator=generator, dtype=torch.float64)
    episode_start = torch.rand(setting.T, setting.B, generator=generator) < 0.02
    return x.to(setting.dtype).expand(-1, setting.K, -1, -1), episode_start


def scan(layers: list[Layer], x: Tensor, episode_start: Tensor, backend: str) -> tuple[Tensor, list[Tensor]]:
    """The spikes of the last layer, and all outputs."""
    outputs: list[Tensor] = []
    for config, p, state in layers:
        x, after = plastic_scan(x, episode_start, state, p, config, backend=backend)
        outputs += [x, *after]
    return x, outputs


def states_of(outputs: list[Tensor]) -> list[LayerState]:
    """The layers' states among the outputs of ``scan``."""
    return [LayerState(*outputs[i + 1 : i + 8]) for i in range(0, len(outputs), 8)]


def parameters(layers: list[Layer]) -> list[Tensor]:
    return [tensor for layer in layers for tensor in layer.p if tensor.requires_grad]


def forward_backward(setting: Setting, backend: str) -> Callable[[], object]:
    """A function that does one forward and one backward pass."""
    layers, (x, episode_start) = network(setting), inputs(setting)
    leaves = parameters(layers)
    return lambda: torch.autograd.grad(scan(layers, x, episode_start, backend)[0].sum(), leaves, allow_unused=True)


def check(setting: Setting) -> float:
    """
    Compare with the reference in float64.

    :param setting: any type of number; float64 is used
    :return: the largest relative error of a state or gradient
    """
    setting = setting._replace(dtype=torch.float64)
    found = []
    for backend in ("reference", "fused"):
        layers, (x, episode_start) = network(setting), inputs(setting)
        spikes, outputs = scan(layers, x, episode_start, backend)
        gradients = torch.autograd.grad(spikes.sum(), parameters(layers), allow_unused=True)
        found.append(([o.detach() for o in outputs], [g for g in gradients if g is not None]))
    (expected, expected_gradients), (got, got_gradients) = found
    rates = [expected[i].mean().item() for i in range(0, len(expected), 8)]
    spikes_equal = all(torch.equal(got[i], expected[i]) for i in range(0, len(expected), 8))
    error = max(
        ((a - b).norm() / b.norm().clamp(min=1e-30)).item()
        for a, b in zip([*got, *got_gradients], [*expected, *expected_gradients], strict=True)
        if b.numel()
    )
    if not spikes_equal or not error < 1e-9 or not all(0.05 < rate < 0.95 for rate in rates):
        sys.exit(
            f"{setting}: spikes equal: {spikes_equal}, relative error {error:.1e}, rates {rates}. No speeds are given."
        )
    return error


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


def speed(repeats: int) -> list[dict[str, Any]]:
    """Forward and backward against the reference."""
    rows = []
    for rule, modulation in (("oja", "simple"), ("bcm", "retroactive"), ("none", "none")):
        setting = Setting(rule, modulation)
        error = check(setting)
        seconds = medians({b: forward_backward(setting, b) for b in ("fused", "reference")}, repeats)
        rows.append(
            {
                "rule": rule,
                "modulation": modulation,
                "fused ms": 1e3 * seconds["fused"],
                "reference ms": 1e3 * seconds["reference"],
                "ratio": seconds["reference"] / seconds["fused"],
                "ns per synapse and tick": 1e9 * seconds["fused"] / setting.synapse_ticks(),
                "relative error": error,
            }
        )
    return rows


def stepping(layers: list[Layer], x: Tensor, episode_start: Tensor, backend: str) -> Callable[[], object]:
    """A function that does one step from where the last one ended."""
    states = [layer.state for layer in layers]
    fused = FusedLayers([(layer.config, layer.p) for layer in layers], in_place=True)

    def step() -> None:
        nonlocal states
        if backend == "fused":
            states = fused(x, episode_start, states, [None] * len(layers))[1]
        else:
            now = [layer._replace(state=state) for layer, state in zip(layers, states, strict=True)]
            states = states_of(scan(now, x, episode_start, "reference")[1])

    return step


def rollout(repeats: int) -> list[dict[str, Any]]:
    """One step of 8 environments without gradients, from the state after the last: in place, as PlasticPPO collects."""
    rows = []
    for rule, modulation in (("oja", "simple"), ("none", "none")):
        for ticks in (2, 4):
            setting = Setting(rule, modulation, T=1, K=ticks, B=8)
            error = check(setting._replace(T=16))
            layers, (x, episode_start) = network(setting), inputs(setting)
            fused = FusedLayers([(layer.config, layer.p) for layer in layers], in_place=True)
            states, following = [layer.state for layer in layers], layers
            for _ in range(2):
                trains, states = fused(x, episode_start, states, [None] * len(layers))
                expected = scan(following, x, episode_start, "fused")[1]
                following = [
                    layer._replace(state=state) for layer, state in zip(layers, states_of(expected), strict=True)
                ]
            got = [tensor for spikes, state in zip(trains, states, strict=True) for tensor in (spikes, *state)]
            if not all(map(torch.equal, got, expected)):
                sys.exit(f"{setting}: layers in one call differ from one call per layer. No speeds are given.")
            steps = {backend: stepping(layers, x, episode_start, backend) for backend in ("fused", "reference")}
            with torch.no_grad():
                seconds = medians(steps, 40 * repeats)
            rows.append(
                {
                    "rule": rule,
                    "modulation": modulation,
                    "K": ticks,
                    "fused us": 1e6 * seconds["fused"],
                    "reference us": 1e6 * seconds["reference"],
                    "ratio": seconds["reference"] / seconds["fused"],
                    "relative error": error,
                }
            )
    return rows


def growth(repeats: int) -> list[dict[str, Any]]:
    """Time and memory of the fused kernel as one size grows and the others stay."""
    check(Setting(T=16))
    series: dict[str, list[tuple[int, Setting]]] = {
        "N": [(n, Setting(sizes=(105, n, n, 8), T=32)) for n in (32, 64, 128, 256, 512)],
        "T": [(t, Setting(T=t)) for t in (16, 64, 256, 1024, 2048)],
        "B": [(b, Setting(B=b, T=32)) for b in (1, 4, 16, 64, 256)],
        "K": [(k, Setting(K=k, T=32)) for k in (1, 2, 4, 8, 16)],
    }
    rows = []
    for axis, settings in series.items():
        for value, setting in settings:
            seconds = medians({"fused": forward_backward(setting, "fused")}, repeats)["fused"]
            rows.append(
                {
                    "axis": axis,
                    "value": value,
                    "synapses x ticks": setting.synapse_ticks(),
                    "ms": 1e3 * seconds,
                    "ns per synapse and tick": 1e9 * seconds / setting.synapse_ticks(),
                }
            )
    # Apart: a processor that has waited for another process is slow for the first milliseconds.
    for row, (_, setting) in zip(rows, (pair for settings in series.values() for pair in settings), strict=True):
        row["peak MB"] = in_process("memory", setting, "fused")["bytes"] / 1e6
    return rows


def plot_growth(rows: list[dict[str, Any]], path: Path) -> None:
    """Time above, memory below, one column per size that grows; a dashed line is proportional to synapses x ticks."""
    import matplotlib.pyplot as plt

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure, panels = plt.subplots(2, len(axes), figsize=(3 * len(axes), 5), sharex="col", layout="constrained")
    for column, axis in enumerate(axes):
        series = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in series]
        for panel, name in zip(panels[:, column], ("ms", "peak MB"), strict=True):
            panel.loglog(values, [row[name] for row in series], "o-", base=2)
        middle = series[len(series) // 2]
        rate = middle["ms"] / middle["synapses x ticks"]
        panels[0, column].loglog(values, [rate * row["synapses x ticks"] for row in series], "k--", base=2)
        panels[1, column].set_xlabel(axis)
    panels[0, 0].set_ylabel("forward + backward, ms")
    panels[1, 0].set_ylabel("peak extra memory, MB")
    figure.savefig(path, dpi=100)


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


def peers(repeats: int) -> list[dict[str, Any]]:
    """Static LIF networks of equal size in other libraries, forward and backward, beside ours, plastic and static."""
    settings = {"ours, oja + simple": Setting(), "ours, static": Setting("none", "none")}
    functions = {}
    for name, setting in settings.items():
        check(setting._replace(T=16))
        functions[name] = forward_backward(setting, "fused")
    for name in PEERS:
        try:
            functions[f"{name}, static"] = globals()[name]()
        except ImportError:
            print(f"{name} is not installed: left out. The extra [bench] brings it.")
    seconds = medians(functions, repeats)
    ours = seconds["ours, oja + simple"]
    return [{"network": name, "ms": 1e3 * s, "ratio to ours, plastic": s / ours} for name, s in seconds.items()]


def linears() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(m, n) for m, n in pairwise(SIZES)]


def snntorch() -> Callable[[], object]:
    """As in its tutorials: a loop over ticks."""
    snn, surrogate = importlib.import_module("snntorch"), importlib.import_module("snntorch.surrogate")
    layers = linears()
    neurons = [snn.Leaky(beta=0.5, spike_grad=surrogate.fast_sigmoid(slope=2)) for _ in layers]
    leaves = [p for layer in layers for p in layer.parameters()]
    x = inputs(Setting())[0].flatten(0, 1)

    def run() -> object:
        membranes = [neuron.init_leaky() for neuron in neurons]
        spikes = []
        for z in x:
            for i, (layer, neuron) in enumerate(zip(layers, neurons, strict=True)):
                z, membranes[i] = neuron(layer(z), membranes[i])
            spikes.append(z)
        return torch.autograd.grad(torch.stack(spikes).sum(), leaves)

    return run


def spikingjelly() -> Callable[[], object]:
    """In its multi-step mode, the fastest that it has on a CPU: each layer over all ticks at once."""
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    layers = linears()
    neurons = [neuron.LIFNode(tau=2.0, decay_input=False, v_reset=None, step_mode="m") for _ in layers]
    leaves = [p for layer in layers for p in layer.parameters()]
    x = inputs(Setting())[0].flatten(0, 1)

    def run() -> object:
        z = x
        for layer, node in zip(layers, neurons, strict=True):
            functional.reset_net(node)
            z = node(layer(z))
        return torch.autograd.grad(z.sum(), leaves)

    return run


def norse() -> Callable[[], object]:
    """Its modules over time, each layer over all ticks at once."""
    norse_torch = importlib.import_module("norse.torch")
    layers, neurons = linears(), [norse_torch.LIF() for _ in SIZES[1:]]
    leaves = [p for layer in layers for p in layer.parameters()]
    x = inputs(Setting())[0].flatten(0, 1)

    def run() -> object:
        z = x
        for layer, neuron in zip(layers, neurons, strict=True):
            z, _ = neuron(layer(z))
        return torch.autograd.grad(z.sum(), leaves)

    return run


# ----------------------------------------------------------------------------------------------- processes of their own


def in_process(what: str, setting: Setting, backend: str, **environment: str) -> dict[str, float]:
    """Run ``worker`` in a fresh process and return its answer."""
    fields = setting._replace(dtype=str(setting.dtype).removeprefix("torch."))._asdict()  # type: ignore[arg-type]
    clock = next(name for name, function in CLOCKS.items() if function is _clock[0])
    job = json.dumps(
        {"what": what, "setting": fields, "backend": backend, "threads": torch.get_num_threads(), "clock": clock}
    )
    command = [sys.executable, __file__, "--worker", job]
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


# --------------------------------------------------------------------------------------------------------------- report


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


SECTIONS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "speed": speed,
    "memory": memory,
    "memory_growth": memory_growth,
    "rollout": rollout,
    "first_call": first_call,
    "growth": growth,
    "peers": peers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--plot", type=Path, help="draw the growth, if it is among the sections, into this file")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections, default all")
    parser.add_argument("--repeats", type=int, default=5, help="runs per median, default 5")
    parser.add_argument("--threads", type=int, default=2, help="threads of both backends, default 2")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for one thread on a busy machine")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.worker)))
        return
    set_threads(arguments.threads)
    set_clock(arguments.clock)
    results: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "repeats": arguments.repeats}
    print_table("machine", [results["machine"]])
    for name in arguments.only:
        section = SECTIONS[name]
        results[name] = section(arguments.repeats)
        print_table(f"{name}: {section.__doc__}", results[name])
    if arguments.plot and "growth" in results:
        plot_growth(results["growth"], arguments.plot)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
