"""The definition of the scan: what a layer is made of, and the reference form, short, clear and slow.

It *is* the definition; kernels must agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sb3_plastic.errors import check_choice, check_number
from sb3_plastic.snn.neurons import NEURONS
from sb3_plastic.snn.rules import MODULATIONS, RULES, Rule
from sb3_plastic.snn.state import LayerState, reset_layer
from sb3_plastic.snn.surrogate import SURROGATES, spike

NOTHING = torch.empty(0)
"""A parameter that the layer does not have."""


class LayerParameters(NamedTuple):
    """
    Parameters of one layer, in their own units (rates in [0, 1], not their raw form). What a layer has no use for is
    empty. ``M`` counts the layer's inputs and, in a recurrent layer, its own N neurons after them. Each tensor may have
    a leading axis [B, ...]: then each row of the batch is a network of its own (a population).
    """

    w: Tensor  # [M, N] fixed weights
    b: Tensor  # [N] bias currents
    beta: Tensor  # [N] decay of the membrane per tick, in [0, 1]
    alpha: Tensor = NOTHING  # [M, N] gain of the fast weights
    eta: Tensor = NOTHING  # [M, N] plasticity rates, above 0
    lam_pre: Tensor = NOTHING  # [M] decay of the presynaptic trace per tick, in [0, 1]
    lam_post: Tensor = NOTHING  # [N] decay of the postsynaptic trace per tick, in [0, 1]
    rho: Tensor = NOTHING  # [N] decay of the fast weights per tick, in [0, 1]
    kappa: Tensor = NOTHING  # [N] rate of the sliding threshold per tick, in [0, 1]
    kappa_e: Tensor = NOTHING  # [N] rate of the eligibility per tick, in [0, 1]
    a: Tensor = NOTHING  # [N] gain of the modulator
    u: Tensor = NOTHING  # [N] weights of the modulator's signal
    c: Tensor = NOTHING  # [1] bias of the modulator's signal
    d: Tensor = NOTHING  # [N] offset of the modulator


@dataclass(frozen=True)
class LayerConfig:
    """
    What kind of layer it is.

    :param rule: plasticity rule, a name in ``RULES``
    :param modulation: ``none``, ``simple`` or ``retroactive``
    :param neuron: a name in ``NEURONS``
    :param recurrent: whether the layer's spikes of the last tick are among its inputs
    :param threshold: firing threshold, above 0; 1 by convention, since weights scale with it
    :param surrogate: a name in ``SURROGATES``
    :param slope: slope of the surrogate, above 0
    :param h_max: bound of the fast weights, above 0
    :param detach_reset: whether the gradient leaves out the neuron's reset
    :param keep_fast_weights: whether fast weights survive the start of an episode
    :raises ValueError: on an unknown name or a number out of range
    """

    rule: str = "oja"
    modulation: str = "none"
    neuron: str = "lif"
    recurrent: bool = False
    threshold: float = 1.0
    surrogate: str = "fast_sigmoid"
    slope: float = 2.0
    h_max: float = 1.0
    detach_reset: bool = False
    keep_fast_weights: bool = False

    def __post_init__(self) -> None:
        check_choice("plasticity rule", self.rule, RULES)
        check_choice("modulation", self.modulation, MODULATIONS)
        check_choice("neuron", self.neuron, NEURONS)
        check_choice("surrogate", self.surrogate, SURROGATES)
        for name in ("threshold", "slope", "h_max"):
            check_number(name, getattr(self, name), above=0)


def modulator(y_trace: Tensor, p: LayerParameters) -> Tensor:
    """
    The neuromodulator of a layer, one scalar from its own activity fanned out per neuron::

        m_j = a_j tanh(sum_k u_k y_k + c) + d_j

    The simple form of Miconi et al. (2019), "Backpropamine", with a gain and an offset.

    :param y_trace: postsynaptic traces ``y``, [B, N]
    :param p: parameters with a modulator
    :return: m, [B, N]
    """
    signal = torch.tanh((y_trace * p.u).sum(-1, keepdim=True) + p.c)  # [B, 1]
    return p.a * signal + p.d


def plastic_tick(
    x: Tensor, state: LayerState, p: LayerParameters, config: LayerConfig, external: Tensor | None = None
) -> LayerState:
    """
    One tick of one layer. The order of the lines is part of the definition.

    :param x: input of the tick, [B, M_in]; spikes, or currents that stay for the whole environment step
    :param state: state before the tick
    :param p: parameters; each may also have a leading axis [B, ...], one network per row
    :param config: what kind of layer it is
    :param external: an external modulator that multiplies the layer's own, [B, N] or [B, 1]
    :return: state after the tick, its spikes among it
    """
    rule = RULES[config.rule]
    x = torch.cat((x, state.z), dim=-1) if config.recurrent else x  # [B, M]

    w = p.w if rule is None else p.w + p.alpha * state.h  # [M, N] or [B, M, N]
    # One product per row, whatever the number of rows: the result of a row then never depends on the others.
    current = torch.bmm(x.unsqueeze(1), w.expand(x.shape[0], -1, -1)).squeeze(1) + p.b  # [B, N]
    z = state.z.detach() if config.detach_reset else state.z
    v, z = NEURONS[config.neuron](
        state.v, z, current, p.beta, config.threshold, lambda u: spike(u, config.surrogate, config.slope)
    )
    if rule is None:
        return state._replace(v=v, z=z)

    x_trace = p.lam_pre * state.x_trace + (1 - p.lam_pre) * x  # [B, M]
    y_trace = p.lam_post * state.y_trace + (1 - p.lam_post) * z  # [B, N]
    m = torch.ones_like(y_trace) if config.modulation == "none" else modulator(y_trace, p)  # [B, N]
    m = m if external is None else m * external

    drive, decay = rule.local(y_trace, state.theta)  # [B, N] each
    local = x_trace.unsqueeze(-1) * drive.unsqueeze(-2) - decay.unsqueeze(-2) * state.h  # D, [B, M, N]
    gated = state.e if config.modulation == "retroactive" else local
    h = (1 - p.rho.unsqueeze(-2)) * state.h + p.eta * m.unsqueeze(-2) * gated
    # Not clamp alone: whether its gradient passes exactly at the bound, where saturated weights are, depends on torch's
    # version (2.15 stops it).
    h = torch.where(h.abs() <= config.h_max, h, h.detach().clamp(-config.h_max, config.h_max))

    e, theta = state.e, state.theta
    if config.modulation == "retroactive":
        kappa_e = p.kappa_e.unsqueeze(-2)
        e = (1 - kappa_e) * e + kappa_e * local
    if rule.sliding_threshold:
        theta = (1 - p.kappa) * theta + p.kappa * y_trace**2
    return LayerState(v, z, x_trace, y_trace, theta, h, e)


def plastic_scan_reference(
    x: Tensor,
    episode_start: Tensor,
    state: LayerState,
    p: LayerParameters,
    config: LayerConfig,
    external: Tensor | None = None,
) -> tuple[Tensor, LayerState]:
    """See :func:`sb3_plastic.snn.scan.plastic_scan`."""
    T, K = x.shape[:2]
    spikes = []
    for t in range(T):
        state = reset_layer(state, episode_start[t], config.keep_fast_weights)
        for k in range(K):
            state = plastic_tick(x[t, k], state, p, config, None if external is None else external[t])
            spikes.append(state.z)
    if not spikes:  # no step, or no tick per step: only resets have happened
        return x.new_zeros(T, K, *state.z.shape), state
    return torch.stack(spikes).unflatten(0, (T, K)), state


# ---------------------------------------------------------------------------------------------------- sizes, and checks

TENSORS = ("x", "external", *LayerState._fields, *LayerParameters._fields, "episode_start")
"""What a scan is given, in the order in which tensors are passed on."""


class Sizes(NamedTuple):
    """Of a layer and a call of it; 0 for what the layer does not have."""

    T: int
    K: int
    K_x: int  # K, or 1 for an input that stays for the whole step
    B: int
    M_in: int
    E: int  # of the external modulator: N, 1 or 0
    M: int
    N: int
    plastic: bool
    sliding: bool
    retroactive: bool
    modulated: bool

    def state(self) -> dict[str, tuple[int, ...]]:
        """Shapes of a row of the state."""
        M, N, plastic, retroactive = self.M, self.N, self.plastic, self.retroactive
        return {
            "v": (N,), "z": (N,), "x_trace": (M * plastic,), "y_trace": (N * plastic,), "theta": (N * self.sliding,),
            "h": (M * plastic, N * plastic), "e": (M * retroactive, N * retroactive),
        }  # fmt: skip

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes of a row of the parameters."""
        M, N, M_p, N_p, N_m = self.M, self.N, self.M * self.plastic, self.N * self.plastic, self.N * self.modulated
        return {
            "w": (M, N), "b": (N,), "beta": (N,), "alpha": (M_p, N_p), "eta": (M_p, N_p), "lam_pre": (M_p,),
            "lam_post": (N_p,), "rho": (N_p,), "kappa": (N * self.sliding,), "kappa_e": (N * self.retroactive,),
            "a": (N_m,), "u": (N_m,), "c": (min(1, N_m),), "d": (N_m,),
        }  # fmt: skip

    def work(self) -> int:
        """Synapses x ticks x rows."""
        return self.T * self.K * self.B * self.M * self.N


