"""What to watch of an adaptive layer: numbers by name, for TensorBoard and for tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.responsibility import probabilities
from sb3_plastic.adaptive.state import AdaptiveState


def signals_of(layer: AdaptiveLayer, states: Iterable[AdaptiveState]) -> dict[str, float]:
    """
    - ``surprise``: of nominal, near 1 where all is as expected; ``surprise_relative``: as a multiple of its threshold
    - ``noise``: that no hypothesis explains, as a multiple of the forward model's
    - ``lost``: share of the readings that were none, and were filled in
    - ``acting/<hypothesis>``: share of the steps in which it acts
    - ``responsibility/<hypothesis>``: its mean probability
    - ``estimate/<hypothesis>``: how far its estimates are from nominal, and ``spread/<hypothesis>``: their standard
      deviation, root mean squares both

    :param layer: the layer
    :param states: of some steps
    :return: means over steps and environments, by name
    """
    steps = [_of_step(layer, state) for state in states]  # states are large: none is kept
    means = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
    values = {name: np.sqrt(x) if name.startswith(("estimate/", "spread/")) else x for name, x in means.items()}
    return values | {"surprise_relative": means["surprise"] / layer.rates[0].threshold}


def _of_step(layer: AdaptiveLayer, state: AdaptiveState) -> dict[str, float]:
    """Means over environments; of estimates and spreads those of squares."""
    values = {"surprise": state.synapses[0].surprise.mean(), "noise": state.noise.mean(), "lost": 1 - state.seen.mean()}
    chances = probabilities(state.evidence + state.hint, layer.needed(state.noise, state.relapses)).mean(0)
    for k, hypothesis in enumerate(layer.hypotheses):
        values[f"acting/{hypothesis.name}"] = np.mean(state.acting == k)
        values[f"responsibility/{hypothesis.name}"] = chances[k]
        if len(start := hypothesis.start()):
            mean, variance = hypothesis.believed(state.synapses[k])
            values[f"estimate/{hypothesis.name}"] = np.square(mean - start).mean()
            values[f"spread/{hypothesis.name}"] = variance.mean()
    return values
