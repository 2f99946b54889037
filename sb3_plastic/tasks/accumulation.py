"""Cue accumulation: on which side did more cues come?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sb3_plastic.errors import UserError
from sb3_plastic.tasks.base import Task, Trials

LEFT, RIGHT, RECALL, BACKGROUND = range(4)


@dataclass(frozen=True)
class CueAccumulation(Task):
    """
    After Bellec et al. (2020), "A solution to the learning dilemma for recurrent networks of spiking neurons". Four
    groups of Poisson inputs: left cues, right cues, a recall signal, and a background that always fires. An odd number
    of cues comes, each left or right at random; after a delay the recall signal asks which side came more often.

    :param cues: numbers of cues that trials have, odd
    :param n_group: inputs per group
    :param cue: ticks of a cue
    :param gap: ticks after a cue
    :param delay: ticks between the last cue and the recall
    :param query: ticks of the recall
    :param background: probability per tick that an input of the background fires
    :raises UserError: if a number of cues is even, which leaves ties
    """

    rate: float = 0.5
    cues: tuple[int, ...] = (3, 5, 7)
    n_group: int = 10
    cue: int = 5
    gap: int = 3
    delay: int = 40
    query: int = 8
    background: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cues or not all(n > 0 and n % 2 for n in self.cues):
            raise UserError(f"cues must be odd numbers, at least one, else there are ties, got {self.cues}.")

    @property
    def n_inputs(self) -> int:
        """Four groups: left, right, recall, background."""
        return 4 * self.n_group

    @property
    def n_choices(self) -> int:
        """Left or right."""
        return 2

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """One question, at the end."""
        begin = max(self.cues) * (self.cue + self.gap) + self.delay
        return ((begin, begin + self.query),)

    def sample(self, batch: int, generator: Generator) -> Trials:
        """See :meth:`Task.sample`. Trials with fewer cues begin later, so that the delay is the same."""
        slots = max(self.cues)
        n_cues = torch.tensor(self.cues)[torch.randint(len(self.cues), (batch,), generator=generator)]
        side = torch.randint(2, (slots, batch), generator=generator)
        present = torch.arange(slots).unsqueeze(1) >= slots - n_cues  # [slots, B]

        signal = torch.zeros(self.n_ticks, batch, 4, self.n_group)
        signal[:, :, BACKGROUND] = self.background
        signal[self.windows[0][0] :, :, RECALL] = self.rate
        for slot in range(slots):
            begin = slot * (self.cue + self.gap)
            for group in (LEFT, RIGHT):
                on = self.rate * (present[slot] & (side[slot] == group))
                signal[begin : begin + self.cue, :, group] = on.unsqueeze(1)
        more_right = ((2 * side - 1) * present).sum(0) > 0
        return Trials(self.emit(signal.flatten(2), generator), more_right.long().view(1, batch, 1))

    def decode(self, q: int, inputs: Tensor) -> Tensor:
        """Decide for each slot by its spikes: left, right or no cue, whichever is likeliest; then count."""
        slots = max(self.cues)
        ticks = inputs[: slots * (self.cue + self.gap)].unflatten(0, (slots, -1))[:, : self.cue]
        counts = ticks.sum(1).unflatten(2, (4, self.n_group)).sum(3)  # [slots, B, 4]
        n = self.cue * self.n_group
        silent = min(max(self.spurious, 1e-3), 1 - 1e-3)
        firing = min(1 - (1 - self.rate * (1 - self.drop)) * (1 - silent), 1 - 1e-3)
        # log-likelihood ratio of a cue on this side against none
        p, r = torch.tensor([firing, silent]).log(), torch.tensor([1 - firing, 1 - silent]).log()
        ratio = counts * (p[0] - p[1]) + (n - counts) * (r[0] - r[1])
        left, right = ratio[:, :, LEFT], ratio[:, :, RIGHT]
        votes = torch.sign(right - left) * (torch.maximum(left, right) > 0)
        return (votes.sum(0) > 0).long().unsqueeze(1)
