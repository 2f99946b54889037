"""`sb3-plastic adapt`: put the adaptive layer around a trained model, so that it goes on when its robot changes.

sb3-plastic adapt --model logs/plastic_ppo/HalfCheetah-v5_1/HalfCheetah-v5.zip --steps 400000 --out adaptive/cheetah
sb3-plastic adapt --model m.zip --normalization m.pkl --env Pendulum-v1 --steps 20000 --n-envs 8 --out adaptive/pendulum
sb3-plastic adapt --model adaptive/cheetah --hypotheses motors wires --out adaptive/other   # without another fit
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.adaptive import HYPOTHESES, AdaptivePolicy
from sb3_plastic.adaptive.bodies import BODIES
from sb3_plastic.adaptive.files import AGENT, check_folder
from sb3_plastic.adaptive.forecasting import AFTER, ASKED, forecast
from sb3_plastic.adaptive.forward_model import MEMBERS, NET_ARCH
from sb3_plastic.adaptive.hypotheses import ALL_BY_DEFAULT, DEFAULT
from sb3_plastic.adaptive.probing import PROBING
from sb3_plastic.adaptive.settings import LOST_AT
from sb3_plastic.errors import UserError, check_number
from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.environment import find_training, make_env
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.outputs import check_out, what_next
from sb3_plastic.export import policy_to_plain
from sb3_plastic.progress import add_no_progress, is_wanted

OF_FORWARD_MODEL = ("forward_model", "net_arch", "members", "epochs", "tensorboard_log")
"""Options that a layer around a model keeps: it has its forward model."""

OF_LAYER = ("hypotheses", "always", "probing", "lost_at")
"""Options that it can be given without another fit."""

NOBODY = "none"
"""``--always`` for no hypothesis."""

OPTIONS = ("n_steps", "seed", "lifetime", "learn_rule", *OF_LAYER, *OF_FORWARD_MODEL)
"""Those of :meth:`AdaptivePolicy.fit`; what is not given is as there."""


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
    given = {name: value for name, value in vars(args).items() if name in OPTIONS}
    if given.get("always") == NOBODY:  # which takes back what a folder has
        given["always"] = None
    if isinstance(model, AdaptivePolicy):
        check_changes(path, given)
    elif hasattr(model, "policy"):
        policy_to_plain(model.policy)
    begun = time.perf_counter()
    with closing(make_env(trained, args.n_envs, steps)) as venv:
        if isinstance(model, AdaptivePolicy):
            policy = changed(model, venv, **given)
        else:
            policy = AdaptivePolicy.fit(model, venv, progress_bar=is_wanted(args), **given)
        policy.report["forecast"] = forecast(policy, venv, policy.report.get("seed", 0) + 1)
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


def check_changes(folder: Path, given: dict[str, Any]) -> None:
    """
    Refuse options about what a fitted layer keeps.

    :param folder: of it
    :param given: options of the command
    :raises UserError: if one is about the forward model
    """
    if kept := [f"--{name.replace('_', '-')}" for name in OF_FORWARD_MODEL if name in given]:
        raise UserError(
            f"{folder} has a forward model already, which {', '.join(kept)} cannot change. "
            f"To fit another, give the agent inside it: --model {folder / AGENT}."
        )


def changed(
    policy: AdaptivePolicy,
    venv: VecEnv,
    lifetime: bool | None = None,
    n_steps: int = 20_000,
    seed: int | None = None,
    learn_rule: bool = False,
    **settings: Any,
) -> AdaptivePolicy:
    """
    A fitted layer with other settings, see :meth:`AdaptivePolicy.with_settings`.

    :param policy: with the layer
    :param venv: the nominal environment
    :param lifetime: keep estimates over episodes; None: as it is
    :param n_steps: on which thresholds are calibrated, of all environments together
    :param seed: of them
    :param learn_rule: learn the rule of the synapses, too
    :param settings: of :class:`~sb3_plastic.adaptive.settings.LayerSettings`; what is not given is as it is
    """
    new = dataclasses.replace(policy.layer.settings, **settings)
    other = policy.with_settings(new, venv, n_steps, seed, learn_rule)
    return other.prepared(keep_fast_weights=lifetime)


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
    add_model(parser, "file or folder of a model saved by SB3, sb3-contrib or sb3_plastic, or a folder of this command")
    add("--out", required=True, help="folder for the policy that adapts")
    add("--n-envs", type=int, default=48, help="environments that are stepped at once (default: %(default)s)")
    add("--episode-steps", type=int, help="time limit of an episode (default: the environment's own)")
    add_no_progress(parser)

    parser.argument_default = argparse.SUPPRESS  # what is not given is as in AdaptivePolicy.fit, or as in the folder
    add(
        "--steps",
        dest="n_steps",
        metavar="STEPS",
        type=int,
        help="steps of the nominal robot, of all environments together (default: 400000; 20000 for a layer that has "
        "its forward model)",
    )
    add("--seed", type=int, help="of environments, excitation and training (default: 0; another for a fitted layer)")
    add(
        "--hypotheses",
        nargs="+",
        choices=(ALL_BY_DEFAULT, *HYPOTHESES),
        metavar="NAME",
        help=f"what may have changed, of {', '.join(HYPOTHESES)}; {ALL_BY_DEFAULT}: {' '.join(DEFAULT)} "
        f"(default: {ALL_BY_DEFAULT})",
    )
    add(
        "--always",
        choices=[*HYPOTHESES, NOBODY],
        metavar="NAME",
        help=f"a hypothesis that acts throughout: to compare with; {NOBODY}: each by its evidence (default: {NOBODY})",
    )
    add(
        "--lifetime",
        action=argparse.BooleanOptionalAction,
        help="keep estimates over episodes: a damaged robot stays damaged",
    )
    add("--learn-rule", action="store_true", help="learn the rule of the synapses, too, on changes in hindsight")
    add(
        "--probing",
        type=float,
        metavar="X",
        help="how commands vary while cables are in doubt, in standard deviations of their effect; 0: not at all "
        f"(default: {PROBING})",
    )
    add(
        "--lost-at",
        type=float,
        metavar="X",
        help="errors from which on a silent reading is taken for a lost one, in standard deviations; 0: never "
        f"(default: {LOST_AT})",
    )
    model = parser.add_argument_group("forward model", "A layer that is fitted keeps it.")
    add = model.add_argument
    add("--forward-model", choices=BODIES, help="what predicts the nominal robot (default: mlp)")
    units = " ".join(map(str, NET_ARCH))
    add("--net-arch", nargs="+", type=int, metavar="UNITS", help=f"its layers (default: {units})")
    add("--members", type=int, metavar="N", help=f"networks whose mean it is (default: {MEMBERS})")
    add("--epochs", type=int, help="passes over the transitions (default: 20)")
    add("--tensorboard-log", metavar="DIR", help="write its loss there for TensorBoard")
    return parser
