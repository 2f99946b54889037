"""
A campaign against the package: kills, bad disks, damaged files, two processes at once, thousands of inputs per door,
and pages opened in a browser. Each trial is noted down at once in OUT/trials.jsonl: one that was stopped goes on.
What it finds is printed as a table and written as JSON; docs/reliability.md publishes it.

python scripts/campaign.py --out campaign --kills 100 --examples 5000 --runs 100       # hours
python scripts/campaign.py --out campaign --kills 2 --examples 20 --runs 1             # minutes: does it run?
python scripts/campaign.py --out campaign --kills 100 --parts kills --only train es    # a part
python scripts/campaign.py --out campaign --parts                                      # the table alone

Bad disks need root and Linux; the browser needs chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trials.browser import pages
from trials.damage import damages
from trials.disks import disks
from trials.doors import doors
from trials.jobs import Job, jobs
from trials.journal import Journal
from trials.kills import kills, steps
from trials.pairs import pairs
from trials.trainings import trainings

from sb3_plastic.files import write_json
from sb3_plastic.snn.scan import set_num_threads
from sb3_plastic.versions import commit, versions

PARTS = ("doors", "disks", "pairs", "damage", "kills", "steps", "browser")


def machine() -> dict[str, Any]:
    """Where the campaign runs."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {"processor": models[0] if models else "", "cores": os.cpu_count(), "system": platform.platform()}


def table(journal: Journal) -> list[dict[str, Any]]:
    """
    One row per part.

    :param journal: with the trials
    """
    rows = []
    for part in dict.fromkeys(trial.part for trial in journal.trials):
        trials = journal.of(part)
        commits = sorted({str(trial.commit)[:9] for trial in trials})
        rows.append(
            {
                "part": part,
                "tried": sum(trial.count for trial in trials),
                "good": sum(trial.count for trial in trials if trial.good),
                "bad trials": [trial.index for trial in trials if not trial.good],
                "commits": commits,
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the campaign.

    :param argv: arguments; None: those of the process
    :return: 1 if a trial of the journal was bad
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for trials.jsonl, campaign.json and scratch")
    parser.add_argument("--kills", type=int, default=2, help="of each command, at random moments")
    parser.add_argument("--examples", type=int, default=20, help="inputs per door, and 200 at most of damaged files")
    parser.add_argument("--runs", type=int, default=1, help="of each command on bad disks, and two at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--only", nargs="+", metavar="COMMAND", help="of kills, disks and pairs these alone")
    args = parser.parse_args(argv)
    # One thread each, also so that this process can be forked.
    torch.set_num_threads(1)
    set_num_threads(1)
    out = args.out.resolve()
    work = out / f"scratch-{'-'.join([*args.parts, *(args.only or [])])}"
    work.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / "trials.jsonl", commit())
    made = jobs(work) | trainings(work)
    killed = [job for name, job in made.items() if args.only is None or name in args.only]

    def each(kill: Callable[[Job], None]) -> None:
        for job in killed:
            kill(job)

    parts: dict[str, Callable[[], object]] = {
        "doors": partial(doors, journal, args.examples, args.seed),
        "disks": partial(disks, journal, made, work, args.seed, args.runs, args.only),
        "pairs": partial(pairs, journal, made, work, args.seed, args.runs, args.only),
        "damage": partial(damages, journal, made, work, args.seed, min(args.examples, 200)),
        "kills": lambda: each(lambda job: kills(journal, job, work, args.seed, args.kills)),
        "steps": lambda: each(lambda job: steps(journal, job, work, args.seed)),
        "browser": partial(pages, journal, min(args.examples, 500)),
    }
    for name in args.parts:
        parts[name]()
    rows = table(Journal(journal.path, None))
    command = f"python scripts/campaign.py {shlex.join(sys.argv[1:] if argv is None else argv)}"
    about = {"command": command, "machine": machine(), "versions": versions()}
    write_json(out / "campaign.json", {**about, "outcomes": rows})
    print(json.dumps(about))
    for row in rows:
        print(f"| {row['part']} | {row['tried']} | {row['good']} | {', '.join(row['commits'])} |")
    return int(any(row["bad trials"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
