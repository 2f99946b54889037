"""A film of an episode of a model in training."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sb3_plastic.evaluation.environment import robot_of
from sb3_plastic.evaluation.film import compose, fps_of, interval
from sb3_plastic.evaluation.training_episode import Episode
from sb3_plastic.perturbations.render import save_gif


def film_of(episode: Episode, n_steps: int) -> bytes | None:
    """
    :param episode: played with pictures of so many steps
    :param n_steps: the film's, at most
    :return: a GIF; None if the episode ended at its first step
    """
    if not episode.shots:
        return None
    every, robot = interval(n_steps), robot_of(episode.trained.env_id)
    frames = compose({"": episode.shots[:n_steps]}, 0, every=every, unit="m/s" if robot else "reward")
    with tempfile.TemporaryDirectory() as folder:
        save_gif(frames, fps_of(episode.trained) / every, Path(folder) / "film.gif")
        return (Path(folder) / "film.gif").read_bytes()
