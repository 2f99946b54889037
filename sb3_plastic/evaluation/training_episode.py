"""An episode while a model trains, and its film."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import Array, Player, State
from sb3_plastic.evaluation.environment import TrainedIn, find_training, robot_of
from sb3_plastic.evaluation.film import Shot, compose, fps_of, interval, shoot
from sb3_plastic.evaluation.loading import taken_apart
from sb3_plastic.evaluation.running_training import spec_of, wrappers_of
from sb3_plastic.evaluation.settings import FilmSettings, ModelSettings, WrapperSpec
from sb3_plastic.perturbations.render import save_gif
from sb3_plastic.simulator import render_off_screen
from sb3_plastic.undisturbed import undisturbed_torch

WIDTH, HEIGHT = 240, 180  # pixels


class Episode(NamedTuple):
    """
    An episode of a model in training, or the first steps of one.

    :param trained: where
    :param shots: what happened in each step
    :param observations: what the policy saw before each step, [1, ...] each
    :param states: the policy's own after each step, as ``predict`` returns them
    """

    trained: TrainedIn
    shots: list[Shot]
    observations: list[Any]
    states: list[State]


class Noting(Player):
    """A player that notes what it sees, and its states."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.observations: list[Any] = []
        self.states: list[State] = []

    def act(self, observations: Any, starts: Array, perturbed: Array) -> Array:
        """See :meth:`Player.act`."""
        self.observations.append(deepcopy(observations))  # a batch writes the next ones over them
        actions = super().act(observations, starts, perturbed)
        self.states.append(self.state)
        return actions


def play_training(model: Any, n_steps: int, wrappers: Sequence[WrapperSpec] | None = None, video: int = 0) -> Episode:
    """
    Play an episode in an environment of its own, like those of the training, unperturbed, with the likeliest actions.

    :param model: in training
    :param n_steps: at most; the step that ends an episode is not among them
    :param wrappers: of the training's environments, as RL Zoo's ``env_wrapper``; None: those that they tell
    :param video: take pictures of so many steps, at each :func:`~sb3_plastic.evaluation.film.interval`; 0: of none
    :raises UserError: if the environment cannot be made anew, or not be drawn
    """
    if video:
        render_off_screen()
    spec = spec_of(model.get_env())
    if spec is None:
        raise UserError(
            "The training's environment is not registered with gymnasium, so an evaluation cannot make it anew."
        )
    player = Noting(model)
    wrappers = wrappers_of(spec) if wrappers is None else wrappers
    with undisturbed_torch():
        statistics = taken_apart(model)[1]
        about = ModelSettings(env=spec.id, env_kwargs=spec.kwargs, wrappers=wrappers, normalization=statistics)
        trained = find_training(None, about)
        settings = FilmSettings(steps=n_steps, every=interval(video), width=WIDTH, height=HEIGHT)
        try:
            shots = shoot(player, trained, (), settings, until=video)
        except UserError:
            raise
        except Exception as error:  # graphics fail in as many ways as there are drivers
            raise UserError(
                f"{spec.id} cannot be {'filmed' if video else 'played'} here ({type(error).__name__}: {error}). If the "
                "training wraps its environments, name the wrappers, too."
            ) from error
    return Episode(trained, shots, player.observations[: len(shots)], player.states[: len(shots)])


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
