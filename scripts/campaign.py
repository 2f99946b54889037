"""
A campaign against the package: kills, full disks, damaged files, thousands of inputs per door. What it finds is printed
as a table and written as JSON; docs/reliability.md publishes it.

python scripts/campaign.py --out campaign --kills 100 --examples 5000      # hours
python scripts/campaign.py --out campaign --kills 1 --examples 20          # minutes: does it run?

Kills are SIGKILL at a random moment of the command, which is then called again until it ends. Its results must be those
of a command that nobody disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.versions import versions

ROOT = Path(__file__).resolve().parents[1]
AGENT = ROOT / "docs" / "results" / "learning" / "agents" / "plastic_ppo" / "HalfCheetah-v5_1"
CLI = [sys.executable, "-m", "sb3_plastic.cli"]

TRAIN = """
import sys
from pathlib import Path
import gymnasium as gym
from stable_baselines3.common.callbacks import CheckpointCallback
from sb3_plastic import PlasticES, PlasticPPO

name, out = sys.argv[1], Path(sys.argv[2])
done = sorted(out.glob("m_*_steps.zip"), key=lambda path: int(path.stem.split("_")[1]))
sizes = dict(n_steps=64, batch_size=64, n_epochs=2) if name == "ppo" else dict(population_size=4, n_eval_episodes=1)
cls = PlasticPPO if name == "ppo" else PlasticES
if done:
    model = cls.load(done[-1], env=gym.make("Pendulum-v1"), device="cpu")
