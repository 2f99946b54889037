"""Analysis of a trained network: lesions, and what its synapses do in a trial."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Generator, Tensor

from sb3_plastic.snn.scan.reference import modulator
from sb3_plastic.snn.state import SNNState
from sb3_plastic.studies.temporal.bodies import SpikingBody
from sb3_plastic.studies.temporal.networks import Answerer
from sb3_plastic.studies.temporal.playing import play_network
from sb3_plastic.tasks import RewardReversal, Task

LESIONS = {"plasticity": "alpha 0", "eta": "eta the mean of its layer", "modulator": "modulator 1"}
"""What can be cut out of a trained network, and what is there instead."""


@torch.no_grad()
def cut(network: Answerer, lesion: str) -> Answerer | None:
    """
    A copy of a network without something that it learned.

    :param network: trained; it stays as it is
    :param lesion: a name in ``LESIONS``
    :return: the copy, or None if the network does not have what is to be cut
    """
    network = deepcopy(network)
    if not isinstance(network.body, SpikingBody):
        return None
    layer = network.body.snn.layers[0]
    if layer.config.rule == "none" or (lesion == "modulator" and layer.config.modulation == "none"):
        return None
    if lesion == "plasticity":
        layer.alpha.zero_()
    elif lesion == "eta":
        rates = torch.nn.functional.softplus(layer.raw_eta)
        layer.raw_eta.fill_(torch.log(torch.expm1(rates.mean())))
    else:
        layer.a.zero_()
        layer.d.fill_(1.0)
    return network


@torch.no_grad()
def trace(network: Answerer, task: Task, n_trials: int, seed: int) -> dict[str, Any]:
    """
    What the synapses of a plastic, modulated network do.

    :param network: trained
    :param task: the task, its noise included
    :param n_trials: trials to average over
    :param seed: of the trials
    :return: ``fast``, root mean square of ``alpha h`` per tick, and ``fixed``, that of ``w``; ``modulator``, its mean
        over neurons per tick. For the reversal also, per tick of a round from the stimulus on, ``rewarded`` and
        ``unrewarded``: the mean modulator of rounds with and without reward
    """
    assert isinstance(network.body, SpikingBody)
    layer = network.body.snn.layers[0]
    p = layer.effective_parameters()
    fast: list[Tensor] = []
    gates: list[Tensor] = []  # [B] each

    def look(state: SNNState) -> SNNState:
        (s,) = state.layers
        fast.append((p.alpha * s.h).square().mean().sqrt())
        gates.append(modulator(s.y_trace, p).mean(1))
        return state

    trials = task.sample(n_trials, Generator().manual_seed(seed))
    answers = play_network(network, task, trials, each_tick=look).answers
    gate = torch.stack(gates)  # [T, B]
    result: dict[str, Any] = dict(
        fast=torch.stack(fast).tolist(), fixed=float(p.w.square().mean().sqrt()), modulator=gate.mean(1).tolist()
    )
    if isinstance(task, RewardReversal):
        first = task.windows[0][1] - task.show
        length = task.windows[1][1] - task.windows[0][1]
        rounds = gate[first : first + (task.n_rounds - 1) * length].unflatten(0, (-1, length))  # [rounds, ticks, B]
        right = (answers == trials.targets)[:-1, :, 0].unsqueeze(1).expand_as(rounds)
        for name, chosen in (("rewarded", right), ("unrewarded", ~right)):
            result[name] = ((rounds * chosen).sum((0, 2)) / chosen.sum((0, 2)).clamp_min(1)).tolist()
    return result
