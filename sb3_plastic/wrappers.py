"""Environment wrappers, in gymnasium's form and in that of SB3's vector environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_plastic.errors import UserError, check_number


class PreviousActionReward(gym.Wrapper, RecordConstructorArgs):
    """
    Add the previous action and reward to the observation: what a network needs to know that things go wrong. Both are
    zero at the start of an episode.

    A box observation stays one, with the flattened action and the reward appended; a dict gets the keys
    ``previous_action`` and ``previous_reward``. As a wrapper, not a part of the policy, it serves ``predict`` (which is
    told no rewards), other algorithms, and RL Zoo (``env_wrapper: sb3_plastic.wrappers.PreviousActionReward``), and
    VecNormalize scales what it adds.

    :param env: environment with a box (of one axis) or dict observation, and a box, discrete, multi-discrete or
        multi-binary action; discrete actions are one-hot
    :raises UserError: on other spaces
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._no_action = np.zeros(n_action_numbers(env.action_space), np.float32)
        self.observation_space: spaces.Space = extended_space(env.observation_space, env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As in gymnasium."""
        observation, info = self.env.reset(seed=seed, options=options)
        return extended(observation, self._no_action, 0.0), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """As in gymnasium."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        flat = np.asarray(spaces.flatten(self.env.action_space, action))
        return extended(observation, flat, float(reward)), reward, terminated, truncated, info


class VecPreviousActionReward(VecEnvWrapper):
    """
    :class:`PreviousActionReward` around a whole vector environment, for those whose single environments take no
    wrappers, such as LocomotionVecEnv. In RL Zoo: ``vec_env_wrapper: sb3_plastic.wrappers.VecPreviousActionReward``,
    in a list after whatever it is to wrap.

    :param venv: vector environment with the spaces that :class:`PreviousActionReward` takes
    :raises UserError: on other spaces
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv, extended_space(venv.observation_space, venv.action_space))
        self._actions = self._no_actions = np.zeros((venv.num_envs, n_action_numbers(venv.action_space)), np.float32)

    def reset(self) -> VecEnvObs:
        """As in SB3."""
        return extended(self.venv.reset(), self._no_actions, np.zeros(self.num_envs))

    def step_async(self, actions: np.ndarray) -> None:
        """As in SB3."""
        self._actions = np.stack([np.asarray(spaces.flatten(self.action_space, action)) for action in actions])
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """As in SB3. What is added to ``terminal_observation`` is the action and reward that led to it."""
        obs, rewards, dones, told = self.venv.step_wait()
        infos = list(told)  # a tuple, where SubprocVecEnv steps
        for i in np.flatnonzero(dones):
            last = infos[i]["terminal_observation"]
            infos[i] = {**infos[i], "terminal_observation": extended(last, self._actions[i], float(rewards[i]))}
        goes_on = ~np.asarray(dones, bool)  # whole numbers, where SubprocVecEnv steps environments that return 0 and 1
        return extended(obs, self._actions * goes_on[:, None], rewards * goes_on), rewards, dones, infos


class SplitObservation(gym.ObservationWrapper, RecordConstructorArgs):
    """
    Give the last numbers of an observation a key of their own, so that actor or critic alone can see them
    (``critic_keys`` of :class:`~sb3_plastic.policies.PlasticPolicy`): the context of a perturbed robot, for instance,
    which ``observe_context`` appends. In RL Zoo::

        env_wrapper:
          - sb3_plastic.wrappers.SplitObservation: {n_last: 1}

    :param env: environment with a box observation of one axis
    :param n_last: how many numbers, from the end
    :param key: the key of those; the rest is ``sensors``
    :raises UserError: on another observation, more numbers than it has, or the key ``sensors``
    """

    def __init__(self, env: gym.Env, n_last: int, key: str = "context") -> None:
        RecordConstructorArgs.__init__(self, n_last=n_last, key=key)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise UserError(f"SplitObservation needs a box observation of one axis, got {space}.")
        check_number("n_last", n_last, at_least=1, below=space.shape[0], integer=True)
        if key == "sensors":
            raise UserError("The key 'sensors' is that of the rest: give the last numbers another.")
        self.n_first, self.key = space.shape[0] - n_last, key
        parts = self.observation(space.low), self.observation(space.high)
        self.observation_space: spaces.Space = spaces.Dict(
            {name: spaces.Box(parts[0][name], parts[1][name], dtype=space.dtype.type) for name in parts[0]}
        )

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """The observation in two parts."""
        return {"sensors": observation[: self.n_first], self.key: observation[self.n_first :]}


class MidRunChange(gym.Wrapper, RecordConstructorArgs):
    """
    Change an environment in mid-episode: an agent that was trained without it meets a body that it does not know. The
    next episode begins unchanged. ``info`` says ``steps_since_onset``, -1 before. In RL Zoo::

        env_wrapper:
          - sb3_plastic.wrappers.MidRunChange: {at: 100, wires: [[-1]]}

    :param env: environment; for ``wires`` with a bounded box of one axis as action space
    :param at: the first step that is changed, from 0 on
    :param wires: matrix from commands to motors, both in units of half the control range: applied = wires @ commanded.
        -1 on its diagonal reverses a motor, a permutation plugs them in anew
    :param attributes: of the innermost environment, by name, such as ``{"g": 15.0}`` of a pendulum
    :raises UserError: on wires that do not fit the motors, or an attribute that the environment does not have
    """

    def __init__(
        self,
        env: gym.Env,
        at: int = 0,
        wires: Sequence[Sequence[float]] | np.ndarray | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, at=at, wires=wires, attributes=attributes)
        gym.Wrapper.__init__(self, env)
        check_number("at", at, at_least=0, integer=True)
        if not isinstance(attributes, Mapping | None):
            raise UserError(f"attributes is a mapping from names to values, got {attributes!r}.")
        self.at, self.t, self.attributes = at, 0, dict(attributes or {})
        for name in self.attributes:
            if name not in vars(env.unwrapped):
                raise UserError(f"{env.unwrapped} has no attribute {name!r} that could be changed.")
        self._nominal = {name: getattr(env.unwrapped, name) for name in self.attributes}
        try:
            self.wires = None if wires is None else np.asarray(wires, np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"wires is a matrix of numbers, got {wires!r}.") from error
        if self.wires is not None:
            if not np.isfinite(self.wires).all():
                raise UserError(f"wires is a matrix of finite numbers, got {self.wires.tolist()}.")
            space, n = env.action_space, len(np.atleast_1d(self.wires))
            shapes = (*(space.shape or ()), *self.wires.shape)
            if not isinstance(space, spaces.Box) or not space.is_bounded() or shapes != (n, n, n):
                raise UserError(f"Wires of shape {self.wires.shape} do not fit the action space {space}.")
            self._middle, self._half = (space.high + space.low) / 2, (space.high - space.low) / 2

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As in gymnasium."""
        self.t = 0
        self._set(self._nominal)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """As in gymnasium."""
        since = self.t - self.at
        if since == 0:
            self._set(self.attributes)
        if since >= 0 and self.wires is not None:
            unit = np.clip((np.asarray(action) - self._middle) / self._half, -1, 1)
            action = (self.wires @ unit * self._half + self._middle).astype(self.env.action_space.dtype)
        self.t += 1
        observation, reward, terminated, truncated, info = self.env.step(action)
        changes = self.wires is not None or self.attributes
        since = max(since if changes else -1, info.get("steps_since_onset", -1))  # the robot may have changed before
        return observation, reward, terminated, truncated, {**info, "steps_since_onset": since}

    def _set(self, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            setattr(self.env.unwrapped, name, value)


def vectorised(env: gym.Env[Any, Any] | VecEnv) -> VecEnv:
    """
    An environment as a vector of one, as SB3 does.

    :param env: of either kind
    :raises UserError: if it is none, but the name of one, for instance
    """
    if not isinstance(env, VecEnv | gym.Env):
        raise UserError(f"The environment is {env!r}: make it first, as make_vec_env('Pendulum-v1', n_envs=16).")
    return env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])


