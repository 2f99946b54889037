"""Playing trials with a network, in closed loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from sb3_plastic.studies.temporal.networks import Answerer
from sb3_plastic.tasks import Task, Trials, play


class Played(NamedTuple):
    """What a network did in a batch of trials."""

    answers: Tensor  # int64 [Q, B, G]
    logits: Tensor  # [Q, B, G, C]
    rates: Tensor  # [N] spikes (or activity) per tick of each neuron, over all trials


def play_network(
    network: Answerer,
    task: Task,
    trials: Trials,
    explore: Generator | None = None,
    guidance: float = 0.0,
    each_tick: Callable[[Any], Any] | None = None,
) -> Played:
    """
    Let a network play trials: what it answers decides what it sees next, in training as in the test.

    :param network: the network
    :param task: the task
    :param trials: a batch of its trials
    :param explore: draw answers from the softmax, with this source of randomness; without it, the best
    :param guidance: probability that the teacher gives the right answer in place of a drawn one. Without
        it learning hardly starts: a random answer says nothing without its reward, nor the reward without it
    :param each_tick: ``state -> state``, applied after every tick: to look at the state, or to change it. The network
        then runs tick by tick, with the same result and more slowly
    :return: answers, logits and rates
    """
    state = network.body.initial_state(trials.inputs.shape[1])
    activities: list[Tensor] = []
    logits: list[Tensor] = []
    done = 0

    def answer(q: int, inputs: Tensor) -> Tensor:
        nonlocal state, done
        start = task.windows[q][0]
        new = inputs[done:].clone()  # kept for the gradient
        pieces = new.split(1) if each_tick is not None else [new]
        since: list[Tensor] = []
        for piece in pieces:
            activity, state = network.body.scan(piece, state)
            state = state if each_tick is None else each_tick(state)
            since.append(activity)
        activities.append(torch.cat(since))
        logits.append(network.logits(activities[-1][start - done :].mean(0)))
        done = len(inputs)
        if explore is None:
            return logits[-1].argmax(2)
        probability = logits[-1].detach().softmax(2)
        drawn = torch.multinomial(probability.flatten(0, 1), 1, generator=explore).view(probability.shape[:2])
        return torch.where(torch.rand(drawn.shape, generator=explore) < guidance, trials.targets[q], drawn)

    answers = play(task, trials, answer)
    return Played(answers, torch.stack(logits), torch.cat(activities).mean((0, 1)))
