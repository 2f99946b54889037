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
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import CLOCKS, machine, print_table, set_clock, set_threads
from scan_memory import first_call, memory, memory_growth
from scan_peers import peers
from scan_plot import growth_figure
from scan_timing import growth, rollout, speed

from sb3_plastic.files import replace_file
from sb3_plastic.report.document import draw

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
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    set_clock(arguments.clock)
    results: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "repeats": arguments.repeats}
    print_table("machine", [results["machine"]])
    for name in arguments.only:
        section = SECTIONS[name]
        results[name] = section(arguments.repeats)
        print_table(f"{name}: {section.__doc__}", results[name])
    if arguments.plot and "growth" in results:
        draw(arguments.plot, partial(growth_figure, results["growth"]))
    if arguments.json:
        replace_file(arguments.json, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
