"""PlasticPPO with a surrogate whose slope changes over the training: does a schedule of the slope help?

python scripts/slope_schedule.py --start 8 --end 2     # soft gradients at the end
python scripts/slope_schedule.py --start 1 --end 4     # sharp ones

All else is the recipe of HalfCheetah. The agent stays in --logs, and the same command judges it again.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from statistics import mean

from stable_baselines3.common.callbacks import BaseCallback

from sb3_plastic import PlasticPolicy
from sb3_plastic.studies.commands import configuration, train_once
from sb3_plastic.studies.curves import read_curve
from sb3_plastic.studies.learning import evaluate

ENV = "HalfCheetah-v5"
STAIRS = 8


class SlopeSchedule(BaseCallback):
    """A slope that changes geometrically, in stairs of equal length: each is a network of its own to the kernels."""

    def __init__(self, start: float, end: float, verbose: int = 0):
        super().__init__(verbose)
        self.start, self.end = start, end

    def _on_rollout_start(self) -> None:
        done = min(self.model.num_timesteps / self.model._total_timesteps, 1 - 1e-9)
        slope = round(self.start * (self.end / self.start) ** (int(done * STAIRS) / (STAIRS - 1)), 4)
        assert isinstance(self.model.policy, PlasticPolicy)
        for layer in self.model.policy.snn.layers:
            layer.config = replace(layer.config, slope=slope)
        self.logger.record("train/slope", slope)

    def _on_step(self) -> bool:
        return True


def main() -> None:
    """Train and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=float, required=True, help="slope at the start")
    parser.add_argument("--end", type=float, required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--logs", type=Path, default=Path("logs/slope"))
    args = parser.parse_args()
    found = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]  # where the training finds the schedule
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))
    schedule = f"callback:[{{'slope_schedule.SlopeSchedule': dict(start={args.start}, end={args.end})}}]"
    arguments = ["--env", ENV, "-n", str(args.steps), "--seed", str(args.seed), "--eval-freq", "-1"]
    arguments += [*configuration("plastic_ppo"), "-params", schedule]
    folder = args.logs / f"{args.start}-{args.end}-{args.steps}-seed{args.seed}"
    trained = train_once(arguments, "plastic_ppo", ENV, folder)
    print(f"training: {mean(read_curve(trained, max(args.steps // 50, 1))['returns'][-5:]):.0f}")
    returns = evaluate("plastic_ppo", trained / f"{ENV}.zip", ENV, args.seed, args.episodes)
    for name in ("exploring", "deterministic"):
        print(f"{name}: {mean(returns[name]):.0f}")


if __name__ == "__main__":
    main()
