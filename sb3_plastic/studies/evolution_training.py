"""Trainings of the study of evolution: RL Zoo's recipe, points of a learning curve, checkpoints to go on from."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic.evaluation.environment import perturbable, robot_of
from sb3_plastic.files import replace_file
from sb3_plastic.perturbations import register_envs
from sb3_plastic.studies.commands import check_recipe, note_recipe

ON_ONE_THREAD = {"sb3_plastic.perturbations.vec_env.locomotion_vec_env": {"n_threads": 1}}
"""RL Zoo's ``vec_env_wrapper`` for robots: all of a population in one batch."""

FIRST_SEEN, FIRST_FINAL = 5000, 1000
"""Seeds of the episodes of points of a curve, and of those after the training, with the training's seed added."""


class OutOfTimeError(Exception):
    """The training has used up its processor time. (sb3-contrib's ARS does not heed a callback that says so.)"""


class Recipe(NamedTuple):
    """
    How an agent is trained.

    :param algo: ``plastic_es`` or ``ars``
    :param env_id: environment on which it is judged
    :param settings: its entry in a configuration of RL Zoo
    """

    algo: str
    env_id: str
    settings: Mapping[str, Any]

    @property
    def trained_in(self) -> str:
        """Environment of the training: of a robot, PlasticES uses that of which a population plays in one batch."""
        return perturbable(self.env_id) if self.algo == "plastic_es" else self.env_id

    @property
    def plain(self) -> dict[str, Any]:
        """A configuration of RL Zoo with this entry alone."""
        return {self.trained_in: dict(self.settings)}


@dataclass
class TrainingProgress:
    """
    What is known of a training that goes on.

    :param points: of the learning curve: ``steps``, ``minutes`` of processor time without these evaluations, and
        ``returns``, the mean of the unperturbed agent's episodes
    :param minutes: used so far
    """

    points: dict[str, list[float]] = field(default_factory=lambda: {"steps": [], "minutes": [], "returns": []})
    minutes: float = 0.0


def recipe(algo: str, env_id: str, changes: Mapping[str, Any]) -> Recipe:
    """
    Our configuration of PlasticES, or RL Zoo's of ARS, which lists robots under their former version.

    :param algo: ``plastic_es`` or ``ars``
    :param env_id: environment
    :param changes: of the configuration; those of ``policy_kwargs`` are merged
    """
    from sb3_plastic.zoo import config_file, rl_zoo_file

    name, path = env_id, config_file("plastic_es")
    if algo == "ars":
        name, path = env_id.replace("-v5", "-v4"), rl_zoo_file("ars")
    settings = yaml.safe_load(path.read_text())[name]
    merged = {**settings, **changes}
    if "policy_kwargs" in changes:
        merged["policy_kwargs"] = {**settings.get("policy_kwargs", {}), **changes["policy_kwargs"]}
    if algo == "plastic_es" and robot_of(perturbable(env_id)):
        merged["vec_env_wrapper"] = [ON_ONE_THREAD]
    return Recipe(algo, env_id, merged)


