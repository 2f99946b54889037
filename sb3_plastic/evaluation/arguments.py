"""Arguments of the command line that name a trained model, alike in each command that takes one."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from sb3_plastic.algorithms import ALGORITHMS
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.yaml_numbers import Loader


def add_model(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the model and what its file does not tell. :param parser: of a command :param what: help of the model"""
    add_model_file(parser, what)
    add_about_model(parser)


def add_model_file(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the model, by its place or as ``--model``. :param parser: of a command :param what: help of the model"""
    model = parser.add_mutually_exclusive_group(required=True)
    # Without a type: up to Python 3.11 one is called with what stands for no default.
    model.add_argument("model", nargs="?", default=argparse.SUPPRESS, help=what)
    model.add_argument("--model", help="the same, by name")


def add_about_model(parser: argparse.ArgumentParser) -> None:
    """Add what a model's file does not tell. :param parser: of a command"""
    add = parser.add_argument
    add(
        "--normalization",
        "--vecnorm",
        metavar="FILE",
        help="file of its VecNormalize; by default looked for beside the model. It stays frozen",
    )
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
        normalization=args.normalization,
        algo=args.algo,
        trust=args.trust,
    )


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
