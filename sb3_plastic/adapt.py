"""`sb3-plastic adapt`: put the adaptive layer around a trained model, so that it goes on when its robot changes.

sb3-plastic adapt --model logs/plastic_ppo/HalfCheetah-v5_1/HalfCheetah-v5.zip --steps 400000 --out adaptive/cheetah
sb3-plastic adapt --model m.zip --normalization m.pkl --env Pendulum-v1 --steps 20000 --n-envs 8 --out adaptive/pendulum
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from sb3_plastic.adaptive import HYPOTHESES, AdaptivePolicy
from sb3_plastic.adaptive.bodies import BODIES
from sb3_plastic.adaptive.files import check_folder
from sb3_plastic.adaptive.forecasting import AFTER, ASKED, forecast
from sb3_plastic.adaptive.forward_model import MEMBERS, NET_ARCH
from sb3_plastic.adaptive.hypotheses import ALL_BY_DEFAULT, DEFAULT
from sb3_plastic.adaptive.probing import PROBING
from sb3_plastic.adaptive.settings import LOST_AT
from sb3_plastic.errors import check_number
from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.environment import find_training, make_env
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.outputs import check_out, what_next
from sb3_plastic.export import policy_to_plain
from sb3_plastic.progress import is_wanted


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    args = _parser().parse_args(argv)
    path = model_file(args.model)
    model, _ = load_model(path, args.algo, args.trust)
    check_out(Path(args.out))
    trained = find_training(path, model_settings(args)).unperturbed()  # whatever dynamics the agent was trained on
    steps = trained.time_limit if args.episode_steps is None else args.episode_steps
    for name, number in (("--n-envs", args.n_envs), ("--episode-steps", steps)):
        check_number(name, number, at_least=1, integer=True)
    check_folder(Path(args.out))  # before the minutes of a fit, and so is what cannot be written
    if hasattr(model, "policy"):
        policy_to_plain(model.policy)
    begun = time.perf_counter()
    with closing(make_env(trained, args.n_envs, steps)) as venv:
        policy = AdaptivePolicy.fit(
            model,
            venv,
            n_steps=args.steps,
            forward_model=args.forward_model,
            seed=args.seed,
            hypotheses=args.hypotheses,
            always=args.always,
            net_arch=args.net_arch,
            members=args.members,
            epochs=args.epochs,
            lifetime=args.lifetime,
            learn_rule=args.learn_rule,
            probing=args.probing,
            lost_at=args.lost_at,
            progress_bar=not args.no_progress and is_wanted(),
        )
        policy.report["forecast"] = forecast(policy, venv, args.seed + 1)
    about = {
        "env_id": trained.env_id,
        "env_kwargs": dict(trained.env_kwargs),
        "env_wrapper": [*trained.wrappers, *trained.vec_wrappers],
    }
    policy.agent.training = {**policy.agent.training, **about}
    policy.save(args.out)
    print(summary(policy))
    after = what_next(Path(args.out), trained, "--suite nda-v2 ")
    print(f"Wrote {args.out} after {time.perf_counter() - begun:.0f} s. Next: sb3-plastic {after}")
    return 0


def summary(policy: AdaptivePolicy) -> str:
    """What :meth:`AdaptivePolicy.fit` and the forecast found out, as text. :param policy: that was fitted"""
    shares = np.array(list(policy.report["unexplained"].values()))
    n_observations = len(policy.layer.mean)
    settings = policy.layer.settings
    lines = [
        f"Forward model ({policy.layer.model.kind}): leaves {shares.mean():.1%} of the variance of the change "
        f"unexplained, {shares.max():.1%} of the worst component; uses {len(shares)} of {n_observations} components.",
        f"Evidence that a hypothesis needs to act: {settings.head_start:.2f}, and a lead of {settings.lead:.2f}.",
        f"{'hypothesis':<24}{'surprise threshold':>20}",
    ]
    lines += [f"{name:<24}{settings.surprise_threshold[name]:>20.2f}" for name in policy.layer.names]
    for name, rule in settings.rule.items():
        numbers = ", ".join(f"{key} {value:g}" for key, value in rule.items())
        lines.append(f"Learned for {name}: {numbers or 'nothing, calibration alone is as good'}.")
    if known := policy.report.get("forecast"):
        after = "; ".join(f"{ASKED[name]} {share:.0%}" for name, share in known.items())
        lines.append(f"This gait with a change in hindsight, commands that are right after {AFTER} steps: {after}.")
        if min(known.values()) < 0.5:
            lines.append("It tells little of its motors: a robot that falls soon after a change is mostly lost.")
    if shares.mean() > 0.1:
        lines.append("More than a tenth is unexplained: a poor forward model makes a poor layer. Give it more --steps.")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-plastic adapt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_model(parser, "file or folder of a model saved by SB3, sb3-contrib or sb3_plastic")
    add("--out", required=True, help="folder for the policy that adapts")
    add(
        "--steps",
        type=int,
        default=400_000,
        help="steps of the nominal robot, of all environments together (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of environments, excitation and training (default: %(default)s)")
    add("--n-envs", type=int, default=48, help="environments that are stepped at once (default: %(default)s)")
    add("--episode-steps", type=int, help="time limit of an episode (default: the environment's own)")
    add("--forward-model", choices=BODIES, default="mlp", help="what predicts the nominal robot (default: %(default)s)")
    add("--net-arch", nargs="+", type=int, default=NET_ARCH, metavar="UNITS", help="its layers (default: 192 192)")
    add("--members", type=int, default=MEMBERS, metavar="N", help="networks whose mean it is (default: %(default)s)")
    add(
        "--hypotheses",
        nargs="+",
        choices=(ALL_BY_DEFAULT, *HYPOTHESES),
        default=[ALL_BY_DEFAULT],
        metavar="NAME",
        help=f"what may have changed, of {', '.join(HYPOTHESES)}; {ALL_BY_DEFAULT}: {' '.join(DEFAULT)} "
        f"(default: {ALL_BY_DEFAULT})",
    )
    add("--always", choices=HYPOTHESES, metavar="NAME", help="a hypothesis that acts throughout: to compare with")
    add("--epochs", type=int, default=20, help="passes over the transitions (default: %(default)s)")
    add("--lifetime", action="store_true", help="keep estimates over episodes: a damaged robot stays damaged")
    add("--learn-rule", action="store_true", help="learn the rule of the synapses, too, on changes in hindsight")
    add(
        "--probing",
        type=float,
        default=PROBING,
        metavar="X",
        help="how commands vary while cables are in doubt, in standard deviations of their effect; 0: not at all "
        "(default: %(default)s)",
    )
    add(
        "--lost-at",
        type=float,
        default=LOST_AT,
        metavar="X",
        help="errors from which on a silent reading is taken for a lost one, in standard deviations; 0: never "
        "(default: %(default)s)",
    )
    add("--no-progress", action="store_true", help="no progress bar")
    return parser