def sizes_of(
    config: LayerConfig, rule: Rule | None, K: int, shapes: Sequence[torch.Size], dtypes: Sequence[torch.dtype]
) -> tuple[Sizes, dict[str, bool]]:
    """
    The sizes of a call, after checks of shapes and types.

    :param config: what kind of layer it is
    :param rule: its rule
    :param K: ticks per step
    :param shapes: of the tensors, in the order of ``TENSORS``
    :param dtypes: likewise
    :return: the sizes; and of each parameter whether it has rows of its own
    :raises ValueError: on shapes that do not fit together
    :raises TypeError: on different types
    """
    T, K_x, B, M_in = shapes[0]
    N, E = shapes[2][-1], shapes[1][-1]
    retroactive, modulated = config.modulation == "retroactive", config.modulation != "none"
    sliding = rule is not None and rule.sliding_threshold
    kinds = (True, sliding, retroactive, modulated) if rule is not None else (False,) * 4
    sizes = Sizes(T, K, K_x, B, M_in, E, M_in + N * config.recurrent, N, *kinds)
    first = 2 + len(LayerState._fields)  # after the inputs and the state
    # A parameter that the layer does not use may be anything.
    parameters = [
        shape if 0 in expected else expected
        for shape, expected in zip(shapes[first:-1], sizes.parameters().values(), strict=True)
    ]
    state = [(B, *shape) for shape in sizes.state().values()]
    own_rows = {}
    for name, shape, single, dtype in zip(
        TENSORS, shapes, [shapes[0], (T, B, E), *state, *parameters, (T, B)], dtypes, strict=True
    ):
        with_rows = (B, *single) if name in LayerParameters._fields else single
        if shape not in (single, with_rows):
            choices = " or ".join(str(tuple(choice)) for choice in dict.fromkeys((tuple(single), with_rows)))
            raise ValueError(f"{name} has the shape {tuple(shape)}: expected {choices}.")
        needed = torch.bool if name == "episode_start" else dtypes[0]
        if dtype != needed and 0 not in single:
            raise TypeError(f"{name} is {dtype}: expected {needed}, the fused kernel takes one type for all.")
        own_rows[name] = shape == with_rows != single
    if E not in (0, 1, N):
        raise ValueError(f"external has the shape {tuple(shapes[1])}: expected {(T, B, N)} or {(T, B, 1)}.")
    return sizes, {name: own_rows[name] for name in LayerParameters._fields}
