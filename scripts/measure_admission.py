"""Which scenarios of a suite are tasks of adaptation: told the truth against the best that is not told, as Markdown.

    OMP_NUM_THREADS=1 python scripts/measure_admission.py --model HalfCheetah-v5.zip --suite nda-v2

Told: the model itself, by compensation (`sb3_plastic.evaluation.told`), for what compensation can undo; or `--oracle`,
a model that was trained with the context in its observation, for the rest. Not told: the same model, and those of
`--untold`, for instance agents trained on the faults (the oracle with observe_context:True as well):

    sb3-plastic train --algo ppo --conf-file zoo_configs/ppo.yml --env sb3_plastic/PerturbedHalfCheetahLatent-v0 \\
        --env-kwargs scenario:"'nda-v2/novel/dead_motor'" --seed 1 -f untold

Scenarios act from the start of episodes of 1000 steps; equal seeds for all. A cell is the forward reward per step.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sb3_plastic.evaluation import evaluate_adaptation
from sb3_plastic.evaluation.environment import find_training, robot_of
from sb3_plastic.perturbations.suites import Scenario, load_suite

TOLD = "sb3_plastic.evaluation.told.Told"

THRESHOLD = 0.3  # of the forward reward of the best model that is not told

COMPENSATED = (
    "strength",
    "action_gain",
    "motors_reversed",
    "wires",
    "action_bias",
    "action_delay",
    "obs_bias",
    "obs_gain",
)
"""Kinds whose truth compensation can tell."""


def scenarios_of(suite: str, robot: str, compensated: bool, only: Sequence[str]) -> list[Scenario]:
    """The scenarios to measure: those from the start, and nominal."""
    found = [s for s in load_suite(suite).scenarios if s.robot == robot and not s.onset and s.split != "train"]
    if only:
        return [s for s in found if s.split == "nominal" or any(word in s.name for word in only)]
    return [s for s in found if not compensated or all(p.kind in COMPENSATED for p in s.perturbations)]


def admission(told: pd.DataFrame, untold: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """
    Which scenarios are tasks of adaptation: those in which being told the truth pays.

    :param told: records of the oracle, as `evaluate_adaptation` returns them, protocol ``static``
    :param untold: records of models that are not told
    :return: by scenario: forward reward per step ``told`` and ``untold`` (the best of them, whose label is ``best``),
        ``lead``, (told - untold) / untold, and ``admitted``: at least `THRESHOLD`
    """

    def levels(records: pd.DataFrame) -> pd.Series[float]:
        chosen = records[(records.protocol == "static") & (records.control == "intact") & (records.unstable == 0)]
        return (chosen.forward_reward / chosen.steps).groupby(chosen.scenario, sort=False).mean()

    others = pd.DataFrame({f"{i}": levels(records) for i, records in enumerate(untold)})
    names = {f"{i}": str(records.label.iloc[0]) for i, records in enumerate(untold)}
    table = pd.DataFrame({"told": levels(told), "untold": others.max(axis=1), "best": others.idxmax(axis=1).map(names)})
    table["lead"] = (table.told - table.untold) / table.untold.abs()
    return table.assign(admitted=table.lead >= THRESHOLD)


def _percent(lead: float) -> str:
    return f"{lead:+.0%}" if lead < 10 else "more than tenfold"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model that is told by compensation")
    parser.add_argument("--oracle", type=Path, help="a model that observes the context, told instead of it")
    parser.add_argument("--untold", type=Path, nargs="*", default=[], help="further models that are not told")
    parser.add_argument("--suite", default="nda-v2")
    parser.add_argument(
        "--only", nargs="*", default=[], help="parts of scenarios' names; all that can be told by default"
    )
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=10_000)
    args = parser.parse_args(arguments)
    trained = find_training(args.model)
    robot = robot_of(trained.env_id)
    scenarios = scenarios_of(args.suite, robot, args.oracle is None, args.only)

    def judge(model: Path, label: str, wrappers: list[str] | None = None) -> pd.DataFrame:
        return evaluate_adaptation(
            model,
            scenarios=scenarios,
            protocols=["static"],
            controls=["intact"],
            label=label,
            wrappers=wrappers,
            episodes=args.episodes,
            steps=args.steps,
            seed=args.seed,
        ).records

    told_wrappers = [*trained.wrappers, *trained.vec_wrappers, TOLD]
    told = judge(args.oracle, "oracle") if args.oracle else judge(args.model, "told", told_wrappers)  # type: ignore[arg-type]
    table = admission(told, [judge(args.model, args.model.stem), *(judge(path, path.stem) for path in args.untold)])
    print(f"| {robot}, m/s | not told | told | lead | admitted |\n| --- | --- | --- | --- | --- |")
    for name, row in table.iterrows():
        admitted = "" if name == f"{args.suite}/nominal" else "yes" if row.admitted else "no"
        cells = [str(name).removeprefix(f"{args.suite}/"), f"{row.untold:.2f}", f"{row.told:.2f}", _percent(row.lead)]
        print(f"| {' | '.join(cells)} | {admitted} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
