"""More commands that are killed: those that train through RL Zoo, search, run a study of trainings, and package."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.trial import TrialState
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_plastic.studies.results import read_results
from sb3_plastic.tuning import open_study
from trials.jobs import CHEETAH, Job, without_leftovers
from trials.processes import Command

AGAIN = '''"""Trains with RL Zoo, and goes on from the last checkpoint: again.py FOLDER"""
import sys
from pathlib import Path

from sb3_plastic.cli import main
from sb3_plastic.files import replace_file, write_json

out, n_steps = Path(sys.argv[1]), 1024
command = ["train", "--env", "Pendulum-v1", "--seed", "1", "-f", str(out)]
command += ["--save-freq", "160", "--eval-freq", "256", "--eval-episodes", "2"]
if not (out / "final.json").is_file():
    found = out.glob("plastic_ppo/*/rl_model_*_steps.zip")
    checkpoints = {int(path.stem.split("_")[2]): path for path in found}
    last = max(checkpoints, default=0)
    if last:
        replace_file(out / f"went_on_from_{last}", "")
        command += ["-i", str(checkpoints[last])]
    small = ["-params", "n_envs:2", "n_steps:64", "batch_size:64", "n_epochs:2"]
    if main([*command, "-n", str(n_steps - last), *small]):
        sys.exit("sb3-plastic train has failed")
    write_json(out / "final.json", {"went_on_from": last})
'''
"""What a user of the command line does whose training was killed."""


def numbers_of(path: Path) -> str:
    """
    A checksum of the numbers in a file of a training; times are none of them.

    :param path: of the file
    :raises Exception: if the file is not whole
    """
    values: Any
    if path.suffix == ".zip":
        _, parameters, tensors = load_from_zip_file(path, device="cpu")
        values = [parameters, tensors]
    elif path.suffix == ".pkl":
        statistics = pickle.loads(path.read_bytes())
        running = [statistics.obs_rms, statistics.ret_rms]
        values = [[one.mean, one.var, one.count] for one in running]
    else:
        values = [*np.load(path).values()]
    digest = hashlib.sha256()
    for value in torch.utils._pytree.tree_flatten(values)[0]:
        is_array = isinstance(value, torch.Tensor | np.ndarray)
        digest.update(np.asarray(value).tobytes() if is_array else repr(value).encode())
    return digest.hexdigest()


def numbers(folder: Path) -> dict[str, str]:
    """
    Those of all models, statistics and evaluations of trainings, by name.

    :param folder: with runs of RL Zoo
    :raises Exception: if a file is not whole
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".zip", ".pkl", ".npz")]
    return {str(path.relative_to(folder)): numbers_of(path) for path in files if not path.name.startswith(".")}


def last_run(folder: Path) -> dict[str, str]:
    """What the last training came to, and its returns. :param folder: of the job"""
    runs = {int(path.name.rpartition("_")[2]): path for path in folder.glob("plastic_ppo/*_*")}
    run = runs[max(runs)]
    episodes = load_results(str(run))
    return numbers(run) | {"returns": repr(sorted(zip(episodes.r, episodes.l, strict=True)))}


def finished(folder: Path) -> dict[str, str]:
    """What the finished trials of a search drew and got. :param folder: of the job"""
    logs = list(folder.glob("*/*.study.log"))
    if not logs:
        return {}
    content = logs[0].read_bytes()
    copied = folder / "copied.log"  # who opens a journal writes in it
    copied.write_bytes(content)
    study, is_new = open_study(str(copied), "plastic_es CartPole-v1")
    trials = [] if is_new else study.get_trials(states=[TrialState.COMPLETE])
    copied.unlink()
    return {str(trial.number): repr((trial.params, trial.value)) for trial in trials}


def searched(folder: Path) -> dict[str, str]:
    """How many trials are finished: a search that goes on draws others. :param folder: of the job"""
    return {"finished": str(len(finished(folder)))}


def studied(folder: Path) -> dict[str, str]:
    """What a study came to, with its agents. :param folder: of the job"""
    return without_leftovers(folder / "study") | numbers(folder / "logs")


def results_of(folder: Path) -> dict[str, str]:
    """The results of a study that was stopped. :param folder: of the job"""
    return {name: repr(result["deterministic"]) for name, result in read_results(folder / "study").items()}


def packaged(folder: Path) -> dict[str, str]:
    """A package, but for the time of its making. :param folder: of the job"""
    package = folder / "package"
    results = json.loads((package / "results.json").read_text())
    made = results.pop("eval_datetime")
    told = {"README.md": (package / "README.md").read_text().replace(made, ""), "results.json": repr(results)}
    return without_leftovers(package) | told


def trainings(work: Path) -> dict[str, Job]:
    """
    All these jobs by name.

    :param work: scratch folder; a script is written there
    """
    script = work / "again.py"
    script.write_text(AGAIN)
    search = ["--algo", "plastic_es", "--env", "CartPole-v1", "--seed", "1", "-n", "100", "--pruner", "none"]
    search += ["--n-evaluations", "1", "--eval-episodes", "1"]
    cells = ["--envs", "Hopper-v5", "--agents", "static SNN", "MLP", "--steps", "512", "--seeds", "0"]
    package: list[str | Path] = ["package", CHEETAH, "--episodes", "1", "--video-steps", "4"]
    found = [
        Job("zoo", lambda out: Command([out], script), last_run, in_a_row=1, kept=numbers),
        Job("tune", lambda out: Command(["tune", *search, "--n-trials", "4", "-f", out]), searched, kept=finished),
        Job(
            "learning",
            lambda out: Command(
                ["study", "learning", "--out", out / "study", "--logs", out / "logs", *cells, "--episodes", "2"]
            ),
            studied,
            kept=results_of,
        ),
        Job("package", lambda out: Command([*package, "--to", out / "package"]), packaged),
    ]
    return {job.name: job for job in found}
