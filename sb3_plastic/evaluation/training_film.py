"""A film of an episode while a model trains, and what else an evaluation takes from a running training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import Player, undisturbed_torch
from sb3_plastic.evaluation.environment import find_training, robot_of
from sb3_plastic.evaluation.film import compose, fps_of, shoot
from sb3_plastic.evaluation.settings import ModelSettings, WrapperSpec
from sb3_plastic.perturbations.render import save_gif
from sb3_plastic.simulator import render_off_screen

PICTURES = 40
"""In a film, at most."""

WIDTH, HEIGHT = 240, 180


@contextmanager
def statistics_of(model: Any) -> Iterator[Path | None]:
    """
    A file with the statistics of the training's VecNormalize, as any evaluation gets them: the training's own goes on
    learning undisturbed.

    :param model: in training
    :return: None without VecNormalize
    """
    normalizer = model.get_vec_normalize_env()
    if normalizer is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vecnormalize.pkl"
        normalizer.save(str(file))
        yield file


def film_training(
    model: Any, n_steps: int, wrappers: Sequence[WrapperSpec] | None = None, seed: int = 0
) -> bytes | None:
    """
    Film an episode in an environment of its own, which is like those of the training, with the most likely actions.

    :param model: in training
    :param n_steps: at most; of them `PICTURES` are shown
    :param wrappers: of the training's environments, as RL Zoo's ``env_wrapper``; None: none
    :param seed: of the episode
    :return: a GIF; None if the episode ended at its first step
    :raises UserError: if the environment cannot be made anew, or not be drawn
    """
    render_off_screen()
    spec = model.get_env().unwrapped.get_attr("spec")[0]
    if spec is None:
        raise UserError("The training's environment is not registered with gymnasium, so a film cannot make it anew.")
    every = -(-n_steps // PICTURES)
    with statistics_of(model) as statistics, undisturbed_torch():
        about = ModelSettings(env=spec.id, env_kwargs=spec.kwargs, wrappers=wrappers or (), vec_normalize=statistics)
        trained = find_training(None, about)
        try:
            size: dict[str, Any] = {"every": every, "width": WIDTH, "height": HEIGHT}
            shots = shoot(Player(model), trained, (), seed=seed, first=0, n_steps=n_steps, **size)
        except UserError:
            raise
        except Exception as error:  # graphics fail in as many ways as there are drivers
            raise UserError(
                f"{spec.id} cannot be filmed here ({type(error).__name__}: {error}). If the training wraps its "
                "environments, name the wrappers, too."
            ) from error
    if not shots:
        return None
    frames = compose({"": shots}, 0, every=every, unit="m/s" if robot_of(trained.env_id) else "reward")
    with tempfile.TemporaryDirectory() as folder:
        save_gif(frames, fps_of(spec.id) / every, Path(folder) / "film.gif")
        return (Path(folder) / "film.gif").read_bytes()
