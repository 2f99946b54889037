"""The networks of the study: a body, which remembers, and one linear readout, the same for all."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sb3_plastic.studies.temporal.bodies import BODIES, Body
from sb3_plastic.tasks import Task


class Answerer(nn.Module):
    """
    A body and its readout: mean activity in the window of a question, linear, times 4. The readout remembers nothing,
    so that all memory is the body's.

    :param task: gives the sizes
    :param body: a name in ``BODIES``
    :param n_neurons: neurons of the body
    :param arguments: further arguments of the body
    """

    def __init__(self, task: Task, body: str, n_neurons: int, **arguments: Any) -> None:
        super().__init__()
        self.body: Body = BODIES[body](task.n_inputs, n_neurons, **arguments)
        self.head = nn.Linear(n_neurons, task.n_groups * task.n_choices)
        self.shape = (task.n_groups, task.n_choices)

    def logits(self, rate: Tensor) -> Tensor:
        """
        :param rate: mean activity in the window, [B, N]
        :return: [B, G, C]
        """
        return 4 * self.head(rate).unflatten(1, self.shape)

    def n_parameters(self) -> int:
        """Numbers that are trained."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
