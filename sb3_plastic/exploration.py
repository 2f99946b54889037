"""LogStdSchedule: exploration noise that follows a schedule, in place of a parameter that is learned."""

from __future__ import annotations

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_plastic.errors import UserError, check_number


class LogStdSchedule(BaseCallback):
    """
    Move the logarithm of the standard deviation of the exploration noise linearly from one value to another. It is not
    learned while this callback is there. Left to PPO, an MLP on HalfCheetah ends with a third of a spiking actor's
    noise, and is slower and less sturdy for it: compare agents with the same noise. In RL Zoo's YAML::

        callback:
          - sb3_plastic.exploration.LogStdSchedule: {start: -1.0, end: -2.3}

    :param start: of all actions (with gSDE, of all its weights) at the start of the training, -20 to 2
    :param end: at its end; None: the same, the noise is constant
    :raises UserError: on a value outside of the range, or at the start of a training whose policy has no noise of this
        kind: actions that are not Box, an algorithm that is not on-policy, or TRPO, which needs all its parameters
    """

    def __init__(self, start: float, end: float | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.start, self.end = start, start if end is None else end
        for name in ("start", "end"):
            check_number(name, getattr(self, name), at_least=-20, at_most=2)

    def _on_training_start(self) -> None:
        log_std = getattr(self.model.policy, "log_std", None)
        of_gradient = isinstance(self.model, OnPolicyAlgorithm) and not hasattr(self.model, "cg_max_steps")
        if not of_gradient or not isinstance(log_std, torch.nn.Parameter):
            raise UserError(
                "LogStdSchedule sets `log_std` of PPO, A2C, RecurrentPPO and PlasticPPO with Box actions; "
                f"got {type(self.model).__name__} with actions of {self.model.action_space}."
            )
        self._log_std, self._training = log_std, self.model.start_time
        self._hook = log_std.register_post_accumulate_grad_hook(self._leave)

    def _leave(self, log_std: torch.Tensor) -> None:
        """Take its gradient away, in this training: if an error ends it, the hook stays, and a later one learns."""
        if self.model.start_time == self._training:
            log_std.grad = None

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        done = self.model.num_timesteps / self.model._total_timesteps  # the model's own progress lags on a resumed run
        self._log_std.data.fill_(self.start + (self.end - self.start) * min(done, 1.0))
        if self.model.use_sde:  # whose noise was drawn just before, by what `log_std` was then
            self.model.policy.reset_noise(self.model.n_envs)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._hook.remove()
