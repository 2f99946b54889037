"""Running `sb3-plastic` from a study, in a process of its own, as a user would."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from sb3_plastic.errors import UserError
from sb3_plastic.files import replace_file
from sb3_plastic.safe import raw_data
from sb3_plastic.studies.lifetime import end_with_parent
from sb3_plastic.studies.locks import alone
from sb3_plastic.zoo import config_file


def run_command(arguments: Sequence[str], log: Path) -> None:
    """
    Run ``sb3-plastic`` with one thread, its output in a file. It ends with this process.

    :param arguments: of the command
    :param log: the file
    :raises UserError: if the command fails, with the end of its output, which says why
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    bound = partial(end_with_parent, os.getpid())
    with log.open("w", encoding="utf-8") as output:
        output.write(f"$ sb3-plastic {shlex.join(arguments)}\n")
        output.flush()
        command = [sys.executable, "-m", "sb3_plastic.cli", *arguments]
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | threads, preexec_fn=bound
        ).returncode
    if code:
        told = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise UserError(f"sb3-plastic {shlex.join(arguments)} failed:\n{told}")


def train_once(arguments: Sequence[str], algo: str, env_id: str, folder: Path) -> Path:
    """
    Train an agent with ``sb3-plastic train``, unless that is done. Where another process is at it, wait for that.

    :param arguments: of ``train``, without the folder
    :param algo: algorithm, a name of RL Zoo
    :param env_id: environment
    :param folder: of this training alone; removed if it holds an unfinished one
    :return: folder of the trained agent, with its model, VecNormalize and monitor files
    :raises UserError: if the training ends before its time, or was done with other settings
    """
    name = env_id.replace("/", "-")
    trained, unfinished, noted = folder / algo / f"{name}_1", folder / "unfinished", folder / "settings.yml"
    settings = _settings(arguments, env_id)
    with alone(folder):  # Two cells may need one agent: a student its teacher, which is a cell, too.
        done = not unfinished.exists() and is_trained(trained / f"{name}.zip", arguments)
        if done:
            check_recipe(noted, settings)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            replace_file(unfinished, "")  # SB3's own algorithms do not write their model at once
            run_command(["train", *arguments, "-f", str(folder)], folder / "train.log")
            if not is_trained(trained / f"{name}.zip", arguments):
                raise UserError(f"The training in {folder} was interrupted. The same command begins it anew.")
            note_recipe(noted, settings)
            unfinished.unlink()
    return trained


def note_recipe(file: Path, recipe: object) -> None:
    """
    Write what an agent is trained with beside it.

    :param file: of YAML
    :param recipe: plain data
    """
    replace_file(file, yaml.safe_dump(recipe))


def check_recipe(file: Path, recipe: object) -> None:
    """
    Refuse a trained agent, or the beginning of a training, of another recipe than today's. What was trained before
    recipes were noted is taken as it is, with a warning.

    :param file: as :func:`note_recipe` wrote it, if it did
    :param recipe: today's
    :raises UserError: if they differ
    """
    if not file.is_file():
        warnings.warn(f"Taken as it is: there is no {file}, which tells what an agent was trained with.", stacklevel=2)
    elif file.read_text(encoding="utf-8") != yaml.safe_dump(recipe):
        raise UserError(
            f"The agent beside {file} was trained with other settings, those in that file. Name another folder, or "
            "remove both, and an agent is trained with those of today."
        )


def _settings(arguments: Sequence[str], env_id: str) -> object:
    """What the configuration of a training says of its environment, whatever else is in that file."""
    if "--conf-file" not in arguments:
        return None
    file = Path(arguments[arguments.index("--conf-file") + 1])
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    return entries.get(env_id, entries.get("default"))


def is_trained(model: Path, arguments: Sequence[str]) -> bool:
    """
    Whether a training has come to its end. RL Zoo saves the model of one that is interrupted, too.

    :param model: file of the agent
    :param arguments: of ``train``
    """
    if not model.is_file() or "-n" not in arguments:
        return model.is_file()
    return int(raw_data(model)["num_timesteps"]) >= int(arguments[arguments.index("-n") + 1])


def configuration(algo: str) -> list[str]:
    """
    Arguments of ``sb3-plastic train`` for an algorithm with our configuration.

    :param algo: ``plastic_ppo``, ``plastic_es``, ``ppo`` or ``ppo_lstm``
    """
    return ["--algo", algo, "--conf-file", os.path.relpath(config_file(algo))]
