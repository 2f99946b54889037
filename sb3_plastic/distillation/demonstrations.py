"""What a teacher would have done where its student went, as sequences to learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sb3_plastic.observations import Obs, map_obs, stack_obs
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.stepper import PolicyStepper, State, evaluating
from sb3_plastic.teacher import Lessons

CHUNK = 16  # steps of a sequence


class Demonstrations(NamedTuple):
    """
    What the teacher would have done: n sequences of L steps, time first.

    :param obs: [L, n, ...] each
    :param starts: where an episode starts, bool [L, n]
    :param actions: the teacher's, [L, n, A]
    :param state: the student's before each sequence, [n, ...] each
    """

    obs: Obs
    starts: Tensor
    actions: Tensor
    state: State

    def picked(self, index: Tensor) -> Demonstrations:
        """Some of the sequences. :param index: int64 [C]"""
        obs = map_obs(lambda value: value[:, index], self.obs)
        return Demonstrations(obs, self.starts[:, index], self.actions[:, index], tuple(x[index] for x in self.state))

    @staticmethod
    def joined(parts: Sequence[Demonstrations]) -> Demonstrations:
        """The sequences of several as one."""
        beside = partial(torch.cat, dim=1)
        obs, starts, actions, states = zip(*parts, strict=True)
        state = tuple(map(torch.cat, zip(*states, strict=True)))
        return Demonstrations(stack_obs(obs, beside), beside(starts), beside(actions), state)


def applicable(actions: np.ndarray, space: spaces.Space) -> np.ndarray:
    """Actions as environments take them, within the bounds of their space. :param actions: any :param space: theirs"""
    within = np.clip(actions, space.low, space.high) if isinstance(space, spaces.Box) else actions
    return within.astype(space.dtype)


class Student:
    """
    The policy that learns, in its environments.

    :param policy: acts, and is changed elsewhere
    :param env: normalises observations
    :param lessons: the teacher
    :param noise: on continuous actions, in units of half the range
    :param rng: pays for noise, and decides who acts
    """

    def __init__(
        self, policy: PlasticPolicy, env: VecNormalize, lessons: Lessons, noise: float, rng: np.random.Generator
    ) -> None:
        self.policy, self.env, self.lessons, self.noise, self.rng = policy, env, lessons, noise, rng
        self.obs: Obs = env.reset()
        self.starts = np.ones(env.num_envs, bool)
        self.state = policy.initial_state(env.num_envs)

    def go_on(self, n_steps: int, lead: float, tick: Callable[[int], None]) -> Demonstrations:
        """
        Act, and be told.

        :param n_steps: per environment, a multiple of 16
        :param lead: probability with which the teacher acts instead, for each environment and step
        :param tick: called after each step with the number of transitions
        :return: what the teacher would have done
        """
        stepper, chunks = self.policy.prepared(), []
        with torch.no_grad(), evaluating(self.policy):
            for _ in range(n_steps // CHUNK):
                state = self.state
                obs, *rest = zip(*(self._step(stepper, lead, tick) for _ in range(CHUNK)), strict=True)
                starts, actions = map(torch.stack, rest)
                chunks.append(Demonstrations(stack_obs(obs, torch.stack), starts, actions, state))
        return Demonstrations.joined(chunks)

    def _step(self, stepper: PolicyStepper, lead: float, tick: Callable[[int], None]) -> tuple[Obs, Tensor, Tensor]:
        device, space, n = self.policy.device, self.env.action_space, self.env.num_envs
        obs, starts = obs_as_tensor(self.obs, device), torch.from_numpy(self.starts).to(device)
        teachers = self.lessons.actions(self.env.get_original_obs(), self.starts)
        own, self.state = stepper.act(obs, self.state, starts, deterministic=True)
        applied = own.copy()
        led = self.rng.random(n) < lead
        applied[led] = teachers[led]
        if isinstance(space, spaces.Box):
            applied = applied + self.noise * (space.high - space.low) / 2 * self.rng.standard_normal(own.shape)
        self.obs, _, dones, _ = self.env.step(applicable(applied, space))
        self.starts = np.asarray(dones, bool)  # whole numbers, where SubprocVecEnv steps environments that return them
        tick(n)
        return obs, starts, torch.from_numpy(teachers.reshape(n, -1)).float().to(device)
