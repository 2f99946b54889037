"""Evolution strategies for policies with a state: no gradients, no critic, a population that plays side by side."""

from __future__ import annotations

import sys
import time
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean
from torch import Tensor

from sb3_plastic.errors import check_choice
from sb3_plastic.es.normalization import HeldStatistics
from sb3_plastic.es.population import Population, get_vector, set_vector
from sb3_plastic.es.strategies import STRATEGIES, Strategy
from sb3_plastic.finite import check_parameters
from sb3_plastic.observations import check_observation
from sb3_plastic.policies import POLICY_ALIASES, PlasticPolicy
from sb3_plastic.saving import WholeFiles

SelfPlasticES = TypeVar("SelfPlasticES", bound="PlasticES")


class PlasticES(WholeFiles):
    """
    Evolution strategies for a plastic spiking policy: in each generation individuals are scattered around a mean, each
    plays ``n_episodes`` episodes, and the mean moves to where their returns were high. All that the actor learns is
    evolved, the fixed weights and the parameters of plasticity alike; actions are deterministic, and neither
    ``log_std`` nor the critic changes. ``policy`` is the mean, at all times.

    Each environment is played by an individual of its own, in one batch; with fewer environments than individuals, in
    several rounds, all with the same seeds. As many environments as individuals are fastest; with half as many the two
    of a mirrored pair meet the same luck, which helps where much depends on how an episode starts. A step counts as a
    timestep while its individual plays; an environment that has finished goes on being stepped to the end of the
    round, uncounted.

    The noise of a generation, and the seeds of its environments, are functions of the seed and the number of the
    generation alone: a training that is stopped, saved and loaded goes on bit for bit as if it had not been stopped,
    in mid-generation by playing that generation again.

    The statistics of a ``VecNormalize`` are those of the generations before: all individuals are judged by the same.
    Its rewards are not used: fitness is what a ``Monitor`` says, or else the sum of the rewards as they were.

    :param policy: ``PlasticPolicy`` (or its alias ``MlpPolicy``), ``MultiInputPolicy``, ``CnnPolicy``, or a class
    :param env: environment, or the id of a registered one
    :param learning_rate: of the strategy's optimiser, per generation; with Adam about the length of a step of each
        parameter, so not much above ``sigma``
    :param population_size: individuals per generation, even. More give a better gradient, at their price in timesteps
    :param n_episodes: episodes that each individual plays; more where luck decides a single one
    :param strategy: a name in ``sb3_plastic.es.strategies.STRATEGIES``: ``openai_es`` or ``pgpe``
    :param sigma: standard deviation of the individuals, of each parameter, at the start. The spiking layers' weights
        are about ``1 / sqrt(inputs)``, of which .05 to .2 is felt
    :param strategy_kwargs: further arguments of the strategy
    :param alive_bonus_offset: added to the reward of each step: minus the bonus for being alive, so that standing still
        does not pay
    :param stats_window_size: episodes over which ``rollout/ep_rew_mean`` and so on are taken
    :param tensorboard_log: folder for TensorBoard
    :param policy_kwargs: arguments of the policy
    :param verbose: 0: no output, 1: information
    :param seed: of initial weights, noise and environments
    :param device: of the policy; the fused kernels run on the CPU
    :param _init_setup_model: build the network now
    :raises ValueError: on an unknown name, or a number out of range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES
    policy: PlasticPolicy
    strategy: Strategy

    def __init__(
        self,
        policy: str | type[PlasticPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 0.05,
        population_size: int = 64,
        n_episodes: int = 1,
        strategy: str = "openai_es",
        sigma: float = 0.1,
        strategy_kwargs: dict[str, Any] | None = None,
        alive_bonus_offset: float = 0.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
        )
        self.population_size, self.n_episodes = population_size, n_episodes
        self.strategy_name, self.sigma, self.strategy_kwargs = strategy, sigma, strategy_kwargs
        self.alive_bonus_offset = alive_bonus_offset
        # Saved with the model, so that what was not seeded can be resumed as well.
        self.noise_seed = int(np.random.default_rng().integers(2**31))
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        # Everything derived is made here, since load() fills in the arguments after __init__ and then calls this.
        check_choice("strategy", self.strategy_name, STRATEGIES)
        if self.n_episodes < 1:
            raise ValueError(f"n_episodes must be at least 1, got {self.n_episodes}.")
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        if self.seed is not None:
            self.noise_seed = self.seed
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)
        if not isinstance(policy, PlasticPolicy):
            raise TypeError(f"PlasticES evolves a PlasticPolicy, got {type(policy).__name__}.")
        self.policy = policy.to(self.device)
        if self.verbose >= 1:
            print(f"Plastic scan of the layers: {', '.join(self.policy.snn.resolved_backends())}")
        mean = get_vector(self.policy.actor_parameters())
        make = STRATEGIES[self.strategy_name]
        self.strategy = make(mean, self.population_size, self.sigma, **(self.strategy_kwargs or {}))
        self.check_policy()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "strategy"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "strategy"], []

    def _rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of this generation, for one purpose."""
        return np.random.default_rng([self.noise_seed, self._n_updates, purpose])

    def evaluate_population(self, vectors: Tensor, callback: BaseCallback) -> np.ndarray | None:
        """
        The fitness of individuals.

        :param vectors: their parameters, [P, D]
        :param callback: called at each step, and at the beginning and end of the generation
        :return: mean return of each one's episodes, [P]; None if the callback stopped the training
        :raises ValueError: if a fitness or an observation is not finite
        """
        assert self.env is not None, "There is no environment: set_env() gives one."
        self.policy.set_training_mode(False)
        population, statistics = Population(self.policy), HeldStatistics(self._vec_normalize_env)
        callback.on_rollout_start()
        n_envs, fitness = self.env.num_envs, np.zeros(len(vectors))
        for start in range(0, len(vectors), n_envs):
            # In the last round some environments may be left over: their individuals are there already.
            played = np.arange(start, start + n_envs) < len(vectors)
            population.be(vectors[np.minimum(np.arange(start, start + n_envs), len(vectors) - 1)])
            returns = self._play(population, played, statistics, callback)
            if returns is None:
                return None
            fitness[start : start + n_envs] = returns[played]
        if not np.isfinite(fitness).all():
            i = int(np.flatnonzero(~np.isfinite(fitness))[0])
            raise ValueError(
                f"The fitness of individual {i} is {fitness[i]}: a reward was not finite. The simulation has probably "
                "become unstable, for which a smaller sigma is a remedy."
            )
        statistics.release()
        callback.update_locals(locals())
        callback.on_rollout_end()
        return fitness

    def _play(
        self,
        population: Population,
        plays: np.ndarray,
        statistics: HeldStatistics,
        callback: BaseCallback,
    ) -> np.ndarray | None:
        """One round: mean returns of the individuals, [n_envs]; ``plays``: bool [n_envs], who has episodes to play."""
        assert self.env is not None
        plays, starts = plays.copy(), np.ones(len(plays), bool)
        totals, n_done = np.zeros(len(plays)), np.zeros(len(plays), int)
        returns, lengths = np.zeros(len(plays)), np.zeros(len(plays), int)
        self.env.seed(int(self._rng(1).integers(2**31)))  # the same in each round
        with statistics.held():
            obs: Any = self.env.reset()
        statistics.observe(plays)
        while plays.any():
            check_observation(obs)
            actions = population.act(obs, starts)
            with statistics.held():
                obs, rewards, dones, infos = self.env.step(actions)
            # What environments do that nobody plays any more is nobody's episode.
            dones = dones & plays
            infos = [info if playing else {} for info, playing in zip(infos, plays, strict=True)]
            self.num_timesteps += int(plays.sum())
            statistics.observe(plays)
            returns += statistics.original(rewards)
            lengths += 1
            starts = dones
            for i in np.flatnonzero(dones):
                monitored = infos[i].get("episode")
                totals[i] += returns[i] if monitored is None else monitored["r"]
                totals[i] += self.alive_bonus_offset * lengths[i]
                returns[i], lengths[i] = 0, 0
            n_done += dones
            plays = plays & (n_done < self.n_episodes)
            self._update_info_buffer(infos, dones)
            # Callbacks read our local variables: keep SB3's names.
            callback.update_locals(locals())
            if not callback.on_step():
                return None
        return totals / self.n_episodes

    def train(self, fitness: np.ndarray) -> None:
        """
        Move the mean.

        :param fitness: of the individuals, [P]
        """
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        logged = self.strategy.tell(fitness, learning_rate)
        set_vector(self.policy.actor_parameters(), self.strategy.mean)
        check_parameters(self.policy.named_parameters(), "Evolution stops")
        self._n_updates += 1
        logged |= dict(generation=self._n_updates, learning_rate=learning_rate)
        logged |= dict(fitness_best=fitness.max(), fitness_mean=fitness.mean(), fitness_std=fitness.std())
        for name, value in logged.items():
            self.logger.record(f"train/{name}", value)

    def learn(
        self: SelfPlasticES,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "PlasticES",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfPlasticES:
        """
        As in SB3. The last generation is played to its end.

        :param total_timesteps: steps of all environments
        :param callback: called at each step of the vector environment
        :param log_interval: generations between two entries of the log
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: whether to count timesteps from 0
        :param progress_bar: show one
        """
        with HeldStatistics(self._vec_normalize_env).held():  # SB3 resets the environments here
            total_timesteps, callback = self._setup_learn(
                total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
            )
        # The same already, unless the user has given the policy other parameters.
        self.strategy.mean.data.copy_(get_vector(self.policy.actor_parameters()))
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            fitness = self.evaluate_population(self.strategy.ask(self._rng(0)), callback)
            if fitness is None:
                break
            self.train(fitness)
            if log_interval is not None and self._n_updates % log_interval == 0:
                self.dump_logs()
        callback.on_training_end()
        return self

    def dump_logs(self) -> None:
        """Write the log."""
        seconds = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        assert self.ep_info_buffer is not None
        assert self.ep_success_buffer is not None
        if self.ep_info_buffer:
            for key, name in (("r", "ep_rew_mean"), ("l", "ep_len_mean")):
                self.logger.record(f"rollout/{name}", safe_mean([episode[key] for episode in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)
