"""Gradient clipping by parameter group, as a hook of the optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sb3_plastic.errors import NotFiniteError


class GroupClipping:
    """
    Before each step of an optimizer, scale down each parameter group's gradient whose norm is above a bound. A gradient
    that is not finite has no direction to follow: then the step is dropped.

    :param bound: of the norm of each group's gradient
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.norms: dict[str, list[float]] = {}
        """Norms before clipping, by the group's name, of all steps that were taken."""
        self.dropped = 0
        """Steps that were dropped."""

    def check(self) -> None:
        """
        Refuse a rollout all of whose updates were dropped.

        :raises NotFiniteError: if all were dropped
        """
        if self.dropped and not self.norms:
            raise NotFiniteError(
                f"All {self.dropped} updates of this rollout were dropped, since their gradients were not finite: "
                "nothing is learned any more. Where rewards are huge, scale them (VecNormalize); else try shorter "
                "chunks (chunk_len), a smaller slope of the surrogate, or a lower learning rate."
            )

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """
        The hook, for ``register_step_pre_hook``.

        :param optimizer: whose groups have a ``name``
        :param args: of the step
        :param kwargs: of the step
        """
        # As torch's clip_grad_norm_ of each group, in a third of its operations.
        groups = optimizer.param_groups
        gradients = [[p.grad for p in group["params"] if p.grad is not None] for group in groups]
        lengths = torch.stack(torch._foreach_norm([grad for grads in gradients for grad in grads]))
        norms = torch.stack([part.norm() for part in lengths.split([len(grads) for grads in gradients])]).tolist()
        if not np.isfinite(norms).all():
            # Through many ticks of surrogate derivatives a gradient can overflow. An optimizer passes over parameters
            # without one.
            self.dropped += 1
            optimizer.zero_grad(set_to_none=True)
            return
        for group, grads, norm in zip(groups, gradients, norms, strict=True):
            self.norms.setdefault(group["name"], []).append(norm)
            if norm > self.bound:
                torch._foreach_mul_(grads, self.bound / norm)
