"""Arguments of the command line that name a trained model, alike in each command that takes one."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from sb3_plastic.algorithms import ALGORITHMS
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import TrainedIn, robot_of
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.extensions import import_flags
from sb3_plastic.yaml_numbers import Loader


def add_model(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the model and what its file does not tell. :param parser: of a command :param what: help of ``--model``"""
    parser.add_argument("--model", required=True, help=what)
    add_about_model(parser)


def add_about_model(parser: argparse.ArgumentParser) -> None:
    """Add what a model's file does not tell. :param parser: of a command"""
    add = parser.add_argument
    add("--vecnorm", help="file of its VecNormalize; by default looked for beside the model. It stays frozen")
    add("--env", help="its environment; by default as noted beside the model")
    add(
        "--env-kwargs",
        nargs="+",
        type=_pair,
        metavar="KEY:VALUE",
        help="arguments of it, as YAML: observe_context:true scenario:nda-v1/train",
    )
    add(
        "--wrapper",
        nargs="*",
        type=_wrapper,
        help="module.Class or 'module.Class: {argument: 1}', innermost first, instead of those noted beside the model",
    )
    add("--algo", choices=ALGORITHMS, help="its algorithm; by default recognised from the file")
    add("--trust", action="store_true", help="run what the model's files ask for; without, a file that asks is refused")


def model_settings(args: argparse.Namespace) -> ModelSettings:
    """What :func:`add_about_model` asked for. :param args: parsed arguments"""
    return ModelSettings(
        env=args.env,
        env_kwargs=dict(args.env_kwargs or ()),
        wrappers=args.wrapper,
        vec_normalize=args.vecnorm,
        algo=args.algo,
        trust=args.trust,
    )


def check_out(folder: Path) -> None:
    """
    Refuse what cannot be written into, before minutes of work.

    :param folder: that ``--out`` names; it need not exist
    :raises UserError: if it is a file, is to be in one, or may not be written
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--out is a folder to write into, but {there} is a file.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--out is a folder to write into, but nothing may be written into {there}.")


def _pair(text: str) -> tuple[str, Any]:
    key, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY:VALUE, such as observe_context:true")
    return key, _yaml(value, f"the value of {text!r}")


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{what} is no YAML") from error


def _wrapper(text: str) -> Any:
    found = _yaml(text, repr(text))
    if not isinstance(found, str) and not (isinstance(found, dict) and len(found) == 1):
        raise argparse.ArgumentTypeError(f"{text!r} is neither module.Class nor 'module.Class: {{argument: value}}'")
    return found


def what_next(folder: Path, trained: TrainedIn, options: str = "") -> str:
    """
    The command with which one goes on after a policy was written: judge it, if it moves a robot, or else watch it.

    :param folder: that it was written into
    :param trained: its environment
    :param options: of the evaluation
    """
    results = shlex.quote(str(Path("results") / folder.name))
    model = shlex.join(["--model", str(folder), *import_flags()])
    if robot_of(trained.env_id):
        return f"evaluate {model} {options}--out {results}"
    # A file may have no module imported, so the environment that is named with one is named again.
    return f"enjoy {model}" + (f" --env {trained.env_id}" if ":" in trained.env_id else "")