def n_action_numbers(space: spaces.Space) -> int:
    """
    How many numbers a flattened action has.

    :param space: of the actions
    :raises UserError: if actions of this space cannot be flattened to so many
    """
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise UserError(f"PreviousActionReward cannot serve the action space {space}.")
    return spaces.flatdim(space)


def extended_space(space: spaces.Space, action_space: spaces.Space) -> spaces.Space:
    """
    The observation space with room for action and reward.

    :param space: of the observations
    :param action_space: of the actions
    :raises UserError: if it is no box of one axis and no dict, or a dict that has these keys already
    """
    n_actions = n_action_numbers(action_space)
    if isinstance(space, spaces.Dict):
        added = {"previous_action": n_actions, "previous_reward": 1}
        if taken := added.keys() & space.spaces.keys():
            raise UserError(f"The observation has {' and '.join(sorted(taken))} already: one wrapper is enough.")
        boxes = {name: spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in added.items()}
        return spaces.Dict({**space.spaces, **boxes})
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        dtype, free = _floating(space.dtype), np.full(n_actions + 1, np.inf)
        low, high = (np.concatenate(part).astype(dtype) for part in ((space.low, -free), (space.high, free)))
        return spaces.Box(low, high, dtype=dtype.type)
    raise UserError(f"PreviousActionReward needs a box observation of one axis, or a dict, got {space}.")


def extended(observation: Any, action: np.ndarray, reward: Any) -> Any:
    """
    The observation with action and reward added.

    :param observation: of one environment, or of B
    :param action: flattened, [n] or [B, n]
    :param reward: a number, or [B]
    """
    reward = np.asarray(reward, np.float32)[..., None]
    if isinstance(observation, dict):
        return {**observation, "previous_action": action.astype(np.float32), "previous_reward": reward}
    return np.concatenate((observation, action, reward), axis=-1).astype(_floating(observation.dtype))


def _floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of what an action and a reward are added to: whole numbers would cut them."""
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float32)
