"""Copies of policies."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

from torch import nn

P = TypeVar("P", bound=nn.Module)


def copied(policy: P) -> P:
    """
    A copy with parameters of its own, also just after a training. It shares the distribution of its last actions.

    :param policy: of an on-policy algorithm; of others, too, if they do not explore with gSDE
    """
    # The distribution of its last actions may carry a graph, and a graph cannot be copied.
    distribution = getattr(policy, "action_dist", None)
    return deepcopy(policy, {id(distribution): distribution})
