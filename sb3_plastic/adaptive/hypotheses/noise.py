"""
Sensors that are noisy: a Kalman filter through the forward model, which learns how noisy each of them is from its own
innovation (Mehra, 1970). Units are the changes' standard deviations, s:

    x  = o - n                                     what is, if the sensors show n too much
    e  = (o' - x) / s - f(x) - B(x) a              innovation: against what is expected of x, not of what was shown
    P  <- F P F' + R ,   F = I + d(f + B a) / dx   variance of what is expected
    S  = P + diag V ,    K = P S^-1
    n  <- s (1 - K) e ,  P <- P - K P
    V  <- max( V + .02 (e^2 - diag S), 0 )         the sensors' noise

While V is 0 it shows the actor what the sensors show.
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Transition
from sb3_plastic.adaptive.lost import UNSEEN
from sb3_plastic.adaptive.predictor import Predictor
from sb3_plastic.adaptive.synapses import NIS_BOUND, Rates, Synapses, nis

RATE = 0.02
"""How fast the noise is learned: from about the last fifty steps."""


class SensorNoise(Hypothesis):
    """
    Its synapses are the standard deviation of each sensor's noise, then what each shows too much now, both in the
    sensor's own standard deviations. The covariance is that of the latter.
    """

    name = "sensor_noise"
    in_noise = True

    def start(self) -> Array:
        """No noise."""
        return np.zeros(2 * self._n)

    def inflation(self) -> Array:
        """Surprise opens nothing: what is learned are variances."""
        return np.zeros(2 * self._n)

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """Against what is expected of the filtered observation, and the derivative F of what is expected."""
        change, slope = model.linearise(self.sense(mean, t.o, t.commands, model), t.commands[:, 0])
        F = slope[:, :, self.sizes.components] / self._unit()
        F[:, range(self._n), range(self._n)] += 1
        return t.y + mean[:, self._n :] * self._unit() - change, F

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """The filter above. :param H: F, of :meth:`innovation`"""
        n, diagonal = self._n, range(self._n)
        R, V = t.expected.R, (synapses.mean[:, :n] * self._unit()) ** 2
        seen = np.ones_like(e, bool) if t.seen is None else t.seen
        P = H @ synapses.covariance[:, n:, n:] @ H.transpose(0, 2, 1)
        P[:, diagonal, diagonal] += np.where(seen, R, R / UNSEEN)
        S = P.copy()
        S[:, diagonal, diagonal] += np.where(seen, V, UNSEEN * (1 + V))
        gain = np.linalg.solve(S, P).transpose(0, 2, 1)
        S = S[:, diagonal, diagonal]
        V = np.maximum(V + RATE * seen * (np.minimum(e * e, NIS_BOUND * S) - S), 0)
        mean = np.concatenate([np.sqrt(V), e - (gain @ e[..., None])[..., 0]], 1) / np.tile(self._unit(), 2)
        P = P - gain @ P
        covariance = np.zeros_like(synapses.covariance)
        covariance[:, n:, n:] = (P + P.transpose(0, 2, 1)) / 2
        noise = 0.95 * synapses.noise + 0.05 * nis(e, S)
        surprise = 0.5 * synapses.surprise + 0.5 * nis(e, S * np.maximum(noise, 1)[:, None])
        common = R * common_noise[:, None]
        return Synapses(mean, covariance, surprise, noise), -0.5 * (e * e / common + np.log(common)).sum(1)

    def sense(self, mean: Array, o: Array, commands: Array, model: Predictor) -> Array:
        """The observation without the noise. Components that are not predicted stay as they are shown."""
        sensed, i = o.copy(), self.sizes.components
        sensed[:, i] -= mean[:, self._n :] * self.sizes.std[i]
        return sensed

    @property
    def _n(self) -> int:
        return len(self.sizes.components)

    def _unit(self) -> Array:
        """Standard deviations of the sensors, in those of their changes, [C]."""
        return self.sizes.std[self.sizes.components] / self.sizes.scale
