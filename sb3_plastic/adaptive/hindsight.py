"""
The rule, learned by gradient through adaptation, on nominal transitions alone.

No robot has to be broken for it: what the motors did, a, is known. If they had had the effectiveness G and the error d,
the command would have been ``c = G^-1 (a - d)``: a change in hindsight. The synapses learn from the commands c. The
loss compares what the body would have got with what was meant, before the change, after it and where there is none:

    loss = mean | G clip(u) + d - a |^2 ,   u = decode(a, m, P)

Adam, in the logarithms of the numbers in ``LEARNABLE`` and of the surprise threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.differentiable import TensorRates, TensorSynapses, learn, variances
from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.hypotheses import Hypothesis, Transition
from sb3_plastic.adaptive.hypotheses.disturbance import DAMPING
from sb3_plastic.adaptive.hypotheses.motors import CAUTION, cautious
from sb3_plastic.adaptive.predictor import Prediction, Predictor
from sb3_plastic.adaptive.synapses import LEARNABLE, Rates
from sb3_plastic.errors import UserError

Array = NDArray[Any]

LENGTH = 20
"""Steps of a sequence."""

ONSETS = (2, 8)
"""The change comes at a step drawn between these."""

BATCH, UPDATES, RATE = 32, 100, 0.05
"""Sequences in a step of Adam, steps, and their size in logarithms."""

CHECKED = 128
"""Sequences that are not learned from, on which the learned rule has to be better, or it is not taken."""

FARTHEST = 30.0
"""A number may become so many times what it was, or that part of it."""

TOO_FEW = (
    f"A rule is learned on {LENGTH} steps of an episode in a row, and the nominal transitions that are held out "
    "have none: gather more steps, in fewer environments at once, or do without learn_rule."
)


class NominalSequences(NamedTuple):
    """
    Nominal ones, and what was expected. Time first; C components, A motors.

    :param o: observations [T, n, O]
    :param a: applied commands [T, n, A]
    :param y: changes [T, n, C]
    :param expected: prediction [T, n, ...]
    """

    o: Array
    a: Array
    y: Array
    expected: Prediction


class Change(NamedTuple):
    """
    What a command u brings about: ``G u + d``.

    :param G: [T, n, A, A]
    :param d: [T, n, A]
    """

    G: Array
    d: Array


def check_length(n_steps: int) -> None:
    """
    :param n_steps: in a row that are held out
    :raises UserError: if they are fewer than `LENGTH`
    """
    if n_steps < LENGTH:
        raise UserError(TOO_FEW)


def sequences_of(model: ForwardModel, transitions: Transitions) -> NominalSequences:
    """
    Cut transitions into sequences within an episode.

    :param model: trained
    :param transitions: nominal ones that it has not seen
    :raises UserError: if no episode among them is long enough
    """
    components, scale = model.components.numpy(), model.scale.numpy().astype(np.float64)
    parts = []
    for t in range(0, len(transitions.o) - LENGTH + 1, LENGTH):
        o, a, after, starts = (x[t : t + LENGTH] for x in transitions)
        whole = ~starts[1:].any(0) & np.isfinite(o).all((0, 2)) & np.isfinite(after).all((0, 2))
        parts.append([x[:, whole].astype(np.float64) for x in (o, a, after)])
    if not any(part[0].shape[1] for part in parts):
        raise UserError(TOO_FEW)
    o, a, after = (np.concatenate(x, 1) for x in zip(*parts, strict=True))
    y = (after - o)[:, :, components] / scale
    p = Predictor(model).predict(o.reshape(-1, o.shape[2]), a.reshape(-1, a.shape[2]))
    expected = Prediction(*(x.reshape(*o.shape[:2], *x.shape[1:]).astype(np.float64) for x in p))
    return NominalSequences(o, a, y, expected)


def draw(name: str, n: int, n_motors: int, rng: np.random.Generator) -> Change:
    """
    Changes with an onset each: a quarter of the sequences has none, a quarter has noise of up to .5, in a half of them
    motors are reversed (each with p = 1/3), weaker or stronger (.5 to 1.5), off by a constant, or plugged in anew, as
    the hypothesis can describe it.

    :param name: of the hypothesis
    :param n: sequences
    :param n_motors: A
    :param rng: random generator
    """
    A, T = n_motors, LENGTH
    kind = rng.integers(4, size=n)
    sign = np.where(rng.random((n, A)) < 1 / 3, -1.0, 1.0)
    gain = np.where(rng.random((n, 1)) < 0.5, rng.uniform(0.5, 1.5, (n, A)), 1.0)
    G = np.eye(A) * (sign * gain)[:, None, :]
    if name == "wires":
        G = np.eye(A)[rng.permuted(np.tile(np.arange(A), (n, 1)), axis=1)] * sign[:, None, :]
    changed = kind >= 2
    G = np.where(changed[:, None, None], G, np.eye(A))
    bias = rng.uniform(-0.5, 0.5, (n, A)) * (changed & (name in ("motors_and_bias", "motors_and_disturbance")))[:, None]
    noise = (rng.uniform(0, 0.5, n) * (kind == 1))[:, None] * rng.standard_normal((T, n, A))
    begun = np.arange(T)[:, None] >= rng.integers(*ONSETS, size=n)
    return Change(
        np.where(begun[:, :, None, None], G, np.eye(A)), np.where(begun[:, :, None], bias + noise, np.zeros(A))
    )


def loss_of(
    hypothesis: Hypothesis, s: NominalSequences, change: Change, rates: TensorRates, start: TensorSynapses
) -> Tensor:
    """
    Mean squared error of what the body gets.

    :param hypothesis: whose synapses learn
    :param s: sequences
    :param change: of each
    :param rates: how the synapses learn
    :param start: synapses at the start
    """
    T, n, A = s.a.shape
    commands = np.linalg.solve(change.G, (s.a - change.d)[..., None])[..., 0]
    expected = Prediction(*(x.reshape(T * n, *x.shape[2:]) for x in s.expected))
    o, y = (x.reshape(T * n, -1) for x in (s.o, s.y))
    flat = Transition(o, y, commands.reshape(T * n, 1, A), expected)
    # All hypotheses here are linear in their means: e = e_start - H (m - m_start).
    flat_e, flat_H = hypothesis.innovation(np.tile(hypothesis.start(), (T * n, 1)), flat, _NO_MODEL)
    e_start, H = (torch.from_numpy(x.reshape(T, n, *x.shape[1:])) for x in (flat_e, flat_H))
    R, B, a, G, d = (torch.from_numpy(x) for x in (s.expected.R, s.expected.B, s.a, change.G, change.d))
    decode, synapses, total = DECODERS[hypothesis.name], start, torch.zeros(())
    for t in range(T):
        u = decode(a[t], synapses.mean, variances(synapses.covariance) * rates.caution, B[t], R[t])
        got = (G[t] @ u.clamp(-1, 1)[..., None])[..., 0] + d[t]
        total = total + (got - a[t]).square().mean()
        e = e_start[t] - (H[t] @ (synapses.mean - start.mean)[..., None])[..., 0]
        synapses = learn(synapses, e, H[t], R[t], rates)
    return total / T


_NO_MODEL: Any = None
"""The hypotheses here do not ask it."""


# Decoders in torch: what hypotheses do with numpy


def _motors(a: Tensor, mean: Tensor, variance: Tensor, B: Tensor, R: Tensor) -> Tensor:
    u: Tensor = cautious(a, mean, variance)  # type: ignore[arg-type, assignment]
    return u


def _motors_and_bias(a: Tensor, mean: Tensor, variance: Tensor, B: Tensor, R: Tensor) -> Tensor:
    A = a.shape[1]
    return _motors(a - mean[:, A:], mean[:, :A], variance[:, :A], B, R)


def _motors_and_disturbance(a: Tensor, mean: Tensor, variance: Tensor, B: Tensor, R: Tensor) -> Tensor:
    A = a.shape[1]
    S = 1 / R
    BS = (B * (S / S.mean(1, keepdim=True))[..., None]).transpose(1, 2)
    against = torch.linalg.solve(BS @ B + DAMPING * torch.eye(A), BS @ mean[:, A:, None])[..., 0]
    return _motors(a - against, mean[:, :A], variance[:, :A], B, R)


def _wires(a: Tensor, mean: Tensor, variance: Tensor, B: Tensor, R: Tensor) -> Tensor:
    A = a.shape[1]
    G, caution = mean.unflatten(1, (A, A)), variance.unflatten(1, (A, A)).sum(1) + CAUTION
    Gt = G.transpose(1, 2)
    return torch.linalg.solve(Gt @ G + torch.diag_embed(caution), Gt @ a[..., None])[..., 0]


DECODERS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "motors": _motors,
    "motors_and_bias": _motors_and_bias,
    "motors_and_disturbance": _motors_and_disturbance,
    "wires": _wires,
}
"""Hypotheses whose rule can be learned: (intended [B, A], mean, variance, effects B, noise R) -> command."""


class Learned(NamedTuple):
    """
    :param threshold: of surprise
    :param rule: for :func:`~sb3_plastic.adaptive.synapses.with_rule`; empty if calibration alone is better
    :param loss: before and after, on sequences that were not learned from
    """

    threshold: float
    rule: dict[str, float]
    loss: tuple[float, float]


def learn_rule_of(hypothesis: Hypothesis, rates: Rates, s: NominalSequences) -> Learned:
    """
    Learn the rule of one hypothesis.

    :param hypothesis: one of ``DECODERS``
    :param rates: where to start, with a calibrated threshold
    :param s: nominal sequences
    """
    rng = np.random.default_rng(0)
    n, A = s.a.shape[1:]
    order = rng.permutation(n)
    cut = max(n - max(n // 5, 1), 1)
    checked = _part(s, rng.choice(order[cut:] if cut < n else order, CHECKED))
    check = draw(hypothesis.name, CHECKED, A, rng)
    logs = torch.zeros(len(LEARNABLE) + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logs], RATE, betas=(0.9, 0.98))

    def loss(part: NominalSequences, change: Change, logs: Tensor) -> Tensor:
        start = hypothesis.initial(part.a.shape[1], rates)
        synapses = TensorSynapses(*(torch.from_numpy(np.array(x, np.float64)) for x in start))
        return loss_of(hypothesis, part, change, tensor_rates(rates, logs), synapses)

    with torch.no_grad():
        before = loss(checked, check, logs).item()
    for i in range(UPDATES):
        optimizer.param_groups[0]["lr"] = RATE * (1 - i / UPDATES)
        part = _part(s, rng.choice(order[:cut], BATCH))
        optimizer.zero_grad()
        loss(part, draw(hypothesis.name, BATCH, A, rng), logs).backward()
        torch.nn.utils.clip_grad_norm_([logs], 1.0)
        optimizer.step()
        with torch.no_grad():
            logs.clamp_(-np.log(FARTHEST), np.log(FARTHEST))
    with torch.no_grad():
        after = loss(checked, check, logs).item()
    if not after < before:
        return Learned(rates.threshold, {}, (before, after))
    factors = dict(zip(("threshold", *LEARNABLE), logs.detach().exp().tolist(), strict=True))
    was: Mapping[str, Any] = rates._asdict() | {"inflation": 1.0}
    rule = {name: _rounded(was[name] * factors[name]) for name in LEARNABLE}
    return Learned(_rounded(rates.threshold * factors["threshold"]), rule, (before, after))


def tensor_rates(rates: Rates, logs: Tensor) -> TensorRates:
    """
    Rates changed by factors.

    :param rates: what they were
    :param logs: logarithms of the factors: of the threshold, then of ``LEARNABLE``
    """
    names = ("threshold", *LEARNABLE)
    was = rates._asdict()
    changed = {
        name: torch.as_tensor(was[name], dtype=torch.float64) * factor
        for name, factor in zip(names, logs.exp(), strict=True)
    }
    return TensorRates(**changed, low=rates.low, high=rates.high)


def _part(s: NominalSequences, chosen: Array) -> NominalSequences:
    return NominalSequences(
        s.o[:, chosen], s.a[:, chosen], s.y[:, chosen], Prediction(*(x[:, chosen] for x in s.expected))
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