def train(how: Recipe, folder: Path, steps: int, seed: int, minutes: float, n_points: int, n_episodes: int) -> Path:
    """
    Train an agent, or go on where a training was stopped.

    :param how: recipe
    :param folder: checkpoints go there, the newest alone is kept
    :param steps: of the training
    :param seed: of the training
    :param minutes: of processor time, at most; 0: no limit
    :param n_points: of the learning curve; as often a checkpoint is written
    :param n_episodes: of each point
    :return: folder with the model, the statistics of its VecNormalize and ``progress.json``
    :raises UserError: if a training of another recipe is there
    """
    register_envs()
    judge = VecNormalize(make_vec_env(how.env_id, min(n_episodes, 8)), training=False, norm_reward=False)
    with TemporaryDirectory() as scratch:
        last, noted = newest(folder), folder / "settings.yml"
        if last is None:
            note_recipe(noted, how.plain)
        else:
            check_recipe(noted, how.plain)
        model = _model(how, Path(scratch), None if last is None else last / f"{file_stem(how)}.zip", seed)
        progress = (
            TrainingProgress() if last is None else TrainingProgress(**json.loads((last / "progress.json").read_text()))
        )
        watch = _Watch(how, folder, judge, progress, steps // n_points, minutes, seed, n_episodes)
        if model.num_timesteps < steps:
            with suppress(OutOfTimeError):
                model.learn(steps - model.num_timesteps, watch, log_interval=10**9, reset_num_timesteps=False)
            watch.note()
        assert model.env is not None
        model.env.close()
    judge.close()
    done = newest(folder)
    assert done is not None  # the watch has written it
    return done


def newest(folder: Path) -> Path | None:
    """The newest checkpoint, None if there is none. :param folder: of the training"""
    return max(folder.glob("steps_*"), key=lambda path: int(path.name.removeprefix("steps_")), default=None)


def file_stem(how: Recipe) -> str:
    """Name of the model's file, without suffix, as RL Zoo makes it. :param how: recipe"""
    return how.trained_in.replace("/", "-")


def statistics(how: Recipe, checkpoint: Path) -> Path:
    """The file with the statistics of VecNormalize. :param how: recipe  :param checkpoint: its folder"""
    return checkpoint / file_stem(how) / "vecnormalize.pkl"


def returns_of(model: BaseAlgorithm, judge: VecNormalize, n_episodes: int, first: int) -> list[float]:
    """
    Returns of the unperturbed agent, deterministic.

    :param model: trained
    :param judge: environments; the statistics of the model's are used
    :param n_episodes: how many
    :param first: seed of the first environment
    """
    trained_in = model.get_vec_normalize_env()
    assert trained_in is not None
    judge.obs_rms = trained_in.obs_rms
    judge.seed(first)
    episodes, _ = evaluate_policy(model, judge, n_episodes, deterministic=True, return_episode_rewards=True)
    assert isinstance(episodes, list)
    return [round(float(episode), 1) for episode in episodes]


class _Watch(BaseCallback):
    """Between generations: notes a point of the curve, writes a checkpoint, and stops when the time is up."""

    def __init__(
        self,
        how: Recipe,
        folder: Path,
        judge: VecNormalize,
        progress: TrainingProgress,
        spacing: int,
        minutes: float,
        seed: int,
        n_episodes: int,
    ) -> None:
        super().__init__()
        self.how, self.folder, self.judge, self.progress = how, folder, judge, progress
        self.spacing, self.limit, self.seed, self.n_episodes = spacing, minutes, seed, n_episodes
        self.since = time.process_time()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._count()
        if self.limit and self.progress.minutes >= self.limit:
            raise OutOfTimeError
        steps = self.progress.points["steps"]
        if self.model.num_timesteps >= (steps[-1] if steps else -self.spacing) + self.spacing:
            self.note()

    def note(self) -> None:
        """Note a point, unless the last one is of the same step, and write a checkpoint."""
        self._count()
        points = self.progress.points
        if not points["steps"] or points["steps"][-1] < self.model.num_timesteps:
            returns = returns_of(self.model, self.judge, self.n_episodes, FIRST_SEEN + self.seed)
            points["steps"].append(self.model.num_timesteps)
            points["minutes"].append(round(self.progress.minutes, 3))
            points["returns"].append(round(sum(returns) / len(returns), 1))
            _checkpoint(self.how, self.folder, self.model, self.progress)
        self.since = time.process_time()

    def _count(self) -> None:
        now = time.process_time()
        self.progress.minutes += (now - self.since) / 60
        self.since = now


def _checkpoint(how: Recipe, folder: Path, model: BaseAlgorithm, progress: TrainingProgress) -> None:
    """Write all files, then give their folder its name at once, then remove older ones."""
    part, name = folder / "unfinished", file_stem(how)
    shutil.rmtree(part, ignore_errors=True)
    (part / name).mkdir(parents=True)
    model.save(part / f"{name}.zip")
    normalize = model.get_vec_normalize_env()
    assert normalize is not None
    normalize.save(str(part / name / "vecnormalize.pkl"))
    replace_file(part / "progress.json", json.dumps(vars(progress)))
    target = folder / f"steps_{model.num_timesteps}"
    part.replace(target)
    for older in folder.glob("steps_*"):
        if older != target:
            shutil.rmtree(older)


def _model(how: Recipe, scratch: Path, saved: Path | None, seed: int) -> BaseAlgorithm:
    """As `sb3-plastic train` makes it, or as it was saved."""
    from sb3_plastic.zoo import ExperimentManager

    config = scratch / "config.yml"
    replace_file(config, yaml.safe_dump(how.plain))
    manager = ExperimentManager(
        argparse.Namespace(),
        how.algo,
        how.trained_in,
        str(scratch),
        eval_freq=-1,
        seed=seed,
        verbose=0,
        device="cpu",
        config=str(config),
        trained_agent="" if saved is None else str(saved),
    )
    with redirect_stdout(StringIO()):
        made = manager.setup_experiment()
    assert made is not None  # only a search gives None
    model: Any = made[0]
    if saved is not None and how.algo == "ars":  # which starts anew from where load() does not set it
        model.weights = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
        # And from its first random numbers: it would play the noise and the episodes of its first generations again.
        model.set_random_seed(int(np.random.SeedSequence([seed, model.num_timesteps]).generate_state(1)[0]))
    return model
