"""Copies of policies."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

from torch import nn

P = TypeVar("P", bound=nn.Module)


def copied(policy: P) -> P:
    """
    A copy with parameters of its own, also just after a training. It shares the distribution of its last actions.

    :param policy: of any algorithm
    """
    # The distribution of its last actions, of off-policy algorithms in the actor, may carry a graph, which cannot be
    # copied.
    distributions = [getattr(module, "action_dist", None) for module in policy.modules()]
    return deepcopy(policy, {id(distribution): distribution for distribution in distributions})
