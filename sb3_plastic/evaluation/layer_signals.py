"""What an adaptive layer does around an onset: surprise, who acts, estimates, for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sb3_plastic.adaptive.agents import layer_around
from sb3_plastic.adaptive.signals import signals_of
from sb3_plastic.evaluation.controls import controls_of
from sb3_plastic.evaluation.environment import TrainedIn
from sb3_plastic.evaluation.film import find_onset, shoot
from sb3_plastic.evaluation.settings import FilmSettings
from sb3_plastic.evaluation.training_episode import Noting
from sb3_plastic.perturbations.spec import Perturbation
from sb3_plastic.undisturbed import undisturbed_torch

SEED = 0
"""Of the episode: the same each time, so that evaluations differ by the model alone."""


def signals_around_onset(
    model: Any, trained: TrainedIn, perturbations: Sequence[Perturbation], after: int = 100
) -> dict[str, float]:
    """
    Play one episode, and describe the layer in up to 100 steps before the onset and after it.

    :param model: with a layer, or without
    :param trained: its environment, a perturbable robot
    :param perturbations: what sets in
    :param after: steps from the onset on
    :return: the numbers of :func:`~sb3_plastic.adaptive.signals.signals_of`, under ``before/`` and ``after/``; empty
        without a layer
    """
    adaptive = layer_around(controls_of(model))
    if adaptive is None:
        return {}
    onset = find_onset(trained, perturbations, SEED)
    player = Noting(model)
    with undisturbed_torch():
        shoot(player, trained, perturbations, FilmSettings(steps=onset + after, every=0, seed=SEED))
    states = [adaptive.split_state(state, 1)[0] for state in player.states]
    # The step of the onset is chosen before anything of it can be seen.
    parts = {"before": states[max(onset - after, 0) : onset + 1], "after": states[onset + 1 :]}
    return {
        f"{when}/{name}": value
        for when, part in parts.items()
        if part
        for name, value in signals_of(adaptive.layer, part).items()
    }
