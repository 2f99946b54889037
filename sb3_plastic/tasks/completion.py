"""Pattern completion: patterns shown briefly, then one of them with parts hidden."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sb3_plastic.errors import check_number
from sb3_plastic.tasks.base import NOT_ASKED, Task, Trials, random_subsets


@dataclass(frozen=True)
class PatternCompletion(Task):
    """
    After Miconi et al. (2018), "Differentiable plasticity". Every trial draws ``n_patterns`` patterns of random bits
    and shows them in turn. Then one is shown with some of its bits hidden: what were they?

    Redesigned for spikes: a bit has inputs for both of its values, so that a hidden bit (neither fires) differs from a
    zero.

    :param n_patterns: patterns per trial
    :param n_bits: bits of a pattern, each of them a part of the answer
    :param n_hidden: bits that the question hides
    :param n_lines: inputs per value of a bit
    :param show: ticks that a pattern is shown
    :param gap: silent ticks after a pattern
    :param query: ticks of the question
    """

    n_patterns: int = 2
    n_bits: int = 8
    n_hidden: int = 4
    n_lines: int = 5
    show: int = 8
    gap: int = 4
    query: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("n_hidden", self.n_hidden, at_most=self.n_bits)

    @property
    def n_groups(self) -> int:
        """One part per bit."""
        return self.n_bits

    @property
    def n_inputs(self) -> int:
        """For each bit the inputs of 0, then those of 1."""
        return self.n_bits * 2 * self.n_lines

    @property
    def n_choices(self) -> int:
        """0 or 1."""
        return 2

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """One question, at the end."""
        begin = self.n_patterns * (self.show + self.gap)
        return ((begin, begin + self.query),)

    def sample(self, batch: int, generator: Generator) -> Trials:
        """See :meth:`Task.sample`."""
        patterns = torch.randint(2, (batch, self.n_patterns, self.n_bits), generator=generator)
        asked = patterns[torch.arange(batch), torch.randint(self.n_patterns, (batch,), generator=generator)]
        hidden = random_subsets(batch, self.n_bits, self.n_hidden, generator).bool()

        def lines(bits: Tensor) -> Tensor:  # [B, n_bits] -> [B, M]
            return torch.nn.functional.one_hot(bits, 2).repeat_interleave(self.n_lines, 2).flatten(1).float()

        signal = torch.zeros(self.n_ticks, batch, self.n_inputs)
        for i in range(self.n_patterns):
            begin = i * (self.show + self.gap)
            signal[begin : begin + self.show] = lines(patterns[:, i])
        visible = (~hidden).repeat_interleave(2 * self.n_lines, 1)
        signal[self.windows[0][0] :] = lines(asked) * visible
        targets = torch.where(hidden, asked, NOT_ASKED)
        return Trials(self.emit(self.rate * signal, generator), targets.unsqueeze(0))

    def decode(self, q: int, inputs: Tensor) -> Tensor:
        """Match the question's spike counts with those of each presentation, and read the best one's bits."""
        shown = inputs[: self.n_patterns * (self.show + self.gap)].unflatten(0, (self.n_patterns, -1))
        counts = shown[:, : self.show].sum(1).unflatten(2, (self.n_bits, 2, self.n_lines)).sum(4)  # [P, B, bits, 2]
        evidence = counts[..., 1] - counts[..., 0]
        begin, stop = self.windows[0]
        asked = inputs[begin:stop].sum(0).unflatten(1, (self.n_bits, 2, self.n_lines)).sum(3)
        match = (evidence.sign() * (asked[..., 1] - asked[..., 0])).sum(2)  # [P, B]
        best = evidence[match.argmax(0), torch.arange(inputs.shape[1])]
        return (best > 0).long()
