"""What to watch of an adaptive layer: numbers by name, for TensorBoard and for tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sb3_plastic.adaptive.layer import AdaptiveLayer, LayerState
from sb3_plastic.adaptive.responsibility import needed, probabilities


def signals_of(layer: AdaptiveLayer, states: Sequence[LayerState]) -> dict[str, float]:
    """
    - ``surprise``: of nominal, near 1 where all is as expected; ``surprise_relative``: as a multiple of its threshold
    - ``noise``: that no hypothesis explains, as a multiple of the forward model's
    - ``acting/<hypothesis>``: share of the steps in which it acts
    - ``responsibility/<hypothesis>``: its mean probability
    - ``estimate/<hypothesis>``: how far its estimates are from nominal, and ``spread/<hypothesis>``: their standard
      deviation, root mean squares both

    :param layer: the layer
    :param states: of some steps
    :return: means over steps and environments, by name
    """
    nominal = [state.synapses[0] for state in states]
    surprise = float(np.mean([s.surprise for s in nominal]))
    values = {
        "surprise": surprise,
        "surprise_relative": surprise / layer.rates[0].threshold,
        "noise": float(np.mean([state.noise for state in states])),
    }
    acting = np.array([state.acting for state in states])
    head_start = layer.settings.head_start
    chances = [probabilities(s.evidence + s.hint, needed(head_start, s.noise)).mean(0) for s in states]
    for k, hypothesis in enumerate(layer.hypotheses):
        values[f"acting/{hypothesis.name}"] = float(np.mean(acting == k))
        values[f"responsibility/{hypothesis.name}"] = float(np.mean(chances, 0)[k])
        start = hypothesis.start()
        if len(start):
            synapses = [state.synapses[k] for state in states]
            off = [np.square(s.mean - start).mean() for s in synapses]
            values[f"estimate/{hypothesis.name}"] = float(np.sqrt(np.mean(off)))
            values[f"spread/{hypothesis.name}"] = float(np.sqrt(np.mean([_variance(s.covariance) for s in synapses])))
    return values


def _variance(covariance: np.ndarray) -> float:
    diagonal = covariance if covariance.ndim == 2 else np.einsum("bii->bi", covariance)
    return float(diagonal.mean())