else:
    model = cls("PlasticPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs=dict(net_arch=[8]), **sizes)
checkpoints = CheckpointCallback(64 if name == "ppo" else 800, str(out), "m")
model.learn(max(1024 if name == "ppo" else 8000, model.num_timesteps) - model.num_timesteps, checkpoints,
            reset_num_timesteps=False)
model.save(out / "final.zip")
"""


@dataclass
class Outcome:
    """
    What one part of the campaign found.

    :param part: its name
    :param runs: how many trials
    :param good: how many ended as they must
    :param note: what else there is to know
    """

    part: str
    runs: int
    good: int
    note: str = ""


def call(command: Sequence[str | Path], cwd: Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Start a command, quietly."""
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=environ,
        preexec_fn=before,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until_done(command: Sequence[str | Path], cwd: Path) -> str:
    """Run a command to its end. :raises RuntimeError: if it fails"""
    process = call(command, cwd)
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{printed[-2000:]}")
    return printed


def digest(folder: Path, names: str) -> dict[str, str]:
    """Checksums of the files that must be the same."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and re.fullmatch(names, path.name))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill(
    part: str, command: Callable[[Path], list[str | Path]], names: str, kills: int, work: Path, seed: int
) -> Outcome:
    """
    Kill a command at random moments, call it again until it ends, compare.

    :param part: name
    :param command: its words, given the folder to write to
    :param names: files that must be the same at the end, byte for byte; empty: the last run must end well, and every
        checkpoint must load
    :param kills: how many
    :param work: scratch
    :param seed: of the moments
    """
    random = Random(seed)
    whole = work / f"{part}_whole"
    began = time.monotonic()
    until_done(command(whole), work)
    length = time.monotonic() - began
    done = good = 0
    while done < kills:
        out = work / f"{part}_{done}"
        here = 0
        while done < kills and here < 3:
            process = call(command(out), work)
            try:
                process.communicate(timeout=random.uniform(0.25, 1.0) * length)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done, here = done + 1, here + 1
                continue
            break
        try:
            until_done(command(out), work)
            if names:
                ok = digest(out, names) == digest(whole, names)
            else:
                ok = all(load_model(path) is not None for path in out.glob("*.zip"))
        except (RuntimeError, ValueError) as error:
            print(f"{part}: {error}", file=sys.stderr)
            ok = False
        good += here if ok else 0
        if here == 0:
            done += 1  # it was quicker than every moment: count it, so that this ends
            good += ok
        shutil.rmtree(out, ignore_errors=True)
    return Outcome(f"kill {part}", done, good, "same files" if names else "went on from the last checkpoint, all load")


def kills(number: int, work: Path, seed: int) -> list[Outcome]:
    """Kill train, ES, evaluate, study and export."""
    script = work / "train.py"
    script.write_text(TRAIN)
    small = ["--tier", "smoke", "--episodes", "1", "--steps", "60", "--protocols", "static", "--no-progress"]
    jobs: list[tuple[str, Callable[[Path], list[str | Path]], str]] = [
        ("train", lambda out: [sys.executable, script, "ppo", out], ""),
        ("es", lambda out: [sys.executable, script, "es", out], ""),
        (
            "evaluate",
            lambda out: [*CLI, "evaluate", "--model", AGENT, "--out", out, *small],
            r"[^.].*\.npz|records\.csv",
        ),
        ("study", lambda out: [*CLI, "study", "temporal", "--out", out, "--smoke"], r"[^.].*\.(npz|csv)"),
        ("export", lambda out: [*CLI, "export", AGENT, "--to", out], r"config\.json|policy\.safetensors"),
    ]
    return [kill(part, command, names, number, work, seed) for part, command, names in jobs]


def full_disk(runs: int, work: Path, seed: int) -> list[Outcome]:
    """Commands that may write no more than so many bytes to a file: an answer, and no half-written file."""
    random, outcomes = Random(seed), []
    small = ["--tier", "smoke", "--episodes", "1", "--steps", "60", "--protocols", "static", "--no-progress"]
    jobs: dict[str, list[str | Path]] = {
        "export": ["export", AGENT, "--to"],
        "evaluate": ["evaluate", *small, "--model", AGENT, "--out"],
    }
    for part, words in jobs.items():
        good = 0
        for i in range(runs):
            out = work / f"full_{part}_{i}"
            limit = random.randrange(100, 60_000)

            def limited(limit: int = limit) -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            process = call([*CLI, *words, out], work, limited)
            printed, _ = process.communicate()
            answered = process.returncode == 0 or (process.returncode == 2 and "Traceback" not in printed)
            left = [path for path in out.rglob(".*") if path.is_file()] if out.is_dir() else []
            if not answered:
                print(f"full disk, {part}, {limit} bytes:\n{printed[-1500:]}", file=sys.stderr)
            until_done([*CLI, *words, out], work)  # with room again it goes on
            good += answered and not left
        outcomes.append(Outcome(f"full disk: {part}", runs, good, "answered, nothing half-written, went on afterwards"))
    return outcomes


def two_at_once(runs: int, work: Path) -> Outcome:
    """Two exports into one folder: it holds one whole export afterwards."""
    good = 0
    for i in range(runs):
        out = work / f"two_{i}"
        pair = [call([*CLI, "export", AGENT, "--to", out], work) for _ in range(2)]
        codes = [process.wait() for process in pair if process.communicate()]
        try:
            load_model(out)
        except ValueError as error:
            print(f"two at once: {error}", file=sys.stderr)
            continue
        good += all(code in (0, 2) for code in codes)
    return Outcome("two exports at once", runs, good, "a whole export afterwards")


def doors(examples: int) -> list[Outcome]:
    """The property tests, each with so many inputs."""
    environ = os.environ | {"SB3_PLASTIC_EXAMPLES": str(examples), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "--timeout=0",
        "-p",
        "no:cacheprovider",
        "tests/test_properties.py",
    ]
    printed = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True).stdout
    found = re.findall(r"^(PASSED|FAILED) \S+::test_(\w+)", printed, re.MULTILINE)
    if not found:
        raise RuntimeError(printed[-2000:])
    return [
        Outcome(f"door: {name.replace('_', ' ')}", examples, examples if result == "PASSED" else 0)
        for result, name in found
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign. :param argv: arguments; None: those of the process"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for campaign.json and scratch")
    parser.add_argument("--kills", type=int, default=1, help="of each command")
    parser.add_argument("--examples", type=int, default=20, help="inputs per door; the damaged files are among them")
    parser.add_argument("--runs", type=int, default=1, help="with a full disk, and two at once, of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--parts", nargs="+", default=["doors", "disk", "two", "kills"], choices=["doors", "disk", "two", "kills"]
    )
    args = parser.parse_args(argv)
    work = args.out.resolve() / "scratch"
    work.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], list[Outcome]]] = {
        "doors": partial(doors, args.examples),
        "disk": partial(full_disk, args.runs, work, args.seed),
        "two": lambda: [two_at_once(args.runs, work)],
        "kills": partial(kills, args.kills, work, args.seed),
    }
    outcomes: list[Outcome] = []
    for name in args.parts:
        outcomes += parts[name]()
        report = {"versions": versions(), "outcomes": [asdict(outcome) for outcome in outcomes]}
        (args.out / "campaign.json").write_text(json.dumps(report, indent=2) + "\n")
    for outcome in outcomes:
        print(f"| {outcome.part} | {outcome.runs} | {outcome.good} | {outcome.note} |")
    shutil.rmtree(work)
    return int(any(outcome.good < outcome.runs for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
