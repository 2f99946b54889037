"""Evolution strategies for policies with a state: no gradients, no critic, a population that plays side by side."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean

from sb3_plastic.errors import UserError, check_choice, check_number
from sb3_plastic.es.evaluator import SHARED_SEEDS, Evaluator, LocalEvaluator, environment_seeds, sub_batches
from sb3_plastic.es.evolved import Evolved, get_vector, set_vector, take_actor
from sb3_plastic.es.individuals import Individuals
from sb3_plastic.es.logs import ProgressBar, generation_statistics, shown_statistics, with_own_bar
from sb3_plastic.es.normalization import held, merge
from sb3_plastic.es.population import Population
from sb3_plastic.es.rollout import Generation, Outcome, Step, SubBatchPlayer
from sb3_plastic.es.strategies import STRATEGIES, Strategy
from sb3_plastic.finite import check_parameters
from sb3_plastic.policies import POLICY_ALIASES, PlasticPolicy
from sb3_plastic.saving import WholeFiles

SCENARIO_FITNESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda fitness: fitness.mean(1),
    "worst": lambda fitness: fitness.min(1),
}
"""From fitness per scenario, [P, S], to that of the individuals, [P]."""


class PlasticES(WholeFiles):
    """
    Evolution strategies for a plastic spiking policy: each generation draws individuals around a mean, each plays
    ``n_episodes`` episodes in each scenario, and the mean moves to where their returns were high. Actions are
    deterministic; neither ``log_std`` nor the critic changes. ``policy`` is the mean at all times.

    Each environment is played by one individual at a time, all environments in one batch. Where there are more
    individuals (times scenarios) than environments, they play in several sub-batches. A step counts as a timestep while
    its individual plays; an environment whose individual has finished idles to the end of the sub-batch.

    With ``n_workers``, sub-batches are played by Ray actors, on this machine or on a cluster: choose ``n_envs`` so that
    there are several sub-batches for each worker. Callbacks then see the steps of a sub-batch once it is complete: as
    many calls, timesteps, rewards and dones as without workers, but of ``infos`` only those of episodes that ended.

    The noise of a generation, and the seeds of its environments, are functions of the seed and the number of the
    generation alone. So equal seeds give equal generations, bit for bit, whatever the number of workers; and a training
    that is stopped (also in mid-generation), saved and loaded goes on as if it had not been stopped; what was played of
    a generation is played again, and counted again.

    The statistics of a ``VecNormalize`` are those of the generations before: all individuals are judged by the same.
    Its rewards are not used: fitness is the return that a ``Monitor`` reports, or else the sum of the original rewards.

    :param policy: ``PlasticPolicy`` (or its alias ``MlpPolicy``), ``MultiInputPolicy``, ``CnnPolicy``, or a class
    :param env: environment, or the id of a registered one
    :param learning_rate: of the strategy's optimiser, per generation; with Adam about the length of a step of each
        parameter, so not much above ``sigma``
    :param population_size: individuals per generation. More give a better gradient, and take more timesteps
    :param n_episodes: episodes that each individual plays in each scenario; more where a single one is much luck
    :param strategy: a name in ``sb3_plastic.es.strategies.STRATEGIES``: ``openai_es``, ``pgpe`` or ``sep_cma_es``
    :param sigma: standard deviation of the individuals, of each parameter, at the start. The spiking layers' weights
        are about ``1 / sqrt(inputs)``; changes of .05 to .2 have an effect on behaviour
    :param strategy_kwargs: further arguments of the strategy, see
        :class:`~sb3_plastic.es.strategies.MirroredSearch`: ``weight_decay``, ``fitness_shaping``, ``optimizer``, ...
    :param alive_bonus_offset: added to the reward of each step: minus the bonus for being alive, so that standing still
        does not pay
    :param evolve: what evolves: ``all`` that is not frozen (``requires_grad``), ``plasticity``, or a list of groups
        (``weights``, ``plasticity``, ``features``, ``encoder``, ``readout``, ``decoder``) and of patterns of names
        (``snn.layers.1.*``)
    :param fixed: what happens to all that does not evolve: ``kept``, or ``redrawn`` at random in each episode
    :param start_from: saved ``PlasticPPO`` or ``PlasticES``, or folder of an exported policy, whose actor is the start;
        it needs the same policy_kwargs. Where plasticity evolves, it may have been trained with ``rule="none"``
    :param scenarios: that each individual plays; each is the name of a scenario of a suite, a list of perturbations, or
        a dict with options of the environment's ``reset``. SB3 passes these once: an environment that forgets them
        after an episode needs ``n_episodes=1``, and each dict several times. None: the environment as it is
    :param scenario_fitness: fitness over the scenarios: ``mean`` or ``worst``
    :param shared_seeds: whose environments have the same seeds: the whole ``population``, the two of an antithetic
        ``pair``, or ``none``. New ones in each generation
    :param n_workers: Ray actors that play sub-batches; 0: this process plays them
    :param ray_address: ``None``: on this machine; ``"auto"``: the Ray cluster that this machine belongs to; or
        ``host:port`` of a cluster's head
    :param stats_window_size: episodes over which ``rollout/ep_rew_mean`` and so on are taken
    :param tensorboard_log: folder for TensorBoard
    :param policy_kwargs: arguments of the policy
    :param verbose: 0: no output, 1: information
    :param seed: of initial weights, noise and environments
    :param device: of the policy; ``auto`` is the CPU, whose kernels are fused
    :param _init_setup_model: build the network now
    :raises UserError: on an unknown name, or a number out of range
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
        evolve: str | list[str] = "all",
        fixed: str = "kept",
        start_from: str | Path | None = None,
        scenarios: Sequence[Any] | None = None,
        scenario_fitness: str = "mean",
        shared_seeds: str = "population",
        n_workers: int = 0,
        ray_address: str | None = None,
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
            device="cpu" if device == "auto" else device,
            support_multi_env=True,
            seed=seed,
        )
        self.population_size, self.n_episodes = population_size, n_episodes
        self.strategy_name, self.sigma, self.strategy_kwargs = strategy, sigma, strategy_kwargs
        self.alive_bonus_offset = alive_bonus_offset
        self.evolve, self.fixed = evolve, fixed
        self.scenarios, self.scenario_fitness, self.shared_seeds = scenarios, scenario_fitness, shared_seeds
        self.n_workers, self.ray_address = n_workers, ray_address
        # Saved with the model, so that a training without a seed can be resumed as well.
        self.noise_seed = int(np.random.default_rng().integers(2**31))
        if _init_setup_model:
            self._setup_model(start_from)

    def _setup_model(self, start_from: str | Path | None = None) -> None:
        # Everything derived is made here, since load() fills in the arguments after __init__ and then calls this.
        asked = vars(self).pop("strategy", None)  # an argument of load()
        if isinstance(asked, str) and asked != self.strategy_name:
            raise UserError(
                f"The model was saved with strategy={self.strategy_name!r}, whose memory does not serve {asked!r}. "
                f"Start anew from its policy: PlasticES(..., strategy={asked!r}, start_from=FILE)."
            )
        saved = {} if self.stamp is None else self.stamp["configuration"]["algorithm"]
        if "sigma" in saved and (sigma := saved["sigma"]) != self.sigma:
            raise UserError(
                f"The model was saved with sigma={sigma!r}, and goes on with what has become of that: {self.sigma!r} "
                "would change nothing. Start anew from its policy: "
                f"PlasticES(..., sigma={self.sigma!r}, start_from=FILE)."
            )
        check_choice("strategy", self.strategy_name, STRATEGIES)
        check_choice("scenario_fitness", self.scenario_fitness, SCENARIO_FITNESS)
        check_choice("shared_seeds", self.shared_seeds, SHARED_SEEDS)
        for name, least in (("population_size", 2), ("n_episodes", 1), ("n_workers", 0)):
            check_number(name, getattr(self, name), at_least=least, integer=True)
        check_number("alive_bonus_offset", self.alive_bonus_offset)
        if not (self.scenarios is None or (self.scenarios and isinstance(self.scenarios, list | tuple))):
            raise UserError(f"scenarios is a list with at least one scenario, or None, got {self.scenarios!r}.")
        self._setup_lr_schedule()
        check_number("learning_rate", self.lr_schedule(1.0), at_least=0)
        get_obs_shape(self.observation_space)  # it refuses a space that SB3 does not support
        self.set_random_seed(self.seed)
        spaces_of = self.observation_space, self.action_space
        with self.kept_defaults():
            policy = self.policy_class(*spaces_of, self.lr_schedule, **self.policy_kwargs)
        if not isinstance(policy, PlasticPolicy):
            raise UserError(f"PlasticES evolves a PlasticPolicy, got {type(policy).__name__}.")
        if policy.beside is not None:
            raise UserError(
                "PlasticES has no rollouts from which an adaptive layer could learn (policy_kwargs: adaptive). Train "
                "without it, then put the layer around the model: `sb3-plastic adapt`, AdaptivePolicy.fit."
            )
        self.policy = policy.to(self.device)
        if self.verbose >= 1:
            print(f"Plastic scan of the layers: {', '.join(self.policy.snn.resolved_backends())}")
        self.evolved = Evolved(self.policy, self.evolve, self.fixed)
        if start_from is not None:
            take_actor(self.policy, start_from, self.evolved.plasticity)
        make = STRATEGIES[self.strategy_name]
        try:
            self.strategy = make(self._mean(), self.population_size, self.sigma, **(self.strategy_kwargs or {}))
        except TypeError as error:
            raise UserError(f"strategy_kwargs of {self.strategy_name}: {error}.") from error
        self.check_policy()

    def set_random_seed(self, seed: int | None = None) -> None:
        """As in SB3; the noise of the individuals and the seeds of their environments follow it, too."""
        super().set_random_seed(seed)
        if seed is not None:
            self.seed = self.noise_seed = seed  # what a file is set up with

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "strategy", "evolved"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "strategy"], []

    def _mean(self) -> torch.Tensor:
        """What evolves of the policy, [D]."""
        return self.evolved.part(get_vector(self.policy.actor_parameters()))

    def _rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of this generation, for one purpose."""
        return np.random.default_rng([self.noise_seed, self._n_updates, purpose])

    def evaluator(self) -> Evaluator:
        """
        Where generations are played, as ``n_workers`` says. :meth:`learn` makes one, and closes it.

        :raises ImportError: if there are to be workers, and Ray is missing
        :raises UserError: if workers would have nothing to do, or cannot copy the environment; on scenarios of an
            environment that cannot be perturbed
        """
        assert self.env is not None, "There is no environment: set_env() gives one."
        named = [scenario for scenario in self.scenarios or () if isinstance(scenario, Sequence)]
        if named and not self.env.has_attr("perturber"):
            raise UserError(
                f"Scenarios such as {named[0]!r} need environments that can be perturbed; these would ignore them. "
                "Take sb3_plastic/PerturbedHalfCheetah-v0 and so on, or put yours in PerturbSignals (env_wrapper: "
                "sb3_plastic.perturbations.wrapper.PerturbSignals). Options of your own environment are a mapping."
            )
        player = SubBatchPlayer(Population(self.policy), self.evolved, self.env)
        if not self.n_workers:
            return LocalEvaluator(player)
        from sb3_plastic.es.workers import RayEvaluator

        rows = self.population_size * (1 if self.scenarios is None else len(self.scenarios))
        if -(-rows // self.env.num_envs) < self.n_workers:
            raise UserError(
                f"A generation has {rows} rows (individuals times scenarios), which is {-(-rows // self.env.num_envs)} "
                f"sub-batches for {self.n_workers} workers, each with n_envs={self.env.num_envs} environments. "
                f"Set n_envs to {max(1, rows // self.n_workers)} or less."
            )
        return RayEvaluator(player, self.policy, self.evolve, self.fixed, self.n_workers, self.ray_address)

    def evaluate_population(
        self, individuals: Individuals, callback: BaseCallback, evaluator: Evaluator
    ) -> tuple[np.ndarray, list[Outcome]] | None:
        """
        The fitness of individuals.

        :param individuals: who plays
        :param callback: called at each step, and at the beginning and end of the generation
        :param evaluator: where they play
        :return: mean return of each one's episodes in each scenario, [P, S], and what came of the sub-batches; None if
            the callback stopped the training
        :raises UserError: if a fitness or an observation is not finite
        """
        assert self.env is not None
        self.policy.set_training_mode(False)
        normalize = self._vec_normalize_env
        statistics = None if normalize is None or not normalize.norm_obs else normalize.obs_rms
        actor = get_vector(self.policy.actor_parameters())
        generation = Generation(individuals, actor, statistics, self.n_episodes, self.alive_bonus_offset)
        seeds = environment_seeds(self._rng(1), len(individuals), self.shared_seeds)
        batches = list(sub_batches(seeds, self.scenarios, self.env.num_envs))

        def on_step(step: Step) -> bool:
            self.num_timesteps += step.n_playing
            self._update_info_buffer(step.infos, step.dones)
            # Callbacks read these by SB3's names.
            callback.update_locals({"self": self, "infos": step.infos, "dones": step.dones, "rewards": step.rewards})
            return callback.on_step()

        callback.on_rollout_start()
        outcomes = evaluator.evaluate(generation, batches, on_step)
        if outcomes is None:
            return None
        fitness = np.concatenate([outcome.fitness for outcome in outcomes]).reshape(len(individuals), -1)
        if not np.isfinite(fitness).all():
            i, scenario = np.argwhere(~np.isfinite(fitness))[0]
            raise UserError(
                f"The fitness of individual {i} is {fitness[i, scenario]}: a reward was not finite. The simulation has "
                "probably become unstable; a smaller sigma can help."
            )
        merge(normalize, [outcome.statistics for outcome in outcomes])
        callback.update_locals({"fitness": fitness})
        callback.on_rollout_end()
        return fitness, outcomes

    def train(self, fitness: np.ndarray) -> None:
        """
        Move the mean.

        :param fitness: of the individuals in each scenario, [P, S]
        """
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        check_number("The learning rate", learning_rate, at_least=0)
        total = SCENARIO_FITNESS[self.scenario_fitness](fitness)
        logged = self.strategy.tell(total, learning_rate)
        parameters = self.policy.actor_parameters()
        set_vector(parameters, self.evolved.whole(get_vector(parameters), self.strategy.mean.detach()[None])[0])
        check_parameters(self.policy.named_parameters(), "Evolution stops")
        self._n_updates += 1
        logged |= dict(generation=self._n_updates, learning_rate=learning_rate)
        for name, value in logged.items():
            self.logger.record(f"train/{name}", value)
        for name, value in generation_statistics(total, fitness, self.scenarios).items():
            self.logger.record(name, value)
        self.logger.record("train/fitness", torch.as_tensor(total), exclude=("stdout", "log", "json", "csv"))

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "PlasticES",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """
        As in SB3. The last generation is played to its end.

        :param total_timesteps: steps of all environments
        :param callback: called at each step of the vector environment
        :param log_interval: generations between two entries of the log
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: whether to count timesteps from 0
        :param progress_bar: show one
        """
        check_number("log_interval", 1 if log_interval is None else log_interval, at_least=1, integer=True)
        with held(self._vec_normalize_env):  # SB3 resets the environments here
            total_timesteps, callback = self._setup_learn(
                total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
            )
        # The same already, unless the user has given the policy other parameters.
        self.strategy.mean.data.copy_(self._mean())
        evaluator = self.evaluator()
        assert self.env is not None
        try:
            callback.on_training_start(locals(), globals())
            while self.num_timesteps < total_timesteps:
                self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
                individuals = self.strategy.ask(self._rng(0))
                evaluated = self.evaluate_population(individuals, callback, evaluator)
                if evaluated is None:
                    break
                fitness, outcomes = evaluated
                self.train(fitness)
                if log_interval is not None and self._n_updates % log_interval == 0:
                    diversity = individuals.sigma.norm() / individuals.mean.norm().clamp(min=1e-12)
                    self.logger.record("train/diversity", diversity.item())
                    logged = shown_statistics(self.policy, outcomes[0].shown)
                    logged |= {f"time/{name}": value for name, value in evaluator.statistics().items()}
                    for name, value in logged.items():
                        self.logger.record(name, value)
                    self.dump_logs()
            callback.on_training_end()
        finally:
            evaluator.close()
        # All have had the same seeds, and would go on as one: who evaluates in them wants different episodes.
        self.env.seed(int(self._rng(2).integers(2**31)))
        return self

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        callback = super()._init_callback(with_own_bar(callback))
        if progress_bar:
            bar = ProgressBar()
            bar.init_callback(self)
            callback = CallbackList([callback, bar])
            callback.model = self  # both are ready
        return callback

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
