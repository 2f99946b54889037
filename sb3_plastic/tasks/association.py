"""One-shot association: new stimuli with new labels, each pair shown once, one of them asked for later."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sb3_plastic.errors import check_number
from sb3_plastic.tasks.base import Task, Trials, random_permutations, random_subsets


@dataclass(frozen=True)
class OneShotAssociation(Task):
    """
    Every trial draws ``n_pairs`` stimuli, random subsets of the stimulus inputs, and gives each a label of its own.
    Each pair is shown once, stimulus and label together, with gaps between. After a delay one stimulus is shown alone:
    which label was its? Since stimuli and labels are new in every trial, no fixed map from stimulus to label helps.

    :param n_pairs: pairs, and labels
    :param n_stimulus: inputs that stimuli are drawn from
    :param n_active: inputs of one stimulus
    :param n_label: inputs of one label
    :param show: ticks that a pair is shown
    :param gap: silent ticks after a pair
    :param delay: further silent ticks before the question
    :param query: ticks of the question
    """

    n_pairs: int = 3
    n_stimulus: int = 60
    n_active: int = 20
    n_label: int = 10
    show: int = 8
    gap: int = 4
    delay: int = 4
    query: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("n_active", self.n_active, at_most=self.n_stimulus)

    @property
    def n_inputs(self) -> int:
        """The stimulus inputs, then those of each label in turn."""
        return self.n_stimulus + self.n_pairs * self.n_label

    @property
    def n_choices(self) -> int:
        """One per label."""
        return self.n_pairs

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """One question, at the end."""
        begin = self.n_pairs * (self.show + self.gap) + self.delay
        return ((begin, begin + self.query),)

    def sample(self, batch: int, generator: Generator) -> Trials:
        """See :meth:`Task.sample`."""
        subsets = random_subsets(batch * self.n_pairs, self.n_stimulus, self.n_active, generator)
        stimuli = subsets.unflatten(0, (batch, self.n_pairs))
        labels = random_permutations(batch, self.n_pairs, generator)  # of each pair
        asked = torch.randint(self.n_pairs, (batch,), generator=generator)
        rows = torch.arange(batch)

        signal = torch.zeros(self.n_ticks, batch, self.n_inputs)
        for pair in range(self.n_pairs):
            begin = pair * (self.show + self.gap)
            signal[begin : begin + self.show, :, : self.n_stimulus] = stimuli[:, pair]
            lines = torch.nn.functional.one_hot(labels[:, pair], self.n_pairs).repeat_interleave(self.n_label, 1)
            signal[begin : begin + self.show, :, self.n_stimulus :] = lines
        signal[self.windows[0][0] :, :, : self.n_stimulus] = stimuli[rows, asked]
        return Trials(self.emit(self.rate * signal, generator), labels[rows, asked].view(1, batch, 1))

    def decode(self, q: int, inputs: Tensor) -> Tensor:
        """
        Match the question's spike counts with those of each presentation; the label is the one whose inputs fired most
        in the presentation that matches best.
        """
        shown = inputs[: self.n_pairs * (self.show + self.gap)].unflatten(0, (self.n_pairs, -1))[:, : self.show].sum(1)
        stimuli, labels = shown.split((self.n_stimulus, self.n_inputs - self.n_stimulus), 2)  # [pairs, B, ...]
        begin, stop = self.windows[0]
        asked = inputs[begin:stop, :, : self.n_stimulus].sum(0)
        centred = stimuli - stimuli.mean(2, keepdim=True)
        best = (centred * asked).sum(2).argmax(0)  # [B]
        counts = labels[best, torch.arange(len(best))].unflatten(1, (self.n_pairs, self.n_label)).sum(2)
        return counts.argmax(1, keepdim=True)
