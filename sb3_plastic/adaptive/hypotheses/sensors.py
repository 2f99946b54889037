"""Sensors that are off by a constant, or show too much or too little."""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition


class SensorBias(Hypothesis):
    """
    Each sensor is off by a constant, in its standard deviations: an extended Kalman filter through the forward model's
    jacobian. The corrected observation goes to the actor and to the model.
    """

    name = "sensor_bias"
    full = True

    def start(self) -> Array:
        """Every sensor is right."""
        return np.zeros(len(self.sizes.std))

    def inflation(self) -> Array:
        """Up to .1 per step."""
        return np.full(len(self.sizes.std), 0.1)

    def bounds(self) -> tuple[float, float]:
        """Three standard deviations of what the nominal robot shows."""
        return -3.0, 3.0

    def innovation(self, mean: Array, t: Transition, model: ForwardModel) -> tuple[Array, Array]:
        """``e = y - f(o - b) - B(o - b) a``, linearised at the bias known so far: ``H = -d(f + B a)/do``."""
        change, slope = model.linearise(self.sense(mean, t.o, t.commands, model), t.commands[:, 0])
        return t.y - change, -slope

    def jump(self, mean: Array, t: Transition) -> Array:
        """A sensor that goes wrong jumps by its bias."""
        i, std = self.sizes.components, self.sizes.std
        jump = np.zeros((len(mean), len(i), len(std)))
        jump[:, np.arange(len(i)), i] = std[i] / self.sizes.scale
        return jump

    def sense(self, mean: Array, o: Array, commands: Array, model: ForwardModel) -> Array:
        """The observation without its bias."""
        return o - mean * self.sizes.std


class SensorGain(Hypothesis):
    """Each sensor shows its gain times what is: an extended Kalman filter, as above."""

    name = "sensor_gain"
    full = True

    def start(self) -> Array:
        """Every sensor is right."""
        return np.ones(len(self.sizes.std))

    def inflation(self) -> Array:
        """Up to .1 per step."""
        return np.full(len(self.sizes.std), 0.1)

    def bounds(self) -> tuple[float, float]:
        """A third to three times: no sensor is reversed, none dead, which would show nothing to be put right."""
        return 1 / 3, 3.0

    def innovation(self, mean: Array, t: Transition, model: ForwardModel) -> tuple[Array, Array]:
        """
        With the change c = f(o / g) + B(o / g) a of what is: ``e = y - g c``, and
        ``H_ij = [i = j] c_i - g_i dc_i/do_j o_j / g_j^2``.
        """
        c, slope = model.linearise(t.o / mean, t.commands[:, 0])
        g = mean[:, self.sizes.components]
        H = -g[:, :, None] * slope * (t.o / (self.sizes.std * mean**2))[:, None, :]
        H[:, np.arange(c.shape[1]), self.sizes.components] += c
        return t.y - g * c, H

    def jump(self, mean: Array, t: Transition) -> Array:
        """A sensor that goes wrong jumps by its gain times what it should show."""
        i = self.sizes.components
        jump = np.zeros((len(mean), len(i), len(self.sizes.std)))
        jump[:, np.arange(len(i)), i] = (t.o[:, i] / self.sizes.scale + t.y) / mean[:, i]
        return jump

    def sense(self, mean: Array, o: Array, commands: Array, model: ForwardModel) -> Array:
        """The observation without its gain."""
        return o / mean
