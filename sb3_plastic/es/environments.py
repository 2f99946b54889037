"""What an evaluator needs of vector environments: idle ones that cost nothing, and copies for workers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import cloudpickle
import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from sb3_plastic.errors import UserError
from sb3_plastic.observations import map_obs

OWN = ("venv", "class_attributes")
"""Attributes of a wrapper of vector environments that are made anew in a copy."""


@runtime_checkable
class CanIdle(Protocol):
    """A vector environment that can leave some of its environments as they are."""

    def set_idle(self, rows: np.ndarray) -> None:
        """:param rows: environments that the next steps leave as they are, bool [n_envs]"""


class Idle(gym.Wrapper[Any, Any, Any, Any]):
    """
    An environment whose steps do nothing.

    :param env: environment
    :param observation: what a step returns
    """

    _observation: Any

    def __init__(self, env: gym.Env[Any, Any], observation: Any) -> None:
        super().__init__(env)
        self._observation = observation

    def __setattr__(self, name: str, value: Any) -> None:
        # What is set from outside is meant for the environment, which outlives this.
        own = name == "env" or name.startswith("_")
        super().__setattr__(name, value) if own else setattr(self.env, name, value)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """:param action: not used  :return: the same observation, no reward, not done"""
        return self._observation, 0.0, False, False, {}


class IdlePipe:
    """
    Of a SubprocVecEnv, the pipe to an environment whose steps do nothing; all else that it is told reaches it.

    :param pipe: to the environment
    :param observation: what a step returns
    """

    def __init__(self, pipe: Any, observation: Any) -> None:
        self.pipe, self.observation = pipe, observation
        self.stepped = False

    def send(self, message: tuple[str, Any]) -> None:
        """:param message: command and data"""
        self.stepped = message[0] == "step"
        if not self.stepped:
            self.pipe.send(message)

    def recv(self) -> Any:
        """:return: the answer to the last message; to a step that of :class:`Idle`, and the infos of no reset"""
        return (self.observation, 0.0, False, {}, {}) if self.stepped else self.pipe.recv()

    def close(self) -> None:
        """As of the pipe."""
        self.pipe.close()


class Idling:
    """
    Lets environments idle whose individual has finished: for DummyVecEnv and SubprocVecEnv, and those that can do so
    themselves. Others go on stepping all; the result is the same.

    :param env: vector environment
    """

    def __init__(self, env: VecEnv) -> None:
        self._base: Any = env.unwrapped
        self._restore: dict[int, Any] = {}

    def idle(self, rows: np.ndarray) -> None:
        """
        :param rows: environments to be left as they are from now on, bool [n_envs]
        """
        base = self._base
        new = set(np.flatnonzero(rows).tolist()) - self._restore.keys()
        if isinstance(base, CanIdle):
            base.set_idle(rows)
        elif type(base) is DummyVecEnv:
            for i in new:
                self._restore[i] = base.envs[i]
                obs: dict[Any, Any] = {key: buffer[i].copy() for key, buffer in base.buf_obs.items()}
                base.envs[i] = Idle(base.envs[i], obs.get(None, obs))  # of a single space, the key is None
        elif type(base) is SubprocVecEnv:
            base.remotes = list(base.remotes)
            for i in new:
                self._restore[i] = base.remotes[i]
                obs = map_obs(np.zeros_like, base.observation_space.sample())  # nobody looks at it
                base.remotes[i] = IdlePipe(base.remotes[i], obs)

    def wake(self) -> None:
        """Step all environments again."""
        base = self._base
        if isinstance(base, CanIdle):
            base.set_idle(np.zeros(self._base.num_envs, bool))
        slots = base.envs if isinstance(base, DummyVecEnv) else getattr(base, "remotes", [])
        for i, one in self._restore.items():
            slots[i] = one
        self._restore = {}


def pack(env: VecEnv) -> bytes:
    """
    A vector environment as bytes, for a worker.

    :param env: a ``DummyVecEnv`` or a class that is made like it, in wrappers
    :return: for :func:`unpack`
    :raises UserError: if it cannot be copied, saying why
    """
    wrappers = []
    while isinstance(env, VecEnvWrapper):
        state = {name: value for name, value in vars(env).items() if name not in OWN}
        if isinstance(env, VecMonitor):
            state["results_writer"] = None  # workers must not write to its file
        wrappers.append((type(env), state))
        env = env.venv
    if not isinstance(env, DummyVecEnv):
        raise UserError(
            f"Workers cannot copy a {type(env).__name__}: make the environment with DummyVecEnv or LocomotionVecEnv. "
            "Each worker has its own copy, so the workers take the place of SubprocVecEnv."
        )
    with _without_files(env.envs):
        try:
            return cloudpickle.dumps((type(env), env.envs, wrappers[::-1]))
        except Exception as error:
            raise UserError(
                f"Workers need a copy of the environment, and it cannot be pickled: {error!r}. Environments that hold "
                "open files, windows or locks can inherit gymnasium.utils.EzPickle, which copies their arguments."
            ) from error


def unpack(data: bytes) -> VecEnv:
    """
    :param data: from :func:`pack`
    :return: a vector environment like the packed one, on one thread if it can have several
    """
    make, envs, wrappers = cloudpickle.loads(data)
    threads = {"n_threads": 1} if "n_threads" in inspect.signature(make).parameters else {}
    env: VecEnv = make([lambda env=env: env for env in envs], **threads)
    for cls, state in wrappers:
        wrapper = cls.__new__(cls)
        vars(wrapper).update(state, venv=env, class_attributes=dict(inspect.getmembers(cls)))
        env = wrapper
    return env


@contextmanager
def _without_files(envs: Sequence[gym.Env[Any, Any]]) -> Iterator[None]:
    """Inside this context no Monitor has its file: workers must not write to it."""
    monitors = []
    for env in envs:
        while isinstance(env, gym.Wrapper):
            if isinstance(env, Monitor):
                monitors.append((env, env.results_writer))
            env = env.env
    try:
        for monitor, _ in monitors:
            monitor.results_writer = None
        yield
    finally:
        for monitor, writer in monitors:
            monitor.results_writer = writer
