"""`sb3-plastic export`: a model as a folder of plain files, which runs no code when it is loaded.

sb3-plastic export --model logs/plastic_ppo/Ant-v5_1 --out ant
sb3-plastic evaluate --model ant --out results/ant
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from sb3_plastic.adaptive import is_adaptive_folder
from sb3_plastic.artefacts.environment import normalization_of
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.outputs import add_out
from sb3_plastic.evaluation.settings import AboutModel, ModelSettings
from sb3_plastic.evaluation.zoo_files import zoo_files
from sb3_plastic.export import export_policy


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    parser = argparse.ArgumentParser(
        prog="sb3-plastic export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model(parser, "a model's zip file, or a run of RL Zoo")
    add_out(parser, "DIR", "folder to write; replaces an export there")
    args = parser.parse_args(argv)
    folder = export_model(args.model, args.out, **vars(model_settings(args)))
    print(f"Wrote {folder}. In Python: sb3_plastic.load_policy({str(folder)!r})")
    return 0


def export_model(model: str | Path, out: str | Path, env: str | None = None, **about: Unpack[AboutModel]) -> Path:
    """
    Export a saved model.

    :param model: a zip file, or a run of RL Zoo
    :param out: folder to write; replaces an export there
    :param env: environment, which is noted down; None: as noted down with the model
    :param about: what else its file does not tell, fields of ``ModelSettings``: ``env_kwargs``, ``wrappers``,
        ``normalization``, ``algo``, ``trust``
    :return: the folder
    :raises UserError: if a file is missing or damaged, or asks to run code and is not trusted
    """
    given, path = ModelSettings(env, **about), model_file(model)
    if path.is_dir():
        what = "a policy with an adaptive layer" if is_adaptive_folder(path) else "an exported policy"
        raise UserError(f"{path} is {what}: plain files already.")
    zoo, normalization = zoo_files(path), normalization_of(path, given)
    loaded, found = load_model(path, given.algo, given.trust)
    training: dict[str, Any] = {
        "algo": found,
        "env_id": zoo.env_id(given),
        "env_kwargs": zoo.env_kwargs(given),
        "env_wrapper": zoo.wrappers(given),
        "frame_stack": zoo.config.get("frame_stack"),
        "num_timesteps": loaded.num_timesteps,
        "seed": loaded.seed,
    }
    return export_policy(
        loaded.policy, out, normalization, {k: v for k, v in training.items() if v not in (None, {}, [])}
    )
