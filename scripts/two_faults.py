"""Two faults at once: what does the adaptive layer give where no hypothesis has both?

    python scripts/two_faults.py docs/results/adaptive/HalfCheetah-v5 --episodes 8

Takes folders of `sb3-plastic adapt`, agents of one robot. Prints the share of the speed that is kept from the first
onset on, alone -> with the layer: each fault by itself, both from step 300 on, and the second one at step 500. The
faults are those of nda-v2.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from sb3_plastic.evaluation import evaluate_adaptation
from sb3_plastic.evaluation.scores import with_scores
from sb3_plastic.perturbations.suites import Scenario, load_suite
from sb3_plastic.snn.scan import set_num_threads

FAULTS = {
    "motors reversed": "reversed",
    "cables permuted": "wires_permuted",
    "sensors off": "sensors_off",
    "commands late": "late_1",
}
TOGETHER = [
    ("motors reversed", "sensors off"),
    ("cables permuted", "sensors off"),
    ("motors reversed", "commands late"),
    ("commands late", "sensors off"),
]


def scenarios(robot: str) -> list[Scenario]:
    """The unperturbed robot, single faults and pairs. :param robot: its name in suites"""
    suite = {scenario.name: scenario for scenario in load_suite("nda-v2").of(robot)}

    def named(name: str, **at: int) -> Scenario:
        entries = (
            replace(entry, schedule=replace(entry.schedule, at=step))
            for fault, step in at.items()
            for entry in suite[f"nda-v2/novel/{FAULTS[fault]}/onset"].perturbations
        )
        return Scenario(f"nda-v2/novel/{name}/onset", robot, "novel", True, tuple(entries), name)

    made = [suite["nda-v2/nominal"], *(named(fault, **{fault: 300}) for fault in FAULTS)]
    for one, two in TOGETHER:
        made.append(named(f"{one}, {two}", **{one: 300, two: 300}))
        made.append(named(f"{one}, then {two}", **{one: 300, two: 500}))
        made.append(named(f"{two}, then {one}", **{two: 300, one: 500}))
    return made


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="of `sb3-plastic adapt`, one per agent")
    parser.add_argument("--robot", default="HalfCheetah")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=30_000, help="of the first episode")
    parser.add_argument("--steps", type=int, help="length of an episode; by default the robot's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    set_num_threads(1)
    parts = []
    for folder in args.folders:
        settings = dict(episodes=args.episodes, seed=args.seed, steps=args.steps, controls=("intact", "off"))
        records, _ = evaluate_adaptation(folder, scenarios=scenarios(args.robot), **settings)
        scores = with_scores(records)
        changed = scores[(scores["protocol"] == "onset") & (scores["split"] == "novel")]
        parts.append(changed.groupby(["kind", "control"], sort=False)["kept"].mean().unstack())
    print(f"{args.robot}, {len(parts)} agents, {args.episodes} episodes each from seed {args.seed}\n")
    print("| what changes | alone -> with the layer | by agent |\n|---|---|---|")
    for kind in map(str, parts[0].index):
        kept = [(part["off"][kind], part["intact"][kind]) for part in parts]
        mean = tuple(sum(arm) / len(kept) for arm in zip(*kept, strict=True))
        by_agent = ", ".join(f"{alone:.2f} -> {layered:.2f}" for alone, layered in kept)
        print(f"| {kind} | {mean[0]:.2f} -> {mean[1]:.2f} | {by_agent} |")


if __name__ == "__main__":
    main()
