"""One sub-batch of a generation: individuals play in a vector environment, each in its own environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor

from sb3_plastic.es.environments import Idling
from sb3_plastic.es.evolved import Evolved
from sb3_plastic.es.individuals import Individuals
from sb3_plastic.es.normalization import Observed, Statistics, held, original_rewards
from sb3_plastic.es.population import Population
from sb3_plastic.observations import check_observation, map_obs
from sb3_plastic.seeding import seed_each

SHOWN_STEPS = 64
"""Steps of the first individual whose observations are kept, for the statistics of the network."""


class Generation(NamedTuple):
    """
    What all sub-batches of a generation have in common.

    :param individuals: who plays
    :param actor: all numbers of the policy's actor, [A]
    :param statistics: mean and variance that normalise the observations of all individuals
    :param n_episodes: that each individual plays in each scenario
    :param alive_bonus_offset: added to the reward of each step
    """

    individuals: Individuals
    actor: Tensor
    statistics: Statistics
    n_episodes: int
    alive_bonus_offset: float


class SubBatch(NamedTuple):
    """
    What one evaluator plays at once. B: rows, at most as many as it has environments.

    :param individuals: the individual of each row, int [B]
    :param seeds: of the environments, int [B]
    :param options: of the environments' reset, one per row; None: without
    """

    individuals: np.ndarray
    seeds: np.ndarray
    options: list[Mapping[str, Any]] | None


class Step(NamedTuple):
    """
    One step of a vector environment, as callbacks see it. Environments whose individual has finished are not done, and
    have no info.

    :param n_playing: how many individuals played it
    :param rewards: as the environment returned them, [n_envs]
    :param dones: bool [n_envs]
    :param infos: one per environment; from workers, only those of episodes that ended
    """

    n_playing: int
    rewards: np.ndarray
    dones: np.ndarray
    infos: list[dict[str, Any]]


class Outcome(NamedTuple):
    """
    What came of a sub-batch.

    :param fitness: mean return of the episodes of each row, [B]
    :param statistics: of the observations, to be merged
    :param shown: normalised observations of the first row, [1, ...] each, from the start of an episode
    """

    fitness: np.ndarray
    statistics: Statistics
    shown: list[Any]


class SubBatchPlayer:
    """
    Plays sub-batches.

    :param population: individuals, whose parameters it sets
    :param evolved: which parameters evolve
    :param env: vector environment
    """

    def __init__(self, population: Population, evolved: Evolved, env: VecEnv) -> None:
        self.population, self.evolved, self.env = population, evolved, env
        self.normalize = unwrap_vec_normalize(env)

    def play(self, generation: Generation, batch: SubBatch, on_step: Callable[[Step], bool]) -> Outcome | None:
        """
        Play all episodes of a sub-batch. Nothing but the arguments decides what comes of it. Environments idle once
        their individual has finished, and the network runs those rows that play.

        :param generation: what the sub-batch belongs to
        :param batch: who plays what
        :param on_step: called after each step of the vector environment; False stops
        :return: None if ``on_step`` stopped
        :raises ValueError: if an observation is not finite
        """
        idling = Idling(self.env)
        try:
            return self._play(generation, batch, on_step, idling)
        finally:
            idling.wake()

    def _play(
        self, generation: Generation, batch: SubBatch, on_step: Callable[[Step], bool], idling: Idling
    ) -> Outcome | None:
        n_envs, n_rows = self.env.num_envs, len(batch.individuals)
        rows = np.arange(n_rows)  # of the population: row i plays in environment i
        vectors = self.evolved.whole(generation.actor, generation.individuals.vectors(batch.individuals))
        if self.evolved.redrawn:
            self.evolved.redraw(vectors, rows, batch.seeds, generation.actor)
        self.population.load(vectors)

        plays, episode = np.arange(n_envs) < n_rows, np.zeros(n_envs, int)
        totals, returns = np.zeros(n_envs), np.zeros(n_envs)
        parts = np.zeros(n_envs)  # returns of lives: of episodes that have ended, but not for the Monitor
        observed = Observed(self.normalize)
        shown: list[Any] = []
        last = np.minimum(np.arange(n_envs), n_rows - 1)  # environments left over are reset like the last row's
        seed_each(self.env, batch.seeds[last])
        if batch.options is not None:
            self.env.unwrapped.set_options([dict(batch.options[i]) for i in last])
        with held(self.normalize):
            obs = self.env.reset()
        observed.observe(plays)
        space = self.env.action_space
        # Fractions reach motors that take whole numbers as `predict` gives them.
        dtype = np.result_type(np.float32, space.dtype) if isinstance(space, spaces.Box) else space.dtype
        actions = np.zeros((n_envs, *(space.shape or ())), dtype)
        starts = np.ones(n_envs, bool)
        if not plays.all():
            idling.idle(~plays)
        while plays.any():
            played = np.flatnonzero(plays)
            check_observation(map_obs(itemgetter(played), obs), played.tolist())
            if plays.sum() <= len(rows) / 2:  # worth a copy of the others
                kept = plays[rows]
                self.population.keep(np.flatnonzero(kept))
                rows = rows[kept]
            if plays[0] and len(shown) < SHOWN_STEPS and not episode[0]:
                shown.append(map_obs(lambda array: array[:1].copy(), obs))
            actions[rows] = self.population.act(map_obs(itemgetter(rows), obs), starts[rows])
            with held(self.normalize):
                obs, rewards, dones, infos = self.env.step(actions)
            dones = np.asarray(dones, bool) & plays  # some vector environments step also those that no individual plays
            observed.observe(plays)
            returns += np.where(plays, original_rewards(self.normalize, rewards) + generation.alive_bonus_offset, 0)
            for i in np.flatnonzero(dones):
                monitored = infos[i].get("episode")
                offset = generation.alive_bonus_offset
                total = returns[i] if monitored is None else monitored["r"] + offset * monitored["l"] - parts[i]
                totals[i] += total
                parts[i] = parts[i] + total if monitored is None else 0
            returns[dones] = 0
            step = Step(int(plays.sum()), rewards, dones, [i if p else {} for i, p in zip(infos, plays, strict=True)])
            starts = dones
            episode += dones
            finished = dones & (episode == generation.n_episodes)
            if finished.any():
                plays = plays & ~finished
                idling.idle(~plays)
            starting = np.flatnonzero(dones & plays)
            if self.evolved.redrawn and len(starting):
                seeds = batch.seeds[starting] + episode[starting]
                self.evolved.redraw(vectors, starting, seeds, generation.actor)
                self.population.set_parameters(vectors[rows])
            if not on_step(step):
                return None
        fitness = totals[:n_rows] / generation.n_episodes
        return Outcome(fitness, observed.statistics, shown)
