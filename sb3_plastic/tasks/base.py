"""What all temporal tasks share: noisy spikes, trials as a value, and how a trial is played.

Letters: ``T`` ticks, ``B`` trials of a batch, ``M`` inputs, ``Q`` questions per trial, ``G`` parts of an answer (bits
to complete; 1 elsewhere), ``C`` choices per part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from sb3_plastic.errors import UserError, check_number

NOT_ASKED = -1
"""A target where there is no question. Losses leave it out: ``torch.nn.functional.cross_entropy(ignore_index=-1)``."""


class Trials(NamedTuple):
    """
    A batch of trials. All that can happen is drawn beforehand, so that a trial played tick by tick in an environment
    and one in a batch are the same.
    """

    inputs: Tensor  # [T, B, M] spikes, 0 or 1
    targets: Tensor  # int64 [Q, B, G] right answers, NOT_ASKED where there is none
    outcomes: Tensor | None = None  # [Q, C, D, B, M] input of the D ticks after question q, had the answer been c

    def consequence(self, q: int, answers: Tensor) -> Tensor | None:
        """
        What follows an answer.

        :param q: which question
        :param answers: int64 [B, 1]
        :return: inputs of the ticks after it, [D, B, M], in place of those in ``inputs``; None if nothing follows
        :raises UserError: on an answer that is no choice
        """
        if self.outcomes is None:
            return None
        n_choices = self.outcomes.shape[1]
        if not ((answers >= 0) & (answers < n_choices)).all():
            raise UserError(f"Answers are whole numbers from 0 to {n_choices - 1}, got {answers.unique().tolist()}.")
        rows = torch.arange(answers.shape[0])
        return self.outcomes[q].permute(2, 0, 1, 3)[rows, answers[:, 0]].transpose(0, 1)


@dataclass(frozen=True)
class Task(ABC):
    """
    A temporal task: its sizes and its noise, all counted in ticks, inputs and probabilities per tick.

    :param rate: probability per tick that an input of what is shown fires
    :param drop: probability that such a spike is lost
    :param spurious: probability per tick that an input fires without a signal
    :raises UserError: on a probability that is not in [0, 1], or a size, alone or in a list, that is not whole or too
        small
    """

    rate: float = 1.0
    drop: float = 0.0
    spurious: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("rate", "drop", "spurious", "background"):
                check_number(f"{name}, a probability,", value, at_least=0, at_most=1)
            elif isinstance(field.default, tuple):
                object.__setattr__(self, name, _numbers(name, value))
            else:  # Ticks between what is shown may be none; of all else there is one.
                check_number(name, value, at_least=0 if name in ("gap", "delay") else 1, integer=True)

    @property
    def n_groups(self) -> int:
        """Parts of an answer, G."""
        return 1

    @property
    @abstractmethod
    def n_inputs(self) -> int:
        """Inputs, M."""

    @property
    @abstractmethod
    def n_choices(self) -> int:
        """Choices per part of an answer, C."""

    @property
    @abstractmethod
    def windows(self) -> tuple[tuple[int, int], ...]:
        """First tick of each question and the tick after its last, in the order of time. At the last it is answered."""

    @abstractmethod
    def sample(self, batch: int, generator: Generator) -> Trials:
        """
        Draw a batch of trials.

        :param batch: number of trials, B
        :param generator: source of all randomness
        :return: trials
        """

    @abstractmethod
    def decode(self, q: int, inputs: Tensor) -> Tensor:
        """
        The reference decoder: answers a question from the same noisy spikes that a network sees, with statistics.

        :param q: which question
        :param inputs: [T, B, M]; it reads nothing after the question
        :return: answers, int64 [B, G]
        """

    @property
    def n_ticks(self) -> int:
        """Ticks per trial, T. A trial ends with its last question."""
        return self.windows[-1][1]

    @property
    def chance(self) -> float:
        """Accuracy of a guess."""
        return 1 / self.n_choices

    @property
    def memory_free_ceiling(self) -> float:
        """Accuracy of the best answer that uses nothing but the question itself. Here never better than a guess."""
        return self.chance

    def reference_accuracy(self, batch: int, generator: Generator) -> float:
        """
        Accuracy of the reference decoder, what is attainable on these spikes.

        :param batch: number of trials
        :param generator: source of all randomness
        """
        trials = self.sample(batch, generator)
        return float(accuracy(play(self, trials, self.decode), trials.targets))

    def emit(self, probability: Tensor, generator: Generator) -> Tensor:
        """
        Spikes of a signal, with the noise.

        :param probability: of a spike of the noise-free signal, any shape
        :param generator: source of all randomness
        :return: 0 or 1, float32, the same shape
        """
        # No spike in a tick: the signal has none or it is lost, and there is no spurious one.
        spikes = 1 - (1 - probability * (1 - self.drop)) * (1 - self.spurious)
        return (torch.rand(spikes.shape, generator=generator) < spikes).float()


def play(task: Task, trials: Trials, answer: Callable[[int, Tensor], Tensor]) -> Tensor:
    """
    Ask the questions one after the other, and let each answer have its consequence.

    :param task: the task
    :param trials: a batch of its trials
    :param answer: ``(q, inputs so far [stop, B, M]) -> answers [B, G]``. What it gets is a view of a tensor whose later
        ticks are still written; copy it to keep it for a gradient
    :return: all answers, int64 [Q, B, G]
    """
    inputs, answers = trials.inputs.clone(), []
    for q, (_, stop) in enumerate(task.windows):
        answers.append(answer(q, inputs[:stop]))
        consequence = trials.consequence(q, answers[-1])
        if consequence is not None:
            follows = inputs[stop : stop + len(consequence)]
            follows.copy_(consequence[: len(follows)])
    return torch.stack(answers)


def accuracy(answers: Tensor, targets: Tensor) -> Tensor:
    """
    Fraction of right answers among those that were asked for.

    :param answers: int64 [Q, B, G]
    :param targets: int64 [Q, B, G]
    :return: a scalar
    """
    asked = targets != NOT_ASKED
    return ((answers == targets) & asked).sum() / asked.sum()


def random_subsets(batch: int, n: int, size: int, generator: Generator) -> Tensor:
    """``batch`` random subsets of ``size`` out of ``n``, as masks: float [batch, n]."""
    chosen = torch.rand(batch, n, generator=generator).argsort(1)[:, :size]
    return torch.zeros(batch, n).scatter_(1, chosen, 1.0)


def random_permutations(batch: int, n: int, generator: Generator) -> Tensor:
    """``batch`` random orders of ``n``: int64 [batch, n]."""
    return torch.rand(batch, n, generator=generator).argsort(1)


def _numbers(name: str, value: Any) -> tuple[int, ...]:
    """As a tuple, which YAML has not."""
    if not isinstance(value, list | tuple):
        raise UserError(f"{name} is a list of whole numbers, got {value!r}: write [{value}].")
    for number in value:
        check_number(f"each of {name}", number, at_least=1, integer=True)
    return tuple(value)
