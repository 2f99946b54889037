"""What the layer asks of a trained forward model, in numpy: for few rows a call of torch takes longer than its work."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.activation import tanh_of
from sb3_plastic.adaptive.examples import Examples, standardised
from sb3_plastic.adaptive.forward_model import FAR, ForwardModel
from sb3_plastic.adaptive.member import LOG_NOISE
from sb3_plastic.adaptive.mlp_body import stacked

Array = NDArray[Any]


class Prediction(NamedTuple):
    """
    What the nominal robot is expected to do, in standard deviations of the change.

    :param f: change without a command, [B, C]
    :param B: effect of each motor, [B, C, A]
    :param R: variance of what the model cannot know, [B, C]
    """

    f: Array
    B: Array
    R: Array


AT_ONCE = 16
"""Rows of which derivatives are taken together: those of more leave the cache, and take twice as long."""


class Predictor:
    """
    The mean of an ensemble, whose weights are copied here, side by side: after a training make a new one.

    :param model: trained
    """

    def __init__(self, model: ForwardModel) -> None:
        members: list[Any] = list(model.members)
        self.n_motors, self.components = model.n_motors, model.components.numpy()
        self.mean, self.std, self.scale = model.mean.numpy(), model.std.numpy(), model.scale.numpy()
        among = self.mean[self.components], self.std[self.components]
        self.examples = Examples(model.examples.numpy(), *among) if model.examples.any() else None
        self.bodies: Any = type(members[0].body).side_by_side([member.body for member in members])
        # f and B are linear in the features: the mean over members is one product with the features of all.
        heads = zip(stacked(member.f for member in members), stacked(member.B for member in members), strict=True)
        weight, bias = (np.concatenate(both, 2) for both in heads)
        self.weight, self.bias = weight.reshape(-1, weight.shape[2]) / len(members), bias.mean((0, 1))
        # The same, sorted for derivatives: of f [M, 1, C, F], of each motor's effect [M, A, C F].
        M, n, C = len(members), weight.shape[1], len(self.components)
        f, B = np.split(weight.transpose(0, 2, 1) / M, [C], 1)
        B = B.reshape(M, C, self.n_motors, n).transpose(0, 2, 1, 3).reshape(M, self.n_motors, -1)
        self.heads = np.ascontiguousarray(f)[:, None], np.ascontiguousarray(B)
        self.noise = [stacked(member.log_R[i] for member in members) for i in (0, 2)]

    def predict(self, o: Array, a: Array) -> Prediction:
        """
        :param o: observations [B, O]
        :param a: commands [B, A], in units of half the control range
        """
        h = self.bodies(standardised(o, self.mean, self.std))
        (w1, b1), (w2, b2) = self.noise
        a, n = a.astype(np.float32), h.shape[2]
        log_R = tanh_of(h @ w1[:, :n], a @ w1[:, n:] + b1) @ w2 + b2
        return Prediction(*self._effects(h), np.exp(log_R.clip(*LOG_NOISE)).mean(0))

    def advance(self, o: Array, a: Array) -> Array:
        """
        The observation that is expected next.

        :param o: observations [B, O]
        :param a: commands [B, A]
        :return: [B, O]; components that are not predicted stay
        """
        f, B = self._effects(self.bodies(standardised(o, self.mean, self.std)))
        after = o.copy()
        after[:, self.components] += (f + (B @ a[..., None])[..., 0]) * self.scale
        return after

    def linearise(self, o: Array, a: Array) -> tuple[Array, Array]:
        """
        The expected change and its derivative by the observation: what a wrong sensor does to the prediction.

        :param o: observations [B, O]
        :param a: commands [B, A]
        :return: ``f(o) + B(o) a`` [B, C], and its derivative by the observation in standard deviations, [B, C, O]
        """
        if len(o) > AT_ONCE:
            parts = [self.linearise(o[i : i + AT_ONCE], a[i : i + AT_ONCE]) for i in range(0, len(o), AT_ONCE)]
            change, slope = map(np.concatenate, zip(*parts, strict=True))
            return change, slope
        a, n, (f, B) = a.astype(np.float32), len(self.components), self.heads
        weight = (a @ B).reshape(len(f), len(a), n, -1)
        weight += f
        z = standardised(o, self.mean, self.std)
        effects, slopes = self.bodies.pull_back(z, weight)
        bias = self.bias[:n] + a @ self.bias[n:].reshape(n, -1).T
        seen = np.abs(z) < FAR  # beyond it the model sees no difference
        return bias + effects.sum(0), slopes.sum(0) * seen[:, None, :]

    def _effects(self, h: Array) -> tuple[Array, Array]:
        effects = h.transpose(1, 0, 2).reshape(h.shape[1], -1) @ self.weight + self.bias
        n = len(self.components)
        return effects[:, :n], effects[:, n:].reshape(len(effects), n, self.n_motors)
