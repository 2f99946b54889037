"""The commands that are killed, starved of disk and so on: small, and each with a result that can be compared."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sb3_plastic.studies.table import from_csv
from trials.processes import ROOT, Command

AGENTS = ROOT / "docs" / "results" / "learning" / "agents" / "plastic_ppo"
CHEETAH, ANT = AGENTS / "HalfCheetah-v5_1", AGENTS / "Ant-v5_1"
SMALL = ("--tier", "smoke", "--episodes", "1", "--steps", "60", "--protocols", "static", "--no-progress")

TRAIN = '''"""Trains with checkpoints, and goes on from the last one: train.py ppo|es FOLDER"""
import hashlib
import sys
from pathlib import Path

import gymnasium as gym
import torch
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_plastic import PlasticES, PlasticPPO
from sb3_plastic.files import replace_file, write_json

name, out = sys.argv[1], Path(sys.argv[2])
cls = {"ppo": PlasticPPO, "es": PlasticES}[name]
sizes = dict(n_steps=64, batch_size=64, n_epochs=2) if name == "ppo" else dict(population_size=4)
n_steps, n_generations, every = 1024, 6, 64 if name == "ppo" else 150


def venv():
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1") for _ in range(1 if name == "ppo" else 4)])
    env.seed(0)
    return env


class UntilGeneration(BaseCallback):
    def _on_step(self):
        return name == "ppo" or self.model._n_updates < n_generations


def last_checkpoint():
    """The last one that is whole: SB3 writes the statistics of VecNormalize after the model, and not at once."""
    models = {int(path.stem.split("_")[1]): path for path in out.glob("m_*_steps.zip")}
    for steps in sorted(models, reverse=True):
        try:
            env = VecNormalize.load(out / f"m_vecnormalize_{steps}_steps.pkl", venv())
            model = cls.load(models[steps], env=env, device="cpu")
        except (OSError, EOFError, ValueError, ImportError, AttributeError, KeyError) as error:
            print(f"Checkpoint {steps} is not whole: {error!r}")
            continue
        return steps, model
    new = dict(seed=0, device="cpu", policy_kwargs=dict(net_arch=[8]), **sizes)
    return None, cls("PlasticPolicy", VecNormalize(venv()), **new)


if not (out / "final.json").is_file():
    steps, model = last_checkpoint()
    if steps is not None:
        replace_file(out / f"went_on_from_{steps}", "")
    checkpoints = CheckpointCallback(every, str(out), "m", save_vecnormalize=True)
    left = n_steps - model.num_timesteps if name == "ppo" else 10**6
    if left > 0:
        model.learn(left, [UntilGeneration(), checkpoints], reset_num_timesteps=steps is None)
    digest = hashlib.sha256()
    for part, values in sorted(model.get_parameters().items()):
        flat = torch.utils._pytree.tree_flatten(values)[0]
        for value in flat:
            digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    statistics = model.get_vec_normalize_env().obs_rms
    digest.update(statistics.mean.tobytes() + statistics.var.tobytes())
    write_json(out / "final.json", {"sha256": digest.hexdigest(), "updates": model._n_updates})
'''
"""What a user of the Python interface writes who wants trainings to survive."""


def checksums(folder: Path) -> dict[str, str]:
    """
    Of all files of a folder that must be the same whenever the command is done, by name.

    :param folder: what a command wrote
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("timing.json", "train.log"):
            content = path.read_bytes().replace(str(folder).encode(), b"OUT")
            if path.name == "summary.json":  # of an evaluation: less its command, which names the folder
                data = json.loads(content)
                content = repr([sorted(data[key].items()) for key in ("settings", "versions")]).encode()
            if path.name.startswith("report."):  # of a study: it tells its times, too
                content = re.sub(rb"took [^<\n]* hours on two free cores", b"", content)
            if path.name == "results.csv":  # of a study: less the times that its cells took
                content = _without_times(content.decode()).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def _without_times(text: str) -> str:
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "cpu_seconds")} for row in from_csv(text)]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows(sorted(row.items()) for row in rows)
    return table.getvalue()


def without_leftovers(folder: Path) -> dict[str, str]:
    """As :func:`checksums`, without hidden files: a kill cannot tidy up its temporary file. :param folder: written"""
    return {name: value for name, value in checksums(folder).items() if not Path(name).name.startswith(".")}


def final(folder: Path) -> dict[str, str]:
    """What a training came to. :param folder: of the training"""
    return {"final.json": (folder / "final.json").read_text()}


@dataclass(frozen=True)
class Job:
    """
    A command with a result.

    :param name: of the part
    :param command: given the folder to write to
    :param result: what must be the same, given that folder
    :param in_a_row: kills of one folder, at most
    :param kept: what a kill has left and the next command must leave as it is, given the folder; raises an error for a
        file that is half written
    """

    name: str
    command: Callable[[Path], Command]
    result: Callable[[Path], dict[str, str]] = without_leftovers
    in_a_row: int = 4
    kept: Callable[[Path], dict[str, str]] = lambda folder: {}


def jobs(work: Path) -> dict[str, Job]:
    """
    All jobs by name.

    :param work: scratch folder; the training script is written there
    """
    script = work / "train.py"
    script.write_text(TRAIN)
    found = [
        # One kill each: what a training comes to depends on the checkpoint that it went on from.
        Job("train", lambda out: Command(["ppo", out], script), final, in_a_row=1),
        Job("es", lambda out: Command(["es", out], script), final),
        Job("evaluate", lambda out: Command(["evaluate", "--model", CHEETAH, "--out", out, "--label", "a", *SMALL])),
        Job(
            "study",
            lambda out: Command(["study", "temporal", "--out", out, "--smoke", "--tasks", "association"]),
        ),
        Job("export", lambda out: Command(["export", CHEETAH, "--to", out])),
    ]
    return {job.name: job for job in found}
