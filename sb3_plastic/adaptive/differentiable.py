"""
The synapses' rule in torch, so that gradients flow through adaptation. ``synapses.learn`` defines it. What hypotheses
are compared by (the likelihood) and changes within a step are not here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sb3_plastic.adaptive.synapses import NIS_BOUND


class TensorRates(NamedTuple):
    """As :class:`~sb3_plastic.adaptive.synapses.Rates`: inflation is [n], the other tensors are numbers, []."""

    threshold: Tensor
    inflation: Tensor
    process_noise: Tensor
    max_variance: Tensor
    noise_scale: Tensor
    caution: Tensor
    low: float
    high: float


class TensorSynapses(NamedTuple):
    """
    As :class:`~sb3_plastic.adaptive.synapses.Synapses`.

    :param mean: [B, n]
    :param covariance: [B, n, n] or, of variances alone, [B, n]
    :param surprise: [B]
    :param noise: [B]
    """

    mean: Tensor
    covariance: Tensor
    surprise: Tensor
    noise: Tensor


def learn(synapses: TensorSynapses, e: Tensor, H: Tensor, R: Tensor, rates: TensorRates) -> TensorSynapses:
    """
    One step of the rule.

    :param synapses: before
    :param e: innovation [B, C]
    :param H: derivative of the prediction by the means, [B, C, n]
    :param R: the forward model's variance, [B, C]
    :param rates: how they learn
    :return: synapses after
    """
    mean, covariance, surprise, noise = synapses
    of_synapses = (projected(H, covariance) * H).sum(2)
    noise = 0.95 * noise + 0.05 * nis(e, of_synapses + R)
    R = R * noise.clamp(min=1)[:, None]
    surprise = 0.5 * surprise + 0.5 * nis(e, of_synapses + R)
    opened = torch.sigmoid(2 * (surprise - rates.threshold))
    covariance = inflate(covariance, rates.process_noise + opened[:, None] * rates.inflation, rates.max_variance)
    HP = projected(H, covariance)
    root = torch.linalg.cholesky(HP @ H.transpose(1, 2) + torch.diag_embed(R * rates.noise_scale))
    gain = torch.cholesky_solve(HP, root)  # K', [B, C, n]
    mean = mean + (e[:, None, :] @ gain)[:, 0]
    if covariance.ndim == 2:
        covariance = (covariance - (gain * HP).sum(1)).clamp(min=0)
    else:
        covariance = covariance - HP.transpose(1, 2) @ gain
        covariance = (covariance + covariance.transpose(1, 2)) / 2
    return TensorSynapses(mean.clamp(rates.low, rates.high), covariance, surprise, noise)


def projected(H: Tensor, covariance: Tensor) -> Tensor:
    """``H P``, [B, C, n]. :param H: [B, C, n] :param covariance: [B, n, n] or [B, n]"""
    return H * covariance[:, None, :] if covariance.ndim == 2 else H @ covariance


def nis(e: Tensor, variance: Tensor) -> Tensor:
    """Normalised innovation squared, [B]. :param e: [B, C] :param variance: [B, C]"""
    return (e * e / variance).clamp(max=NIS_BOUND).mean(1)


def inflate(covariance: Tensor, amount: Tensor, max_variance: Tensor) -> Tensor:
    """
    Open the variances, within their bound.

    :param covariance: [B, n, n] or [B, n]
    :param amount: added to each variance, [B, n]
    :param max_variance: bound of each variance, []
    """
    if covariance.ndim == 2:
        return torch.minimum(covariance + amount, max_variance)
    covariance = covariance + torch.diag_embed(amount)
    shrink = (max_variance / covariance.diagonal(dim1=1, dim2=2)).clamp(max=1).sqrt()
    return covariance * shrink[:, :, None] * shrink[:, None, :]


def variances(covariance: Tensor) -> Tensor:
    """The variance of each synapse, [B, n]. :param covariance: [B, n, n] or [B, n]"""
    return covariance if covariance.ndim == 2 else covariance.diagonal(dim1=1, dim2=2)
