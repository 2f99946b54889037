"""Rollouts as chunks of fixed length, each with the network's state at its start and nowhere else."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from sb3_plastic.adaptive.agents import middle_and_half
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.rollouts import transitions_of
from sb3_plastic.errors import UserError, check_number
from sb3_plastic.observations import Obs, map_obs


class Sequences(NamedTuple):
    """What ``evaluate_actions`` takes in place of observations: C sequences of L steps from known states."""

    observations: Obs  # [L * C, ...] time first, flattened as all else in a minibatch
    episode_starts: Tensor  # bool [L, C]
    state: tuple[Tensor, ...]  # [C, ...] each
    teacher_actions: Tensor | None = None  # [L * C, A] what a teacher would do, None without
    teacher_weight: float = 0.0  # of the KL term


def pick(chunked: Tensor, index: Tensor) -> Tensor:
    """
    :param chunked: [L, n_sequences, ...]
    :param index: int64 [C]
    :return: [L * C, ...], time first
    """
    return chunked.index_select(1, index).flatten(0, 1)


def default_chunk_len(n_steps: int, batch_size: int) -> int:
    """
    The longest chunk, of at most 16 steps, that divides both the rollout and the minibatch.

    :param n_steps: of a rollout, per environment
    :param batch_size: transitions per minibatch
    :return: steps, 1 or more
    """
    return max(length for length in range(1, 16 + 1) if math.gcd(n_steps, batch_size) % length == 0)


def chosen_chunk_len(n_steps: int, batch_size: int, chunk_len: int | None) -> int:
    """
    The length of chunks.

    :param n_steps: of a rollout, per environment
    :param batch_size: transitions per minibatch
    :param chunk_len: that was asked for; None: the default, with a warning where it is short
    :raises UserError: if it does not divide the minibatch
    """
    if chunk_len is None:
        chunk_len = default_chunk_len(n_steps, batch_size)
        if chunk_len < min(8, n_steps):
            warnings.warn(
                f"With n_steps={n_steps} and batch_size={batch_size}, chunks have {chunk_len} step(s), and the "
                "gradient reaches no further back: choose sizes with a larger common divisor.",
                stacklevel=3,
            )
    if batch_size % chunk_len:
        raise UserError(
            f"batch_size ({batch_size}) must be a multiple of chunk_len ({chunk_len}): "
            "minibatches are made of whole chunks."
        )
    return int(chunk_len)  # of numpy's whole numbers torch takes none


def chosen_batch_size(batch_size: int | None, n_steps: int, n_envs: int, chunk_len: int | None) -> int:
    """
    Transitions of a minibatch: those asked for; None: of at most 512, the most that divide a rollout, or all of it.

    :param batch_size: that was asked for
    :param n_steps: of a rollout, per environment
    :param n_envs: environments
    :param chunk_len: which the minibatch is a multiple of, if it can be
    :raises UserError: if one of the first two is no whole number of at least 1
    """
    check_number("n_steps", n_steps, at_least=1, integer=True)
    if batch_size is not None:
        check_number("batch_size", batch_size, at_least=1, integer=True)
        return int(batch_size)
    rollout = n_steps * n_envs
    step = chunk_len if isinstance(chunk_len, Integral) and 0 < chunk_len <= rollout else 1
    found = max((size for size in range(step, 512 + 1, step) if rollout % size == 0), default=1)
    return found if found > 1 else rollout


class ChunkedRolloutBuffer(RolloutBuffer):
    """
    SB3's rollout buffer for policies with a state. ``get`` yields whole chunks, so that nothing is padded or masked:
    episodes may start anywhere inside a chunk, where the scan resets the state itself.

    Fast weights at every step would be gigabytes; from the state at the chunk's start the rest is computed again.

    :param buffer_size: steps per environment, a multiple of ``chunk_len``
    :param observation_space: observation space, dict spaces included
    :param action_space: action space
    :param device: PyTorch device
    :param gae_lambda: as in SB3
    :param gamma: discount factor
    :param n_envs: number of environments
    :param chunk_len: steps per chunk, L: how far back-propagation through time reaches
    """

    #: Weight of a teacher's KL term in this rollout; 0 without a teacher.
    teacher_weight: float = 0.0

    #: Set by the algorithm to compute chunk-start states again with the current parameters, before each epoch but the
    #: first: ``(observations, episode_starts, first_state) -> states``.
    refresh: Callable[[Obs, Tensor, tuple[Tensor, ...]], list[Tensor]] | None = None

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
        chunk_len: int = 16,
    ) -> None:
        if chunk_len < 1 or buffer_size % chunk_len:
            raise UserError(
                f"n_steps ({buffer_size}) must be a multiple of chunk_len ({chunk_len}): "
                f"choose a chunk length that divides {buffer_size}, or leave it out and one is chosen."
            )
        self.chunk_len = chunk_len
        super().__init__(buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs)

    def reset(self) -> None:
        """Forget the rollout. The first ``add`` allocates observations and actions: a model that acts needs none."""
        self.pos, self.full, self.generator_ready = 0, False, False
        self._n_epochs = 0
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros((self.buffer_size, self.n_envs), np.float32))  # callbacks read them at once
        self._states: list[Tensor] = []  # [n_chunks, B, ...] each

    def start_chunk(self, state: tuple[Tensor, ...]) -> None:
        """
        Keep a copy of the policy's state: before each chunk's first step.

        :param state: [B, ...] each
        """
        if not self._states:
            n_chunks = self.buffer_size // self.chunk_len
            self._states = [tensor.new_empty(n_chunks, *tensor.shape) for tensor in state]
        for stored, tensor in zip(self._states, state, strict=True):
            stored[self.pos // self.chunk_len] = tensor

    def _allocate(self, obs: Obs) -> None:
        # In a type that holds those of the space, too: a reset may give whole numbers, and SubprocVecEnv casts nothing.
        of_dict = self.observation_space.spaces if isinstance(self.observation_space, spaces.Dict) else {}
        self.observations: Any = (
            {key: self._empty_like(value, of_dict[key]) for key, value in obs.items()}
            if isinstance(obs, dict)
            else self._empty_like(obs, self.observation_space)
        )
        # In the type that SB3's losses take.
        self.actions = np.empty((self.buffer_size, self.n_envs, self.action_dim), np.float32)
        self.teacher_actions = np.empty_like(self.actions) if self.teacher_weight else None

    def _empty_like(self, value: np.ndarray, space: spaces.Space[Any]) -> np.ndarray:
        return np.empty((self.buffer_size, *value.shape), np.result_type(value.dtype, space.dtype or value.dtype))

    def add(  # type: ignore[override]
        self,
        obs: Obs,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        teacher_action: np.ndarray | None = None,
    ) -> None:
        """
        :param obs: observations [B, ...]
        :param action: actions [B, ...]
        :param reward: rewards [B]
        :param episode_start: whether an episode starts with these observations, [B]
        :param teacher_action: what a teacher would do, [B, ...]; in all steps or in none
        """
        if self.pos == 0:
            self._allocate(obs)
        if isinstance(obs, dict):
            for key, values in obs.items():
                self.observations[key][self.pos] = values
        else:
            self.observations[self.pos] = obs
        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        if self.teacher_actions is not None and teacher_action is not None:
            self.teacher_actions[self.pos] = teacher_action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = reward
        self.episode_starts[self.pos] = episode_start
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def add_evaluation(self, values: Tensor, log_probs: Tensor) -> None:
        """
        What the policy says of the last n steps that were added.

        :param values: [n * B, 1], time first
        :param log_probs: of the actions, [n * B]
        """
        steps = slice(self.pos - len(values) // self.n_envs, self.pos)
        self.values[steps] = values.cpu().numpy().reshape(-1, self.n_envs)
        self.log_probs[steps] = log_probs.cpu().numpy().reshape(-1, self.n_envs)

    def _chunked(self, array: np.ndarray) -> Tensor:
        """[n_steps, B, ...] -> [L, n_chunks * B, ...], on the device."""
        chunks = array.reshape(-1, self.chunk_len, *array.shape[1:]).swapaxes(0, 1)  # [L, n_chunks, B, ...]
        return self.to_torch(chunks.reshape(self.chunk_len, -1, *array.shape[2:]))

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """
        One epoch of minibatches.

        :param batch_size: transitions per minibatch, a multiple of the chunk length; None for all at once
        """
        assert self.full, "The rollout is not complete yet."
        if not self._n_epochs:  # anew, though a callback has looked at chunks: another may have changed rewards since
            self._prepare()
        if self._n_epochs and self.refresh is not None:
            observations = map_obs(self.to_torch, self.observations)
            starts = self.to_torch(self.episode_starts).bool()
            self._states = self.refresh(observations, starts, tuple(tensor[0] for tensor in self._states))

        self._n_epochs += 1
        n_sequences = self.n_sequences
        per_batch = n_sequences if batch_size is None else batch_size // self.chunk_len
        # SB3 seeds numpy's global generator, and draws its minibatches from it as well.
        order = torch.from_numpy(np.random.permutation(n_sequences)).to(self.device)  # noqa: NPY002
        for index in order.split(per_batch):
            yield self._samples(index)

    def _prepare(self) -> None:
        """Cut the rollout into chunks, once."""
        self._observations = map_obs(self._chunked, self.observations)
        self._episode_starts = self._chunked(self.episode_starts).bool()
        self._actions = self._chunked(self.actions)
        self._teacher_actions = None if self.teacher_actions is None else self._chunked(self.teacher_actions)
        scalars = (self.values, self.log_probs, self.advantages, self.returns)
        self._scalars = torch.stack([self._chunked(array) for array in scalars])  # [4, L, n_chunks * B]
        self.generator_ready = True

    def transitions(
        self, action_space: spaces.Space, squashed: bool = False, features: np.ndarray | None = None
    ) -> Transitions:
        """
        The rollout as transitions, for a forward model.

        :param action_space: in whose bounds actions are clipped, as the environment took them
        :param squashed: whether actions are in units of half the control range already
        :param features: that follow each observation, [T, B, F]
        """
        assert isinstance(action_space, spaces.Box)
        middle, half = (0.0, 1.0) if squashed else middle_and_half(action_space)
        seen = self.observations if features is None else np.concatenate([self.observations, features], 2)
        return transitions_of(seen, np.clip((self.actions - middle) / half, -1, 1), self.episode_starts)

    @property
    def n_sequences(self) -> int:
        """How many chunks a rollout has, over all environments."""
        return self.n_envs * self.buffer_size // self.chunk_len

    def sequences(self, index: Tensor) -> Sequences:
        """
        Chunks of a complete rollout by their number: chunk by chunk, and within each environment by environment.

        :param index: int64 [C], below ``n_sequences``
        """
        if not self.generator_ready:
            self._prepare()
        index = index.to(self.device)
        state = tuple(tensor.flatten(0, 1).index_select(0, index) for tensor in self._states)
        observations = map_obs(lambda chunked: pick(chunked, index), self._observations)
        teacher_actions = None if self._teacher_actions is None else pick(self._teacher_actions, index)
        starts = self._episode_starts.index_select(1, index)
        return Sequences(observations, starts, state, teacher_actions, self.teacher_weight)

    def _samples(self, index: Tensor) -> RolloutBufferSamples:
        scalars = self._scalars.index_select(2, index).flatten(1)
        return RolloutBufferSamples(self.sequences(index), pick(self._actions, index), *scalars)  # type: ignore[arg-type]


def checked_buffer(cls: type[Any]) -> type[ChunkedRolloutBuffer]:
    """
    A class of rollout buffers that yields chunks.

    :param cls: the class
    :raises UserError: if it is another
    """
    if not issubclass(cls, ChunkedRolloutBuffer):
        raise UserError(f"rollout_buffer_class must be a subclass of ChunkedRolloutBuffer, got {cls.__name__}.")
    return cls
