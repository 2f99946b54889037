"""Copies of policies."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

from torch import nn

P = TypeVar("P", bound=nn.Module)


def copied(policy: P) -> P:
    """
    A copy with parameters of its own, also just after a training. It shares the distribution of its last actions.

    :param policy: of any algorithm
    """
    return deepcopy(policy, sharing(policy))


def sharing(policy: nn.Module) -> dict[int, Any]:
    """
    What a copy of a policy shares with it, for ``deepcopy``'s memo: the distribution of its last actions, of off-policy
    algorithms in the actor, may carry a graph, which cannot be copied.

    :param policy: of any algorithm
    """
    distributions = [getattr(module, "action_dist", None) for module in policy.modules()]
    return {id(distribution): distribution for distribution in distributions}
