"""A linear robot whose forward model is known exactly, for tests of the adaptive layer: no training, no simulator."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.policy import AdaptivePolicy
from sb3_plastic.adaptive.settings import LayerSettings

A = np.array([[-0.1, 0.05, 0.0], [-0.05, -0.2, 0.02], [0.0, 0.1, -0.3]])  # o' = o + A o + B a + noise
B = np.array([[0.4, 0.0], [0.1, 0.3], [0.0, 0.5]])
NOISE = 0.02


def linear_model() -> ForwardModel:
    """The robot above as a forward model: standard deviations of 1, and its noise."""
    model = ForwardModel(3, 2, net_arch=())
    member: Any = model.members[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        member.f.weight.copy_(torch.as_tensor(A))
        member.B.bias.copy_(torch.as_tensor(B).flatten())
        member.log_R[-1].bias.fill_(float(np.log(NOISE**2)))
    return model.requires_grad_(False)


class Wanderer:
    """An agent that tracks a slow sine: it moves all the time, so that its motors can be told apart."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Box(-1, 1, (2,), np.float64)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        t = np.zeros(len(observation)) if state is None else state[0] + 1
        wave = 0.5 * np.stack([np.sin(0.3 * t), np.cos(0.17 * t)], 1)
        return np.clip(wave - 0.2 * observation[:, :2], -1, 1), (t,)


class Observer(Wanderer):
    """Remembers what it is shown."""

    def __init__(self):
        self.shown = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.shown.append(observation.copy())
        return super().predict(observation, state, episode_start, deterministic)


class Counting(gym.Env):
    """
    Observes the steps since the reset. For :class:`Wanderer`.

    :param length: of an episode; 0: it does not end
    """

    observation_space, action_space = Wanderer.observation_space, Wanderer.action_space

    def __init__(self, length: int = 0) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        self.t = 0
        return np.zeros(3), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        return np.full(3, float(self.t)), 0.0, self.t == self.length, False, {}


class Robots:
    """
    Many linear robots, which do with a command what ``applied`` says.

    :param applied: (command [N, 2], step) -> what acts [N, 2]
    :param sensed: (observation [N, 3], step) -> what the agent sees
    :param drift: what happens without a command, of each component, as a multiple of what it was, [3]
    """

    def __init__(self, n=8, applied=lambda u, t: u, sensed=lambda o, t: o, noise=NOISE, seed=0, drift=1.0):
        self.drift = drift
        self.o, self.t, self.noise = np.zeros((n, 3)), 0, noise
        self.applied, self.sensed, self.rng = applied, sensed, np.random.default_rng(seed)

    def see(self):
        return self.sensed(self.o.copy(), self.t)

    def step(self, u):
        noise = self.noise * self.rng.normal(size=self.o.shape)
        self.o = self.o + self.drift * (self.o @ A.T) + self.applied(u, self.t) @ B.T + noise
        self.t += 1


def policy(hypotheses=("motors",), agent=None, threshold=4.0, **kwargs) -> AdaptivePolicy:
    """The layer around the wanderer, with thresholds as a calibration would find them."""
    names = ("nominal", *hypotheses)
    settings = LayerSettings(tuple(hypotheses), dict.fromkeys(names, threshold), head_start=6.0, calm=1.6)
    return AdaptivePolicy(agent or Wanderer(), AdaptiveLayer(linear_model(), settings), **kwargs)


def play(p: AdaptivePolicy, robots: Robots, steps: int, watch=None):
    """Let them run. :return: the state after the last step"""
    state = None
    for _ in range(steps):
        u, state = p.predict(robots.see(), state, deterministic=True)
        robots.step(u)
        if watch is not None:
            watch(u, state)
    return state
