"""What TensorBoard and a progress bar show of a generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import CallbackList, ProgressBarCallback

from sb3_plastic.buffers import Sequences
from sb3_plastic.monitor import layer_signals, signal_statistics
from sb3_plastic.observations import stack_obs
from sb3_plastic.policies import PlasticPolicy


def generation_statistics(total: np.ndarray, fitness: np.ndarray, scenarios: Sequence[Any] | None) -> dict[str, float]:
    """
    Best, mean, worst and spread of the fitness; best, mean and worst in each scenario.

    :param total: fitness of the individuals, [P]
    :param fitness: in each scenario, [P, S]
    :param scenarios: S scenarios, None if there are none
    :return: by the name under which they are logged
    """
    values = {"best": total.max(), "mean": total.mean(), "worst": total.min(), "std": total.std()}
    logged = {f"train/fitness_{name}": float(value) for name, value in values.items()}
    for i, scenario in enumerate(scenarios or ()):
        name = scenario.replace("/", "-") if isinstance(scenario, str) else str(i)
        column = fitness[:, i]
        for what, value in (("best", column.max()), ("mean", column.mean()), ("worst", column.min())):
            logged[f"scenario/{name}_{what}"] = float(value)
    return logged


def shown_statistics(policy: PlasticPolicy, shown: Sequence[Any]) -> dict[str, float]:
    """
    Statistics of the mean's network on observations of an individual.

    :param policy: the mean
    :param shown: T normalised observations, [1, ...] each, from the start of an episode
    :return: see :func:`sb3_plastic.monitor.signal_statistics`
    """
    starts = torch.zeros(len(shown), 1, dtype=torch.bool, device=policy.device)
    starts[0] = True
    obs, _ = policy.obs_to_tensor(stack_obs(shown, np.concatenate))
    chunk = Sequences(obs, starts, policy.initial_state(1, random=False))
    return signal_statistics(layer_signals(policy, chunk))


class ProgressBar(ProgressBarCallback):
    """SB3's, which takes a call for a step of all environments: here some idle."""

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._shown = self.num_timesteps

    def _on_step(self) -> bool:
        self.pbar.update(self.num_timesteps - self._shown)
        self._shown = self.num_timesteps
        return True


def with_own_bar(callback: Any) -> Any:
    """The same callback, or list of them, with our bar in place of SB3's. :param callback: as ``learn`` takes it"""
    if isinstance(callback, list):
        return [with_own_bar(one) for one in callback]
    if isinstance(callback, CallbackList):
        callback.callbacks = with_own_bar(callback.callbacks)
    return ProgressBar() if type(callback) is ProgressBarCallback else callback
