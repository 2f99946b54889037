"""The learned rule against calibration alone, on one forward model: forward reward after a change in mid-run.

python scripts/bench/learned_rule.py adaptive/cheetah --episodes 32 --seed 40000

Both arms are calibrated on the same new nominal transitions. Equal seeds are paired.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.hypotheses import DEFAULT
from sb3_plastic.adaptive.settings import LayerSettings
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.environment import TrainedIn, find_training, make_env
from sb3_plastic.evaluation.rollout import Row, rollout
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.perturbations.spec import Perturbation, Schedule
from sb3_plastic.perturbations.suites import load_suite
from sb3_plastic.undisturbed import undisturbed_torch

FAMILIES = ("id/gains", "novel/reversed", "novel/redrawn", "novel/strong", "novel/action_bias", "novel/wires_signed")
ONSET, STEPS, AFTER = 120, 460, 100
"""The change comes at this step of so many; what is averaged begins so much later."""

AT_ONCE = 160
"""Robots that are stepped at once. Another number rounds otherwise, and a robot may fall that did not."""


def families(robot: str) -> dict[str, tuple[Perturbation, ...]]:
    """Perturbations by name, all with the same onset. :param robot: as the suite names it"""
    chosen: dict[str, tuple[Perturbation, ...]] = {"nominal": ()}
    for scenario in load_suite("nda-v2").scenarios:
        name = scenario.name.removeprefix("nda-v2/").removesuffix("/onset")
        if scenario.robot == robot and scenario.onset and name in FAMILIES:
            chosen[name] = tuple(replace(p, schedule=replace(p.schedule, at=ONSET)) for p in scenario.perturbations)
    chosen["action_noise .5"] = (Perturbation("action_noise", 0.5, schedule=Schedule("onset", at=ONSET)),)
    return chosen


def rewards(policy: AdaptivePolicy, trained: TrainedIn, rows: list[Row]) -> np.ndarray:
    """Mean forward reward of each episode, from some steps after the change on, m/s."""
    means = []
    for first in range(0, len(rows), AT_ONCE):
        part = rows[first : first + AT_ONCE]
        with undisturbed_torch(), closing(make_env(trained, len(part), STEPS)) as venv:
            trace = rollout(Player(policy, "intact", True), venv, part, STEPS)
        means.append(np.nan_to_num(np.asarray(trace.forward_reward, float))[:, ONSET + AFTER :].mean(1))
    return np.concatenate(means)


def main() -> None:
    """Run both arms, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `sb3-plastic adapt` wrote")
    parser.add_argument("--robot", default="HalfCheetah", help="as the suite names it")
    parser.add_argument("--families", nargs="+", help="by default all")
    parser.add_argument("--episodes", type=int, default=32, help="of each family")
    parser.add_argument("--seed", type=int, default=40000, help="of the first episode")
    args = parser.parse_args()
    policy, trained = AdaptivePolicy.load(args.folder), find_training(args.folder, ModelSettings())
    arms = {}
    for name, learn_rule in (("calibrated", False), ("learned", True)):
        with closing(make_env(trained, 48, 1000)) as venv:
            arms[name] = policy.with_settings(LayerSettings(DEFAULT), venv, 20_160, 777, learn_rule)
        print(name, arms[name].layer.settings, flush=True)
    chosen = families(args.robot)
    chosen = {name: chosen[name] for name in args.families or chosen}
    rows = [Row(perturbations, args.seed + i) for perturbations in chosen.values() for i in range(args.episodes)]
    one, other = (rewards(arm, trained, rows).reshape(len(chosen), -1) for arm in arms.values())
    print("| m/s | calibrated | learned | difference |\n|---|---|---|---|")
    for name, a, b in zip(chosen, one, other, strict=True):
        half = 1.96 * (b - a).std(ddof=1) / len(a) ** 0.5
        print(f"| {name} | {a.mean():.2f} | {b.mean():.2f} | {(b - a).mean():+.2f} +- {half:.2f} |")


if __name__ == "__main__":
    main()
