"""What an adaptive layer does around an onset: surprise, who acts, estimates, for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

from sb3_plastic.adaptive.agents import layer_around
from sb3_plastic.adaptive.signals import signals_of
from sb3_plastic.evaluation.controls import Player, controls_of
from sb3_plastic.evaluation.environment import TrainedIn, as_seen_by, make_env, perturb
from sb3_plastic.evaluation.film import find_onset
from sb3_plastic.perturbations.kinds.world import needs_terrain
from sb3_plastic.perturbations.spec import Perturbation
from sb3_plastic.seeding import seed_each
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
    player, states = Player(model), []
    heightfield = needs_terrain(perturbations)
    with undisturbed_torch(), closing(make_env(trained, 1, onset + after + 1, heightfield)) as made:
        venv = as_seen_by(model, made, trained.env_id)
        seed_each(venv, [SEED])
        perturb(venv, [perturbations])
        observations, starts = venv.reset(), np.ones(1, bool)
        for t in range(onset + after):
            actions = player.act(observations, starts, np.array([t > onset]))
            states.append(adaptive.split_state(player.state, 1)[0])
            observations, _, starts, _ = venv.step(actions)
            if starts[0]:
                break
    # The step of the onset is chosen before anything of it can be seen.
    parts = {"before": states[max(onset - after, 0) : onset + 1], "after": states[onset + 1 :]}
    return {
        f"{when}/{name}": value
        for when, part in parts.items()
        if part
        for name, value in signals_of(adaptive.layer, part).items()
    }
