"""Train an agent with an adaptive layer between it and its robots, and let it read what the layer believes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_plastic.adaptive.agents import as_actions, box, middle_and_half
from sb3_plastic.adaptive.hypotheses import checked_names
from sb3_plastic.adaptive.policy import AdaptivePolicy
from sb3_plastic.adaptive.state import AdaptiveState
from sb3_plastic.errors import UserError

Array = NDArray[Any]


class VecAdaptiveLayer(VecEnvWrapper):
    """
    An adaptive layer in the loop of a training: it compensates what it can, as in
    :class:`~sb3_plastic.adaptive.AdaptivePolicy`, and what no compensation gives (a dead motor asks for another gait)
    the agent can learn, since it reads the estimates. The observation becomes a Dict:

    - ``sensors``: what the agent should see of the robot, [O];
    - ``estimates``: of each hypothesis that has synapses their means, then their standard deviations;
    - ``context``: whatever the environment shows beyond the sensors that the layer knows, such as the truth that
      ``observe_context`` appends. Give it to the critic alone: ``policy_kwargs=dict(critic_keys=["context"])``.

    The layer's forward model is that of the *nominal* robot and stays as it is. In RL Zoo, below ``VecNormalize``::

        vec_env_wrapper:
          - sb3_plastic.perturbations.vec_env.locomotion_vec_env
          - sb3_plastic.adaptive.training.VecAdaptiveLayer: {layer: adaptive/cheetah}

    :param venv: vector environment with a box of one axis as observation, not normalised
    :param layer: an adaptive policy, or its folder. Its agent is not used
    :param hypotheses: that run side by side; empty: nothing is estimated, and the agent's actions stay as they are
    :param lifetime: keep estimates over episodes: a damaged robot stays damaged
    :raises UserError: if the observation has fewer components than the layer knows, another robot's motors, or is
        normalised
    """

    def __init__(
        self,
        venv: VecEnv,
        layer: AdaptivePolicy | str | Path,
        hypotheses: Sequence[str] = ("motors",),
        lifetime: bool = False,
    ) -> None:
        below = unwrap_vec_normalize(venv)
        if below is not None and below.norm_obs:
            raise UserError("The layer knows observations as they are: put VecAdaptiveLayer below VecNormalize.")
        policy = layer if isinstance(layer, AdaptivePolicy) else AdaptivePolicy.load(layer)
        if policy.layer.settings.sensor_zero:
            raise UserError("This layer was trained inside a policy, on normalised observations: fit one with `adapt`.")
        self.layer, self.lifetime = policy.with_hypotheses(*checked_names(hypotheses)).layer, lifetime
        space, actions = box("observation", venv.observation_space), box("action", venv.action_space)
        self._n, n_motors = len(self.layer.mean), self.layer.model.n_motors
        if policy.features_at is not None or space.shape[0] < self._n or actions.shape != (n_motors,):
            raise UserError(
                f"The layer knows {self._n} observations and {n_motors} motors, the environment has {space.shape[0]} "
                f"and {actions.shape[0]}. It has to be the robot that the layer was fitted on, its observations as "
                "they are, and a layer that reads no spikes of its agent."
            )
        n_estimates = 2 * sum(len(h.start()) for h in self.layer.hypotheses)
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)  # Box warns of bounds that it widens
        shown: dict[str, spaces.Space[Any]] = {"sensors": spaces.Box(low[: self._n], high[: self._n], dtype=np.float64)}
        if n_estimates:
            shown["estimates"] = spaces.Box(-np.inf, np.inf, (n_estimates,), np.float64)
        if space.shape[0] > self._n:
            shown["context"] = spaces.Box(low[self._n :], high[self._n :], dtype=np.float64)
        super().__init__(venv, spaces.Dict(shown))
        self._actions, (self._middle, self._half) = actions, middle_and_half(actions)
        self.state: AdaptiveState = self.layer.initial_state(venv.num_envs)
        self.state, self._o, self._seen = self.layer.fill(self.state, self.state.observation)

    def reset(self) -> dict[str, Array]:
        """As in SB3. The layer forgets all; for ``lifetime``, where the environment was seeded: another life."""
        seeded = np.array([seed is not None for seed in self.venv.unwrapped._seeds])
        observation = np.array(self.venv.reset(), np.float64)  # a copy, which the state keeps
        self.state = self.layer.reset(self.state, ~seeded, self.lifetime)
        self.state = self.layer.reset(self.state, seeded)
        return self._perceive(observation)

    def step_async(self, actions: Array) -> None:
        """As in SB3. :param actions: what the agent means, [B, A]"""
        intended = (np.asarray(actions, np.float64) - self._middle) / self._half
        command, self.state = self.layer.command(self.state, self._o, self._seen, intended)
        changed = (self.state.acting > 0)[:, None]  # elsewhere the agent's own action, bit for bit
        self.venv.step_async(np.where(changed, as_actions(command, self._actions), actions).astype(actions.dtype))

    def step_wait(self) -> VecEnvStepReturn:
        """As in SB3. ``terminal_observation`` has what was believed when the episode ended."""
        following, rewards, dones, told = self.venv.step_wait()
        infos = list(told)  # a tuple, where SubprocVecEnv steps
        following = np.array(following, np.float64)
        ended = np.flatnonzero(dones)
        last = following.copy()
        for i in ended:
            last[i] = infos[i]["terminal_observation"]
        shown = self._perceive(last)
        if len(ended):
            for i in ended:
                infos[i] = {**infos[i], "terminal_observation": {key: value[i] for key, value in shown.items()}}
            self.state = self.layer.reset(self.state, dones, self.lifetime)
            kept, seen = self._o, self._seen  # what was missing elsewhere stays as it was filled in
            again, going = self._perceive(following, learn=False), ~np.asarray(dones, bool)[:, None]
            self._o, self._seen = np.where(going, kept, self._o), np.where(going, seen, self._seen)
            shown = {key: np.where(going, value, again[key]) for key, value in shown.items()}
        return shown, rewards, dones, infos

    def _perceive(self, observation: Array, learn: bool = True) -> dict[str, Array]:
        """What the agent sees of an observation, [B, ...] each; the layer first learns from it, or of starts alone."""
        self.state, self._o, self._seen = self.layer.fill(self.state, observation[:, : self._n])
        learned = self.layer.observe if learn else self.layer.begin
        self.state = learned(self.state, self._o, self._seen)
        shown = {"sensors": np.array(self.layer.sense(self.state, self._o))}  # the layer's own is not handed out
        believed = [h.believed(s) for h, s in zip(self.layer.hypotheses, self.state.synapses, strict=True)]
        parts = [part for mean, variance in believed if mean.shape[1] for part in (mean, np.sqrt(variance))]
        if parts:
            shown["estimates"] = np.concatenate(parts, 1)
        if observation.shape[1] > self._n:
            shown["context"] = observation[:, self._n :]
        return shown
