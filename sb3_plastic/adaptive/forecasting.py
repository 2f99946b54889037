"""
How soon a change of the motors will be known, asked of the agent's own gait before anything has changed.

No robot is perturbed. The agent walks, and its walk is changed in hindsight (:mod:`~sb3_plastic.adaptive.hindsight`):
as if from some step on motors were reversed, each with p = 1/3 and at least one, or all cables plugged in anew, too.
The commands are those that would have led to what the motors did. One hypothesis learns from them and says the next. If
it is often wrong, the gait tells little of its motors; a robot that falls within few wrong steps is then mostly lost.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.adaptive.collect import Transitions, nominal_transitions, raw
from sb3_plastic.adaptive.hypotheses import Transition
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.policy import AdaptivePolicy
from sb3_plastic.adaptive.synapses import variances
from sb3_plastic.errors import UserError
from sb3_plastic.progress import Progress
from sb3_plastic.wrappers import vectorised

Array = NDArray[Any]

ASKED = {"motors": "motors reversed", "plugs": "cables plugged in anew"}
"""Hypotheses that are asked, and of which change."""

AFTER = 5
"""Steps after the change in which the command is judged: most robots are on their feet so long."""

WITHIN = 0.1
"""What the motors do, less what was meant, root mean square in half control ranges: so much counts as right."""

WALK, LEAST, MOST = 6000, 50, 500
"""Steps of all robots together; of each at least and at most."""

EVERY = 20
"""Steps from one change in hindsight to the next."""


def forecast(policy: AdaptivePolicy, env: VecEnv | gym.Env[Any, Any], seed: int = 0) -> dict[str, float]:
    """
    Share of the changes after which the command of the fifth step is right.

    :param policy: with its layer
    :param env: the nominal environment; 16 to 64 at once are fastest
    :param seed: of environments and changes
    :return: of each hypothesis in ``ASKED`` that the layer has, 0 to 1; of none if no robot walks six steps in a row
    :raises UserError: if the layer was trained inside a policy
    """
    if policy.features_at is not None or policy.layer.settings.sensor_zero:
        raise UserError("A forecast is made of a layer that AdaptivePolicy.fit put around a model, not of one inside.")
    layer, venv, rng = policy.layer, raw(vectorised(env)), np.random.default_rng(seed)
    asked = [name for name in ASKED if name in layer.names]
    if not asked:
        return {}
    steps = int(np.clip(WALK // venv.num_envs, LEAST, MOST))
    with Progress(False) as progress:
        walk = nominal_transitions(policy.agent, venv, steps * venv.num_envs, seed, progress, excited=False)
    right = {name: _right(layer, name, walk, rng) for name in asked}
    return {name: round(float(of_it.mean()), 3) for name, of_it in right.items() if len(of_it)}


def _right(layer: AdaptiveLayer, name: str, walk: Transitions, rng: np.random.Generator) -> Array:
    """Of each change, whether the command was right."""
    k = layer.names.index(name)
    hypothesis, rates = layer.hypotheses[k], layer.rates[k]
    n, A = walk.a.shape[1:]
    o, a = (x.astype(np.float64) for x in walk[:2])
    y = (walk.after - o)[:, :, layer.components] / layer.scale
    right = []
    for begin in range(EVERY // 2, len(o) - AFTER, EVERY):
        cables = np.tile(np.arange(A), (n, 1))
        reversed_ = rng.random((n, A)) < 1 / 3
        reversed_[np.arange(n), rng.integers(A, size=n)] |= ~reversed_.any(1)
        G = np.eye(A)[rng.permuted(cables, axis=1) if name == "plugs" else cables]
        G *= np.where(reversed_, -1.0, 1.0)[:, None]
        synapses = hypothesis.initial(n, rates)
        for t in range(begin, begin + AFTER):
            commands = (a[t, :, None] @ G).repeat(layer.n_commands, 1)  # G^-1 a: its inverse is its transpose
            step = Transition(o[t], y[t], commands, layer.predictor.predict(o[t], a[t]))
            innovation = hypothesis.innovation(synapses.mean, step, layer.predictor)
            synapses, _ = hypothesis.learn(synapses, *innovation, step, rates, np.ones(n))
        t = begin + AFTER
        variance = variances(synapses.covariance) * rates.caution
        u = hypothesis.decode(synapses.mean, variance, a[t], layer.predictor.predict(o[t], a[t])).clip(-1, 1)
        got = (G @ u[..., None])[..., 0]
        walking = ~walk.starts[begin + 1 : t + 1].any(0)
        right.append(np.sqrt(np.square(got - a[t]).mean(1))[walking] < WITHIN)
    return np.concatenate(right)
