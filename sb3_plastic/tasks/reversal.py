"""Reward-gated reversal: reward alone tells which action a stimulus asks for, and that changes in mid-episode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sb3_plastic.errors import UserError, check_number
from sb3_plastic.tasks.base import Task, Trials, random_subsets


@dataclass(frozen=True)
class RewardReversal(Task):
    """
    An episode draws two stimuli, and which of two actions is right for which. In each of its rounds a stimulus is shown
    and the agent acts. Some silent ticks later inputs tell it which action it took and whether that was right: they are
    the only teacher. In mid-episode the two stimuli swap their actions, unannounced.

    The stimulus is over when the reward comes: a synapse must keep what it was active for, and reward must decide
    whether that is learned or unlearned. This is what neuromodulation with an eligibility trace is for.

    :param n_rounds: rounds of an episode, each a question
    :param reversals: the swap comes before one of these rounds, drawn at random: first, and last + 1
    :param n_stimulus: inputs that stimuli are drawn from
    :param n_active: inputs of one stimulus
    :param n_feedback: inputs per action, for reward and for its absence
    :param show: ticks that a stimulus is shown; the answer is due at their end
    :param answer: ticks at their end over which the answer may be read
    :param delay: silent ticks before the feedback
    :param feedback: ticks of the feedback
    :param gap: silent ticks after it
    """

    n_rounds: int = 10
    reversals: tuple[int, int] = (4, 8)
    n_stimulus: int = 30
    n_active: int = 10
    n_feedback: int = 10
    show: int = 6
    answer: int = 4
    delay: int = 1
    feedback: int = 5
    gap: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("n_active", self.n_active, at_most=self.n_stimulus)
        check_number("answer", self.answer, at_most=self.show)
        if len(self.reversals) != 2 or not self.reversals[0] < self.reversals[1] <= self.n_rounds:
            raise UserError(
                f"reversals are two rounds in 1 ... n_rounds, the first before the second, got {self.reversals} of "
                f"{self.n_rounds} rounds."
            )

    @property
    def n_inputs(self) -> int:
        """The stimulus inputs; those of action 0 and of action 1; of no reward and of reward."""
        return self.n_stimulus + 4 * self.n_feedback

    @property
    def n_choices(self) -> int:
        """Two actions."""
        return 2

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """The end of each stimulus."""
        length = self.show + self.delay + self.feedback + self.gap
        return tuple((q * length + self.show - self.answer, q * length + self.show) for q in range(self.n_rounds))

    def sample(self, batch: int, generator: Generator) -> Trials:
        """See :meth:`Task.sample`."""
        Q, B = self.n_rounds, batch
        subsets = random_subsets(2 * B, self.n_stimulus, self.n_active, generator).unflatten(0, (2, B))
        which = torch.randint(2, (Q, B), generator=generator)
        rule = torch.randint(2, (B,), generator=generator)
        reversal = torch.randint(*self.reversals, (B,), generator=generator)
        right = (which + rule + (torch.arange(Q).unsqueeze(1) >= reversal)) % 2  # [Q, B]

        signal = torch.zeros(self.n_ticks, B, self.n_inputs)
        for q, (_, stop) in enumerate(self.windows):
            signal[stop - self.show : stop, :, : self.n_stimulus] = subsets[which[q], torch.arange(B)]
        D = self.delay + self.feedback + self.gap
        told = torch.zeros(Q, 2, D, B, 4, self.n_feedback)
        for action in (0, 1):
            told[:, action, self.delay : self.delay + self.feedback, :, action] = 1
            for reward in (0, 1):
                rewarded = ((right == action) == bool(reward)).float()[:, None, :, None]  # [Q, 1, B, 1]
                told[:, action, self.delay : self.delay + self.feedback, :, 2 + reward] = rewarded
        silent = torch.zeros(Q, 2, D, B, self.n_stimulus)
        outcomes = torch.cat((silent, told.flatten(4)), 4)
        return Trials(
            self.emit(self.rate * signal, generator),
            right.unsqueeze(2),
            self.emit(self.rate * outcomes, generator),
        )

    def decode(self, q: int, inputs: Tensor) -> Tensor:
        """
        Win stay, lose shift, on spike counts: the current stimulus is matched with all earlier ones, and the rule is
        the one that the last feedback implies. The first answer is a guess.
        """
        shown = [inputs[stop - self.show : stop, :, : self.n_stimulus].sum(0) for _, stop in self.windows[: q + 1]]
        if q == 0:
            return torch.zeros(inputs.shape[1], 1, dtype=torch.int64)
        begin = self.windows[q - 1][1] + self.delay
        told = inputs[begin : begin + self.feedback, :, self.n_stimulus :].sum(0).unflatten(1, (4, -1)).sum(2)
        action, reward = told[:, 1] > told[:, 0], told[:, 3] > told[:, 2]
        right = action == reward  # the right action of the last round was 1
        same = self.same_as_last(torch.stack(shown))
        return (right == same).long().unsqueeze(1)

    def same_as_last(self, stimuli: Tensor) -> Tensor:
        """
        Whether the current stimulus is that of the round before.

        :param stimuli: spike counts of all rounds so far, [q + 1, B, n_stimulus]
        :return: bool [B]
        """
        # Counts of one stimulus correlate, those of two do so only by the inputs that they share.
        centred = stimuli - stimuli.mean(2, keepdim=True)
        unit = centred / centred.norm(dim=2, keepdim=True).clamp_min(1e-6)
        similar = (unit[-1] * unit[:-1]).sum(2)  # to the current one, [q, B]
        to_last = (unit[-2] * unit).sum(2)[:-1]  # to the last one, itself included
        own = torch.where(to_last > 0.5, similar, 0.0).sum(0) / (to_last > 0.5).sum(0)
        other_count = (to_last <= 0.5).sum(0)
        other = torch.where(to_last <= 0.5, similar, 0.0).sum(0) / other_count.clamp_min(1)
        return torch.where(other_count > 0, own > other, own > 0.5)
