"""`sb3-plastic evaluate`: how a saved model fares when the dynamics become novel.

sb3-plastic evaluate --model logs/plastic_ppo/HalfCheetah-v5_1/HalfCheetah-v5.zip --tier quick --out results/oja_0
sb3-plastic evaluate --model m.zip --suite nda-v2 --scenarios nominal 'novel/wires_*/onset' --out results/wires
sb3-plastic evaluate --model m.zip --faults weight_noise=0.3 weights_quantised=4 --out results/faults
sb3-plastic evaluate --model m.zip --normalization m.pkl --env sb3_plastic/PerturbedAntLatent-v0 --out results/ppo_0
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence

from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.fault_kinds import FAULTS
from sb3_plastic.evaluation.records import PLASTICITY, PROTOCOLS, WITHIN
from sb3_plastic.evaluation.scores import counts, remarks, summary
from sb3_plastic.progress import add_no_progress, is_wanted


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv)
    from sb3_plastic.evaluation import evaluate_adaptation

    results = evaluate_adaptation(
        args.model,
        args.out,
        model_settings(args),
        suite=args.suite,
        tier=args.tier,
        scenarios=args.scenarios,
        protocols=args.protocols,
        controls=args.controls,
        faults=args.faults,
        label=args.label,
        train_seed=args.train_seed,
        seed=args.seed,
        episodes=args.episodes,
        deterministic=not args.stochastic,
        steps=args.steps,
        horizon=args.horizon,
        max_rows=args.max_rows,
        progress_bar=is_wanted(args),
        command=shlex.join(["sb3-plastic", "evaluate", *argv]),
    )
    table = summary(results.records).dropna(axis=1, how="all").round(2)
    floats = table.select_dtypes("float").columns
    table[floats] += 0.0  # without -0.0
    wide = shutil.get_terminal_size(fallback=(200, 24)).columns  # columns of a terminal go on below, rather than wrap
    print(table.to_string(na_rep="", line_width=wide))
    for remark in remarks(results.records):
        print(remark)
    print(f"Wrote {counts(results.records)}, to {args.out}.", end=" ")
    if (results.records["split"] == "nominal").any():
        print(f"Next: sb3-plastic report {shlex.quote(str(args.out))}")
    else:
        print("For a report, evaluate the protocol `static`, too, with the scenario `nominal`.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-plastic evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_model(parser, "model saved by SB3, sb3-contrib or sb3_plastic: a zip, a run of RL Zoo, or an export")
    add("--out", required=True, help="folder for the results; an interrupted evaluation goes on there")
    add("--suite", default="nda-v1", help="suite of scenarios (default: %(default)s)")
    add("--tier", default="quick", help="smoke, quick or full (default: %(default)s)")
    add(
        "--scenarios",
        nargs="+",
        metavar="PATTERN",
        help="these of the suite instead of the tier's, names without the suite's: nominal 'novel/wires_*/onset'",
    )
    add(
        "--protocols",
        nargs="+",
        default=("static", "onset"),
        choices=PROTOCOLS,
        metavar="PROTOCOL",
        help=f"of {', '.join(PROTOCOLS)} (default: static onset)",
    )
    add(
        "--controls",
        nargs="+",
        choices=WITHIN,
        metavar="CONTROL",
        help=f"of {', '.join(WITHIN)} (default: {' '.join(PLASTICITY)}, if it is plastic)",
    )
    add(
        "--faults",
        nargs="+",
        default=(),
        metavar="KIND=VALUE",
        help="faults of the agent on the unperturbed robot, from the start and from an onset: "
        + ", ".join(f"{name}={kind.limits[0]:g}..{kind.limits[1]:g}" for name, kind in FAULTS.items()),
    )
    add("--label", help="name of the method, shared by its seeds; by default the algorithm")
    add("--train-seed", type=int, help="by default the model's own seed")
    add(
        "--seed",
        "--seeds",
        type=int,
        default=10_000,
        help="seed of the first episode of each cell (default: %(default)s)",
    )
    add("--episodes", type=int, help="episodes per cell, with consecutive seeds; by default as the tier says")
    add("--stochastic", action="store_true", help="draw actions instead of taking the most likely ones")
    add(
        "--episode-steps",
        "--steps",
        dest="steps",
        type=int,
        help="length of a training episode; by default the environment's, of the robots 1000",
    )
    add("--horizon", type=int, default=3, help="multiple of it, in the protocol horizon (default: %(default)s)")
    add("--max-rows", type=int, default=128, help="environments stepped at once, at most (default: %(default)s)")
    add_no_progress(parser)
    return parser
