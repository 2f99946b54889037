"""Nominal transitions: what the robot does under its own agent, with excitation, so that the motors' effects show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_plastic.adaptive.agents import as_actions, middle_and_half
from sb3_plastic.errors import UserError
from sb3_plastic.progress import Progress

Array = NDArray[Any]

BLOCK = 100  # steps for which an excitation lasts
DISTURBED = 0.3  # probability that a motor is commanded otherwise
NOISE = (0.0, 0.15, 0.3)  # standard deviations of the noise, one drawn per environment and block

LEAST = 21
"""Steps of each environment: a twentieth of them is held out, two at least, since one has no variance."""


class Transitions(NamedTuple):
    """
    T steps of N environments. Time first.

    :param o: observations [T, N, O]
    :param a: applied commands in units of half the control range, [T, N, A]
    :param after: observations after the step, [T, N, O]; where an episode ended, its last
    :param starts: whether an episode starts with this step, [T, N]
    """

    o: Array
    a: Array
    after: Array
    starts: Array


def collect(
    act: Callable[[Array, Array], Array],
    venv: VecEnv,
    unit: Callable[[Array], Array],
    n_steps: int,
    rng: np.random.Generator,
    tick: Callable[[int], None] | None = None,
    excited: bool = True,
) -> Transitions:
    """
    Let the agent walk. Every 100 steps each motor is, with probability .3, commanded otherwise by a factor U(-1, 1),
    and noise of 0, .15 or .3 of half the control range is added.

    :param act: observations and episode starts -> actions in units of half the control range
    :param venv: nominal environments, raw observations
    :param unit: its inverse: units of half the control range -> actions as the environments take them
    :param n_steps: steps of all environments together
    :param rng: pays for the excitation
    :param tick: called after each step with the number of transitions gathered
    :param excited: whether there is any excitation, or the agent walks as it is
    """
    assert isinstance(venv.action_space, spaces.Box)
    n, (n_motors,) = venv.num_envs, venv.action_space.shape
    rows = []
    o, starts = np.array(venv.reset(), np.float64), np.ones(n, bool)
    for t in range(-(-n_steps // n)):
        if t % BLOCK == 0:
            factor = np.where(rng.random((n, n_motors)) < DISTURBED, rng.uniform(-1, 1, (n, n_motors)), 1.0)
            noise = rng.choice(NOISE, (n, 1))
        meant = act(o, starts)
        a = np.clip(meant * factor + noise * rng.standard_normal((n, n_motors)) if excited else meant, -1, 1)
        following, _, dones, infos = venv.step(unit(a))
        following = np.array(following, np.float64)  # copies, as below: environments may write over theirs
        after = following.copy()
        for i in np.flatnonzero(dones).tolist():
            after[i] = infos[i]["terminal_observation"]
        rows.append((o.astype(np.float32), a.astype(np.float32), after.astype(np.float32), starts))
        o, starts = following, np.array(dones, bool)
        if tick is not None:
            tick(n)
    return Transitions(*(np.stack(arrays) for arrays in zip(*rows, strict=True)))


def raw(venv: VecEnv) -> VecEnv:
    """
    Environments without their VecNormalize.

    :param venv: with it, or without
    :raises UserError: if another wrapper is around it
    """
    while isinstance(venv, VecNormalize):
        venv = venv.venv
    if unwrap_vec_normalize(venv) is not None:
        raise UserError("VecNormalize must be the outermost wrapper of the vector environment.")
    return venv


def nominal_transitions(
    agent: Any, venv: VecEnv, n_steps: int, seed: int, progress: Progress, excited: bool = True
) -> Transitions:
    """
    Let an agent walk.

    :param agent: what acts, see :func:`~sb3_plastic.adaptive.agents.agent_of`
    :param venv: nominal environments, with observations as the agent takes them
    :param n_steps: steps of all environments together
    :param seed: of environments and excitation
    :param progress: is told
    :param excited: with excitation, so that the motors' effects show
    :raises UserError: if they are too few to hold some out
    """
    if n_steps < LEAST * venv.num_envs:
        raise UserError(f"n_steps must be at least {LEAST} for each of {venv.num_envs} environments, got {n_steps}.")
    middle, half = middle_and_half(agent.action_space)
    state: Any = None

    def act(o: Array, starts: Array) -> Array:
        nonlocal state
        actions, state = agent.predict(o, state=state, episode_start=starts, deterministic=True)
        return (np.asarray(actions, np.float64) - middle) / half

    progress.begin("collect", n_steps)
    venv.seed(seed)
    unit = partial(as_actions, space=agent.action_space)
    return collect(act, venv, unit, n_steps, np.random.default_rng(seed), progress.tick, excited)
