"""`sb3-plastic convert`: a model in the format of another program, and how far it is from the original.

sb3-plastic convert --model logs/plastic_ppo/Ant-v5_1 --format onnx --out ant.onnx     # the whole plastic network
sb3-plastic convert --model m.zip --format snntorch --out ant.pt --after 500           # frozen after 500 steps
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.adaptive import is_adaptive_folder
from sb3_plastic.artefacts.environment import environment_of, normalization_of
from sb3_plastic.errors import UserError, check_choice, check_number
from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.outputs import add_out
from sb3_plastic.evaluation.settings import AboutModel, ModelSettings
from sb3_plastic.export import ExportedPolicy, Normalization
from sb3_plastic.files import replace_file
from sb3_plastic.interchange import (
    Difference,
    FrozenPolicy,
    NirPolicy,
    OnnxPolicy,
    SnnTorchPolicy,
    compare,
    to_nir,
    to_onnx,
)
from sb3_plastic.interchange.onnx import import_runtime
from sb3_plastic.interchange.step import check_convertible
from sb3_plastic.simulator import hush_mujoco

FORMATS = {"onnx": "ONNX", "snntorch": "snntorch", "nir": "NIR"}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    parser = argparse.ArgumentParser(
        prog="sb3-plastic convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model(parser, "a model's zip file, a run of RL Zoo, or an exported folder")
    parser.add_argument("--format", required=True, choices=FORMATS)
    add_out(parser, "FILE", "file to write")
    parser.add_argument(
        "--after",
        type=int,
        default=0,
        metavar="STEPS",
        help="snntorch, nir: freeze after these steps (default: %(default)s)",
    )
    parser.add_argument(
        "--check",
        type=int,
        default=200,
        metavar="STEPS",
        help="compare over these steps; 0: do not (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the episodes (default: %(default)s)")
    parser.add_argument("--n-envs", type=int, default=1, help="onnx: rows of the graph (default: %(default)s)")
    args = parser.parse_args(argv)
    about = vars(model_settings(args))
    found = convert_model(
        args.model,
        args.format,
        args.out,
        after=args.after,
        check=args.check,
        seed=args.seed,
        n_envs=args.n_envs,
        **about,
    )
    print(f"Wrote {args.out}.")
    if found is not None:
        print(
            f"Over {found.steps} steps the actions differ by {found.largest:.3g} at most, and are equal bit for bit in "
            f"{found.equal:.0%} of them."
        )
    return 0


def convert_model(
    model: str | Path,
    format_name: str,
    out: str | Path,
    env: str | None = None,
    after: int = 0,
    check: int = 200,
    seed: int = 0,
    n_envs: int = 1,
    **about: Unpack[AboutModel],
) -> Difference | None:
    """
    Write a model in another format.

    :param model: a zip file, a run of RL Zoo, or an exported folder
    :param format_name: ``onnx``: one step with the whole state; ``snntorch`` (the tensors of a ``SnnTorchPolicy``) and
        ``nir``: the network with its fast weights as they are at one moment
    :param out: file to write
    :param env: environment; None: as noted down with the model
    :param after: steps of an episode after which the network is frozen
    :param check: steps of the comparison; 0 for none. NIR holds the spiking layers alone: all else of the copy is
        the policy's
    :param seed: of the episodes
    :param n_envs: environments that a graph of ONNX takes a step of, as many rows, which are fixed in it
    :param about: what else its file does not tell, fields of ``ModelSettings``: ``env_kwargs``, ``wrappers``,
        ``normalization``, ``algo``, ``trust``
    :return: largest difference between original and copy; None if not compared
    :raises UserError: if the format has no exact form for the policy, or no environment is known but needed; then
        nothing is written
    """
    hush_mujoco()
    check_choice("format", format_name, FORMATS)
    for name, number in (("--after", after), ("--check", check)):
        check_number(name, number, at_least=0, integer=True)
    check_number("--n-envs", n_envs, at_least=1, integer=True)
    if n_envs > 1 and format_name != "onnx":
        raise UserError(f"{FORMATS[format_name]} takes any number of environments: --n-envs is of ONNX.")
    if after and format_name == "onnx":
        raise UserError("A graph of ONNX holds the whole state, which nothing freezes: --after is of snntorch and NIR.")
    given, path = ModelSettings(env, **about), model_file(model)
    agent, _ = load_model(path, given.algo, given.trust)
    if is_adaptive_folder(path):
        raise UserError(f"{path} is a policy with an adaptive layer, for which {FORMATS[format_name]} has no form.")
    policy = check_convertible(agent.policy, FORMATS[format_name])
    normalization = normalization_of(path, given) or Normalization()
    seeing = ExportedPolicy(policy, normalization, {})  # observations as the environment gives them

    with ExitStack() as opened:
        if check or (after and format_name != "onnx"):  # before anything is written
            venv = opened.enter_context(closing(environment_of(path, agent, given, n_envs=n_envs)))
        if format_name == "onnx":
            if check:
                import_runtime()
            to_onnx(policy, out, normalization, n_envs)
            original: Any = seeing
            copy: Any = OnnxPolicy(out) if check else None
        else:
            state = _state_after(seeing, venv, after, seed) if after else None
            if format_name == "nir":
                to_nir(policy, out, state)
                copy = NirPolicy(out, policy, normalization) if check else None
            else:
                copy = SnnTorchPolicy(policy, state, normalization)
                content = io.BytesIO()
                torch.save(copy.state_dict(), content)
                replace_file(Path(out), content.getvalue())
            original = FrozenPolicy(policy, state, normalization)
        return compare(original, copy, venv, check, seed) if check else None


def _state_after(agent: Any, venv: VecEnv, steps: int, seed: int) -> Any:
    """The state of an agent after some steps, of one episode or several."""
    venv.seed(seed)
    observation, state, starts = venv.reset(), None, np.ones(1, bool)
    for _ in range(steps):
        action, state = agent.predict(observation, state, starts, deterministic=True)
        observation, _, starts, _ = venv.step(action)
    return state
