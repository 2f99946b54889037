"""
Sensors that are noisy: a Kalman filter through the forward model, which learns how noisy each of them is from how
errors follow each other (Mehra, 1970). Units are the changes' standard deviations, s:

    x  = o - n                                     what is, if the sensors show n too much
    e  = (o' - x) / s - f(x) - B(x) a              innovation: against what is expected of x, not of what was shown
    n+ = n / s - F^ e ,   F = I + d(f + B a) / dx  what they showed too much, as the next step tells
    V  <- max( V + .02 (n+ e_before - V), 0 )      the sensors' noise
    P  <- F P F' + R max(1, c)                     variance of what is expected
    K  = P (P + diag V)^-1 ,   n <- s (1 - K) e ,   P <- P - K P

F^ undoes F for each component by itself, by least squares. Noise is in one reading and gone in the next, so e_before
tells of V through n+, whose own error is of later steps. What a changed body does stays done: it is in e_before, too,
but not in n+. It raises c, the expected noise, and the sensors are believed. What the next step takes back passes for
noise, as do quick commands that arrive a step late: other hypotheses are for that. In V's line errors count as at most
7 standard deviations. While V is 0 the actor is shown what they show.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.lost import UNSEEN
from sb3_plastic.adaptive.predictor import Predictor
from sb3_plastic.adaptive.synapses import NIS_BOUND, Rates, Synapses, nis, plus_diagonal, variances

RATE = 0.02
"""How fast the noise is learned: from about the last fifty steps."""

SHORT = 0.01
"""In readings: of a sensor of whose noise the next step tells so much, half is believed; of contact forces nothing."""


class SensorNoise(Hypothesis):
    """
    Its synapses are the standard deviation of each sensor's noise, then what each shows too much now, which has the
    covariance, in the sensor's own standard deviations. With the means is the last innovation.
    """

    name = "sensor_noise"
    in_noise = True

    def start(self) -> Array:
        """No noise."""
        return np.zeros(2 * self._n)

    def initial(self, n_envs: int, rates: Rates) -> Synapses:
        """Nothing is known to be wrong."""
        n, ones = self._n, np.ones(n_envs)
        return Synapses(np.zeros((n_envs, 3 * n)), np.zeros((n_envs, n, n)), ones, ones)

    def believed(self, synapses: Synapses) -> tuple[Array, Array]:
        """Of the noise no variance is known. Rounding leaves some that are 0 just below it."""
        of_too_much = np.maximum(variances(synapses.covariance), 0)
        return synapses.mean[:, : 2 * self._n], np.concatenate([np.zeros_like(of_too_much), of_too_much], 1)

    def carried(self, synapses: Synapses) -> Synapses:
        """How noisy the sensors are. The noise of the next reading is another."""
        n, mean = self._n, synapses.mean.copy()
        mean[:, n:] = 0
        of_too_much = (mean[:, :n] * self._unit) ** 2
        return synapses._replace(mean=mean, covariance=plus_diagonal(0 * synapses.covariance, of_too_much))

    def bounds(self) -> tuple[float, float]:
        """A filter that has strayed further, in standard deviations of the sensors, would hardly come back."""
        return -100.0, 100.0

    def inflation(self) -> Array:
        """Surprise opens nothing: what is learned are variances."""
        return np.zeros(2 * self._n)

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """Against what is expected of the filtered observation, and the derivative F of what is expected."""
        change, slope = model.linearise(self.sense(mean, t.o, t.commands, model), t.commands[:, 0])
        F = slope[:, :, self.sizes.components] / self._unit
        return t.y + self._too_much(mean) - change, plus_diagonal(F, np.ones(self._n))

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """The filter above. :param H: F, of :meth:`innovation`"""
        n, unit = self._n, self._unit
        R, seen = t.expected.R, np.ones_like(e, bool) if t.seen is None else t.seen
        V, e_before = (synapses.mean[:, :n] * unit) ** 2, synapses.mean[:, 2 * n :]
        body, sensors = (R, V) if seen.all() else (np.where(seen, R, R / UNSEEN), np.where(seen, V, UNSEEN * (1 + V)))
        P = H @ synapses.covariance @ H.transpose(0, 2, 1)
        noise = 0.95 * synapses.noise + 0.05 * nis(e, variances(P) + body + sensors)
        P = plus_diagonal(P, body * np.maximum(noise, 1)[:, None])
        S = plus_diagonal(P, sensors)
        gain = np.linalg.solve(S, P).transpose(0, 2, 1)
        S = variances(S)
        told = np.where(seen, np.sign(e) * np.sqrt(np.minimum(e * e, NIS_BOUND * S)), 0)
        weight = H / S[..., None]
        lasting = (weight * H).sum(1)
        as_told = (lasting * self._too_much(synapses.mean) - (weight * told[..., None]).sum(1)) / (lasting + SHORT / S)
        V = np.maximum(V + RATE * (seen & (e_before != 0)) * (as_told * e_before - V), 0)
        too_much = e - (gain @ e[..., None])[..., 0]
        P = P - gain @ P
        surprise = 0.5 * synapses.surprise + 0.5 * nis(e, S)
        believed = np.concatenate([np.sqrt(V), too_much], 1) / np.tile(unit, 2)
        mean = np.concatenate([believed.clip(rates.low, rates.high), told], 1)
        R = R * common_noise[:, None]
        likelihood = -0.5 * (e * e / R + np.log(R)).sum(1)
        return Synapses(mean, (P + P.transpose(0, 2, 1)) / 2, surprise, noise), likelihood

    def sense(self, mean: Array, o: Array, commands: Array, model: Predictor) -> Array:
        """The observation without the noise. Components that are not predicted stay as they are shown."""
        sensed = o.copy()
        sensed[:, self.sizes.components] -= self._too_much(mean) * self.sizes.scale
        return sensed

    def _too_much(self, mean: Array) -> Array:
        """What the sensors show too much, in the changes' standard deviations, [B, C]."""
        return mean[:, self._n : 2 * self._n] * self._unit

    @property
    def _n(self) -> int:
        return len(self.sizes.components)

    @cached_property
    def _unit(self) -> Array:
        """Standard deviations of the sensors, in those of their changes, [C]."""
        return self.sizes.std[self.sizes.components] / self.sizes.scale
