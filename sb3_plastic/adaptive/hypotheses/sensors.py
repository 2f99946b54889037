"""
Sensors that are off by a constant, or show too much or too little: an extended Kalman filter through the forward
model's jacobian. The corrected observation goes to the actor and to the model.

Components that the forward model does not predict (constants, contact forces) cannot be put right. While sensors are
taken to be wrong, the actor is shown their nominal means.
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Sizes, Transition
from sb3_plastic.adaptive.predictor import Predictor


class Sensors(Hypothesis):
    """
    What both have in common: a synapse for each component that is predicted.

    :param sizes: of the robot
    """

    full = True
    lasting = True
    noise_scale = 3.0  # the model errs alike from step to step, which a bias would explain

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.others = np.setdiff1d(np.arange(len(sizes.std)), sizes.components)

    def inflation(self) -> Array:
        """Up to .1 per step."""
        return np.full(len(self.sizes.components), 0.1)

    def sense(self, mean: Array, o: Array, commands: Array, model: Predictor) -> Array:
        """The observation without what is wrong with it."""
        sensed = o.copy()
        sensed[:, self.sizes.components] = self.corrected(mean, o[:, self.sizes.components])
        sensed[:, self.others] = self.sizes.mean[self.others]
        return sensed

    def corrected(self, mean: Array, o: Array) -> Array:
        """Without what is wrong, [B, C]. :param mean: [B, C] :param o: components that are predicted, [B, C]"""
        raise NotImplementedError  # this class is no hypothesis: those below say how


class SensorBias(Sensors):
    """Each sensor is off by a constant, in its standard deviations."""

    name = "sensor_bias"

    def start(self) -> Array:
        """Every sensor is right."""
        return np.zeros(len(self.sizes.components))

    def bounds(self) -> tuple[float, float]:
        """Ten standard deviations of what the nominal robot shows: a trunk that hardly turns shows little."""
        return -10.0, 10.0

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """``e = y - f(o - b) - B(o - b) a``, linearised at the bias known so far: ``H = -d(f + B a)/do``."""
        change, slope = model.linearise(self.sense(mean, t.o, t.commands, model), t.commands[:, 0])
        return t.y - change, -slope[:, :, self.sizes.components]

    def jump(self, mean: Array, t: Transition, e: Array) -> Array:
        """A sensor that goes wrong jumps by its bias."""
        return np.tile(self._std() / self.sizes.scale, (len(mean), 1))

    def corrected(self, mean: Array, o: Array) -> Array:
        """Without the bias."""
        return o - mean * self._std()

    def _std(self) -> Array:
        return self.sizes.std[self.sizes.components]


class SensorGain(Sensors):
    """
    Each sensor shows its gain times what is. Where observations are normalised, the gain is that of the sensor before:
    it is centred on the observation of a sensor that shows nothing.
    """

    name = "sensor_gain"

    def start(self) -> Array:
        """Every sensor is right."""
        return np.ones(len(self.sizes.components))

    def bounds(self) -> tuple[float, float]:
        """A third to three times: no sensor is reversed, none dead, which would show nothing to be put right."""
        return 1 / 3, 3.0

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """
        With the change c = f(o / g) + B(o / g) a of what is, o from its zero on: ``e = y - g c``, and
        ``H_ij = [i = j] c_i - g_i dc_i/do_j o_j / g_j^2``.
        """
        i = self.sizes.components
        c, slope = model.linearise(self.sense(mean, t.o, t.commands, model), t.commands[:, 0])
        H = -mean[:, :, None] * slope[:, :, i] * (self._shown(t) / (self.sizes.std[i] * mean**2))[:, None, :]
        H[:, np.arange(len(i)), np.arange(len(i))] += c
        return t.y - mean * c, H

    def jump(self, mean: Array, t: Transition, e: Array) -> Array:
        """A sensor that goes wrong jumps by what its gain makes of what is expected to be there."""
        return (self._shown(t) / self.sizes.scale + t.y - e) / mean

    def corrected(self, mean: Array, o: Array) -> Array:
        """Without the gain."""
        return self._zero() + (o - self._zero()) / mean

    def _shown(self, t: Transition) -> Array:
        return t.o[:, self.sizes.components] - self._zero()

    def _zero(self) -> Array:
        return self.sizes.zero[self.sizes.components]
