"""KLAdaptiveRate: a learning rate that follows how far each update moves the policy, in place of a schedule."""

from __future__ import annotations

from functools import partial

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_plastic.errors import UserError, check_number


def _constant(rate: float, progress_remaining: float) -> float:
    return rate


class KLAdaptiveRate(BaseCallback):
    """
    Divide the learning rate by ``factor`` after an update that has moved the policy by more than twice the ``target``,
    and multiply it by ``factor`` after one that has moved it by less than half. PPO's KL penalty can be adapted so
    (Schulman et al., 2017); here it is the rate. It starts at the model's own rate, whose schedule is not followed
    while this callback is there. In RL Zoo's YAML::

        callback:
          - sb3_plastic.learning_rate.KLAdaptiveRate: {target: 0.02}

    :param target: mean KL divergence of a rollout's updates in nats (``train/approx_kl``), above 0
    :param low: the least rate, above 0
    :param high: the greatest
    :param factor: by which the rate changes between two rollouts, above 1
    :raises UserError: on a value outside of the range, or at the start of a training whose algorithm measures no KL
        divergence: only PPO, MaskablePPO, RecurrentPPO and PlasticPPO do
    """

    def __init__(
        self, target: float, low: float = 1e-5, high: float = 1e-2, factor: float = 1.5, verbose: int = 0
    ) -> None:
        super().__init__(verbose)
        check_number("target", target, above=0)
        check_number("low", low, above=0)
        check_number("high", high, at_least=low)
        check_number("factor", factor, above=1)
        self.target, self.low, self.high, self.factor = target, low, high, factor

    def _on_training_start(self) -> None:
        if not isinstance(self.model, OnPolicyAlgorithm) or not hasattr(self.model, "clip_range"):
            raise UserError(
                "KLAdaptiveRate sets the rate of PPO, MaskablePPO, RecurrentPPO and PlasticPPO; "
                f"got {type(self.model).__name__}."
            )
        self._schedule = self.model.lr_schedule
        self._rate = min(max(self._schedule(1.0), self.low), self.high)

    def _on_rollout_start(self) -> None:
        self.model.lr_schedule = self._schedule  # of what is saved meanwhile
        kl = self.logger.name_to_value.get("train/approx_kl")  # of the training on the rollout before; none at first
        if kl is not None and kl > 2 * self.target:
            self._rate = max(self._rate / self.factor, self.low)
        elif kl is not None and kl < self.target / 2:
            self._rate = min(self._rate * self.factor, self.high)

    def _on_rollout_end(self) -> None:
        self.model.lr_schedule = partial(_constant, self._rate)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.model.lr_schedule = self._schedule
