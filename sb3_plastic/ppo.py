"""PPO for policies with a state: SB3's own update, on chunks of fixed length, with back-propagation through time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from sb3_plastic.buffers import ChunkedRolloutBuffer, checked_buffer, chosen_batch_size, chosen_chunk_len
from sb3_plastic.clipping import GroupClipping
from sb3_plastic.errors import UserError, check_choice, check_number
from sb3_plastic.finite import NormalizationBackup, check_parameters, check_state
from sb3_plastic.monitor import nominal_transitions, run_name, snn_statistics, teacher_kl
from sb3_plastic.observations import Obs, check_observation, stack_obs
from sb3_plastic.policies import POLICY_ALIASES, PlasticPolicy
from sb3_plastic.saving import WholeFiles
from sb3_plastic.snn.interventions import state_names
from sb3_plastic.stepper import State
from sb3_plastic.teacher import Lessons, Teacher, as_returned


class PlasticPPO(WholeFiles, PPO):
    """
    Proximal policy optimisation (Schulman et al., 2017) of a plastic spiking policy.

    The loop, the loss and all arguments not listed here are those of SB3's ``PPO``. What differs: the state of the
    network is carried through the rollout; minibatches are made of chunks of ``chunk_len`` steps, through which the
    gradient flows back from where the rollout stood when the chunk began; gradients are clipped, and learning rates
    scaled, for actor, plasticity and critic separately.

    :param policy: ``PlasticPolicy`` (or its alias ``MlpPolicy``), ``MultiInputPolicy``, ``CnnPolicy``, or a class
    :param env: environment, or the id of a registered one
    :param learning_rate: of the actor; the critic's and the plasticity's are multiples of it, see
        :class:`~sb3_plastic.policies.PlasticPolicy`
    :param n_steps: steps per environment and rollout, a multiple of ``chunk_len``
    :param batch_size: transitions per minibatch, a multiple of ``chunk_len``. By default the largest up to 512 that
        divides the rollout: many small minibatches take longer than few large ones
    :param max_grad_norm: bound of the gradient norm of each parameter group. Groups are clipped separately: clipped
        together, a critic with large errors would scale down the actor's steps
    :param chunk_len: steps per chunk, the reach of back-propagation through time. Longer chunks credit plasticity for
        what it achieves later, and make fewer, more correlated sequences per minibatch. By default the longest up to 16
        that divides ``n_steps`` and ``batch_size``
    :param chunk_states: where chunks start. ``stored``: from the states that the rollout met; ``refresh``: from these,
        computed again before each epoch but the first (one more forward pass over the rollout)
    :param teacher: a model, a :class:`~sb3_plastic.teacher.Teacher`, or arguments of one, whose actions are imitated
        with a weight that falls to 0. It is not saved with the model: give it to ``load`` again
    :param device: ``auto`` is the CPU, whose kernels are fused; on a GPU the reference runs, many times slower
    :raises UserError: if sizes do not divide, or on an unknown name
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES
    policy: PlasticPolicy
    rollout_buffer: ChunkedRolloutBuffer

    def __init__(
        self,
        policy: str | type[PlasticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 5e-4,
        n_steps: int = 2048,
        batch_size: int | None = None,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[ChunkedRolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        chunk_len: int | None = None,
        chunk_states: str = "stored",
        teacher: Any = None,
        _init_setup_model: bool = True,
    ) -> None:
        if "chunk_len" in (rollout_buffer_kwargs or {}):
            raise UserError("chunk_len is an argument of PlasticPPO, not one of rollout_buffer_kwargs.")
        batch_size = chosen_batch_size(batch_size, n_steps, env.num_envs if isinstance(env, VecEnv) else 1, chunk_len)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device="cpu" if device == "auto" else device,
            _init_setup_model=False,
        )
        self.chunk_len, self.chunk_states, self.teacher = chunk_len, chunk_states, teacher
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        # Everything derived is made here, since load() fills in the arguments after __init__ and then calls this.
        if not issubclass(self.policy_class, PlasticPolicy):
            raise UserError(f"PlasticPPO trains a PlasticPolicy, got {self.policy_class.__name__}: for others use PPO.")
        self.batch_size = chosen_batch_size(self.batch_size, self.n_steps, self.n_envs, self.chunk_len)
        self._check_arguments()
        chunk_len = chosen_chunk_len(self.n_steps, self.batch_size, self.chunk_len)
        self.rollout_buffer_class = checked_buffer(self.rollout_buffer_class or ChunkedRolloutBuffer)
        kwargs = self.rollout_buffer_kwargs
        self.rollout_buffer_kwargs = kwargs | {"chunk_len": chunk_len}
        try:
            with self.kept_defaults():
                super()._setup_model()
        finally:
            self.rollout_buffer_kwargs = kwargs
        backends = self.policy.snn.resolved_backends()
        if self.verbose >= 1:
            print(f"Plastic scan of the layers: {', '.join(backends)}")
        if self.chunk_states == "refresh":
            self.rollout_buffer.refresh = partial(self._refresh_states, chunk_len=chunk_len)
        self._last_state: State | None = None
        self._lessons: tuple[Any, Lessons] | None = None
        self._lessons_of_teacher()
        self.check_policy()

    def _check_arguments(self) -> None:
        check_choice("chunk_states", self.chunk_states, ("stored", "refresh"))
        check_number("n_epochs", self.n_epochs, at_least=1, integer=True)
        check_number("chunk_len", 1 if self.chunk_len is None else self.chunk_len, at_least=1, integer=True)
        for name in ("gamma", "gae_lambda"):
            check_number(name, getattr(self, name), at_least=0, at_most=1)
        for name in ("ent_coef", "vf_coef"):
            check_number(name, getattr(self, name))
        if self.max_grad_norm != math.inf:  # which says: no clipping
            check_number("max_grad_norm", self.max_grad_norm, above=0)
        check_number("target_kl", 1 if self.target_kl is None else self.target_kl, above=0)
        if isinstance(self.clip_range_vf, int | float):
            check_number("clip_range_vf, unless None,", self.clip_range_vf, above=0)
        self._check_schedules(1.0)

    def _check_schedules(self, remaining: float) -> None:
        """Learning rate and clip ranges, with this fraction of the training remaining."""
        for name in ("learning_rate", "clip_range", "clip_range_vf"):
            value: Any = getattr(self, name)
            if value is not None:
                check_number(name, value(remaining) if callable(value) else value, at_least=0)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        # The last rollout may go beyond the end, where SB3 counts on to negative fractions, and learning rates.
        super()._update_current_progress_remaining(min(num_timesteps, total_timesteps), total_timesteps)

    def _refresh_states(
        self, obs: Obs, episode_starts: torch.Tensor, state: State, chunk_len: int
    ) -> list[torch.Tensor]:
        return self.policy.prepared().chunk_states(obs, episode_starts, state, chunk_len)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_last_state", "teacher", "_lessons"]

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        super()._update_learning_rate(optimizers)  # one rate for all, and its log entry
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            self.policy.scale_rates(optimizer)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        statistics = NormalizationBackup(self._vec_normalize_env)
        found = super()._setup_learn(*args, **kwargs)
        self._check_step(statistics, self._last_obs)  # of a reset
        return found

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """
        Fill the buffer with a rollout, as SB3 does, and carry the policy's state through it.

        Values and log probabilities are computed for all steps of a chunk at once: heads of this size take as long for
        one step as for sixteen. Among the local variables a callback finds those of the chunk before, at first none.

        :param env: the training environments
        :param callback: called at each step, and at the beginning and end of the rollout
        :param rollout_buffer: buffer to fill
        :param n_rollout_steps: steps per environment
        :return: False if the callback stopped the training
        :raises NotFiniteError: if a parameter, an observation, a reward or a membrane is not finite
        """
        assert self._last_obs is not None, "No previous observation was provided"
        assert isinstance(rollout_buffer, ChunkedRolloutBuffer), f"{rollout_buffer} doesn't support a policy's state"
        check_parameters(self.policy.named_parameters(), "Training stops")
        statistics, names = NormalizationBackup(self._vec_normalize_env), state_names(self.policy.networks())
        self._check_step(statistics, self._last_obs)
        self.policy.set_training_mode(False)
        self._last_state = self.policy.initial_state(env.num_envs) if self._last_state is None else self._last_state
        rollout_buffer.reset()
        done = self.num_timesteps / self._total_timesteps  # SB3's own progress is that of the last rollout
        rollout_buffer.teacher_weight = 0.0 if self.teacher is None else Teacher.of(self.teacher).weight_at(1 - done)
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()

        chunk: list[tuple[torch.Tensor, ...]] = []
        stepper = self.policy.prepared(in_place=True)  # what is kept of the state is copied by start_chunk
        new_obs: Any
        for n_steps in range(n_rollout_steps):
            if n_steps % rollout_buffer.chunk_len == 0:
                check_state(self._last_state, names, "Training stops", self._last_episode_starts)
                rollout_buffer.start_chunk(self._last_state)
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            assert self._last_episode_starts is not None
            if not stepper.is_current():  # a callback has given the policy other parameters
                stepper = self.policy.prepared(in_place=True)
            with torch.no_grad():
                obs_tensor = obs_as_tensor(self._last_obs, self.device)
                episode_starts = torch.as_tensor(self._last_episode_starts, dtype=torch.bool, device=self.device)
                actions_tensor, latents, state = stepper.sample(obs_tensor, self._last_state, episode_starts)
            teacher_actions = self._teacher_actions(rollout_buffer.teacher_weight)
            actions = actions_tensor.cpu().numpy().reshape((-1, *(self.action_space.shape or ())))
            clipped_actions = actions
            if isinstance(self.action_space, spaces.Box):
                if self.policy.squash_output:
                    clipped_actions = self.policy.unscale_action(clipped_actions)
                else:
                    clipped_actions = np.clip(actions, self.action_space.low, self.action_space.high)

            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self._check_step(statistics, new_obs, rewards)
            rewards = rewards.astype(np.result_type(rewards, np.float32), copy=False)  # SubprocVecEnv casts nothing
            self.num_timesteps += env.num_envs
            # Callbacks read our local variables: keep SB3's names.
            callback.update_locals(locals())
            if not callback.on_step():
                # The state has moved on in place: the next training goes on from here, and knows who starts afresh.
                self._last_obs, self._last_episode_starts, self._last_state = new_obs, dones, state
                return False
            self._update_info_buffer(infos, dones)
            self._bootstrap_truncated(rewards, dones, infos, state)
            rollout_buffer.add(self._last_obs, actions, rewards, self._last_episode_starts, teacher_actions)
            chunk.append((*latents, actions_tensor))
            if len(chunk) == rollout_buffer.chunk_len:
                with torch.no_grad():
                    values, log_probs, _ = self.policy.evaluate_latents(*map(torch.cat, zip(*chunk, strict=True)))
                rollout_buffer.add_evaluation(values, log_probs)
                chunk.clear()
            self._last_obs, self._last_episode_starts, self._last_state = new_obs, dones, state

        with torch.no_grad():
            episode_starts = torch.as_tensor(dones, dtype=torch.bool, device=self.device)
            values = self.policy.predict_values(obs_as_tensor(new_obs, self.device), state, episode_starts)
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _teacher_actions(self, weight: float) -> np.ndarray | None:
        """What the teacher would do with the last observations, [B, ...]; None without, or when it no longer counts."""
        lessons = self._lessons_of_teacher()
        if lessons is None or not weight:
            if lessons is not None:
                lessons.forget()
            return None
        return lessons.actions(as_returned(self._last_obs, self.env), self._last_episode_starts)  # type: ignore[arg-type]

    def _lessons_of_teacher(self) -> Lessons | None:
        """Of the attribute ``teacher`` as it is now: it can be set between two trainings."""
        if self.teacher is None:
            self._lessons = None
        elif self._lessons is None or self._lessons[0] is not self.teacher:
            self._lessons = self.teacher, Teacher.of(self.teacher).lessons(self.action_space)
        return None if self._lessons is None else self._lessons[1]

    def _check_step(self, statistics: NormalizationBackup, obs: Obs, rewards: np.ndarray | None = None) -> None:
        try:
            statistics.check_step(obs, rewards)
        except UserError:
            self._last_obs = None  # training can go on from here, after a reset
            raise

    def _bootstrap_truncated(
        self, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]], state: State
    ) -> None:
        """Where an episode was cut short, add the value of what would have followed (SB3 issue 633)."""
        rows = [int(i) for i in np.flatnonzero(dones) if infos[i].get("TimeLimit.truncated", False)]
        rows = [i for i in rows if infos[i].get("terminal_observation") is not None]
        if not rows:
            return
        last_obs = stack_obs([infos[i]["terminal_observation"] for i in rows])
        try:
            check_observation(last_obs, rows)
        except UserError:
            self._last_obs = None  # the environment has been reset: training goes on after another reset
            raise
        obs, _ = self.policy.obs_to_tensor(last_obs)
        with torch.no_grad():
            values = self.policy.predict_values(obs, tuple(tensor[rows] for tensor in state))
        rewards[rows] += self.gamma * values.cpu().numpy().flatten()

    def train(self) -> None:
        """
        SB3's update, with gradients clipped per parameter group, and the network's statistics logged.

        :raises NotFiniteError: if a schedule, all gradients, or a parameter is not finite
        """
        self._check_schedules(self._current_progress_remaining)
        clipping = GroupClipping(self.max_grad_norm)
        hook = self.policy.optimizer.register_step_pre_hook(clipping)
        self.max_grad_norm = math.inf  # SB3 clips all parameters together: it is given a bound that nothing exceeds
        try:
            super().train()
        finally:
            self.max_grad_norm = clipping.bound
            hook.remove()
        clipping.check()
        check_parameters(self.policy.named_parameters(), "Training stops")
        for name, norms in clipping.norms.items():
            self.logger.record(f"train/grad_norm_{name}", float(np.mean(norms)))
        self.logger.record("train/dropped_updates", clipping.dropped)
        if self.teacher is not None:
            self.logger.record("train/teacher_weight", self.rollout_buffer.teacher_weight)
            if self.rollout_buffer.teacher_weight:
                self.logger.record("train/teacher_kl", teacher_kl(self.policy, self.rollout_buffer))
        if self.policy.beside is not None:
            rollout = nominal_transitions(self.policy, self.rollout_buffer)
            for name, value in self.policy.beside.learn(rollout, self._current_progress_remaining).items():
                self.logger.record(f"adaptive/{name}", value, exclude="stdout")
        for name, value in snn_statistics(self.policy, self.rollout_buffer).items():
            self.logger.record(name, value, exclude="stdout")  # some twenty lines: for TensorBoard and files

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """
        As in SB3. By default a run's name in TensorBoard tells rule, modulation and seed, too. In the end, and before
        the model is saved, an adaptive layer is calibrated.
        """
        check_number("log_interval", 1 if log_interval is None else log_interval, at_least=1, integer=True)
        name = tb_log_name or run_name(self, self.policy)
        try:
            return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)
        finally:
            self.settle()

    def settle(self) -> None:
        """Calibrate the adaptive layer, if its forward model has learned since it was calibrated."""
        found = {} if self.policy.beside is None else self.policy.beside.settle(self.get_vec_normalize_env())
        for name, value in found.items():
            self.logger.record(f"adaptive/nominal/{name}", value, exclude="stdout")
        if found:
            self.logger.dump(self.num_timesteps)

    def save(
        self,
        path: str | Path | BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """As in SB3, but atomic, and with an adaptive layer that is calibrated."""
        self.settle()
        super().save(path, exclude, include)
