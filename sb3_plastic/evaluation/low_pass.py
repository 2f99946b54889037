"""A control for policies that smooth their actions by themselves: any model, behind a low-pass filter.

sb3-plastic evaluate --model m.zip --wrapper sb3_plastic.evaluation.low_pass.LowPass --label "MLP, filtered" --out out
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from sb3_plastic.errors import UserError, check_number

Array = NDArray[Any]


class LowPass(VecEnvWrapper):
    """
    What is sent is ``share`` of the new action and the rest of what was sent before, 0 at the start of an episode.

    :param venv: vector environment with box actions
    :param share: above 0, at most 1; 0.5: half of a jump is made in the first step
    :raises UserError: on another share, or other actions
    """

    def __init__(self, venv: VecEnv, share: float = 0.5) -> None:
        super().__init__(venv)
        if not isinstance(venv.action_space, spaces.Box):
            raise UserError(f"LowPass smooths actions of a Box, got {venv.action_space}.")
        check_number("share", share, above=0, at_most=1)
        self.share = share
        self._sent: Array = np.zeros(0)

    def reset(self) -> Any:
        """As in SB3."""
        assert isinstance(self.action_space, spaces.Box)
        self._sent = np.zeros((self.num_envs, *self.action_space.shape), self.action_space.dtype)
        return self.venv.reset()

    def step_async(self, actions: Array) -> None:
        """As in SB3."""
        self._sent = (self.share * actions + (1 - self.share) * self._sent).astype(self._sent.dtype)
        self.venv.step_async(self._sent)

    def step_wait(self) -> Any:
        """As in SB3."""
        obs, rewards, dones, infos = self.venv.step_wait()
        self._sent[np.asarray(dones, bool)] = 0
        return obs, rewards, dones, infos
