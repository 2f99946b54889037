"""Distillation: a spiking policy learns to act as a trained one does, without reward.

DAgger (Ross, Gordon & Bagnell, 2011): the student acts, the teacher says what it would have done in its place, and
the student learns from all that it was told lately. The loss is that of :mod:`sb3_plastic.teacher`, with
back-propagation through time. On HalfCheetah that is better than what PPO finds from scratch: docs/results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import configure_logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_plastic.distillation.demonstrations import CHUNK, Demonstrations, Student, applicable
from sb3_plastic.errors import UserError, check_number
from sb3_plastic.export import Normalization
from sb3_plastic.observations import channels_first, map_obs
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.ppo import PlasticPPO
from sb3_plastic.progress import Progress
from sb3_plastic.teacher import Lessons, Teacher, divergence
from sb3_plastic.wrappers import vectorised

N_TICKS = 4
"""Ticks per step of a student, unless ``policy_kwargs`` says otherwise. With 2 it follows its teacher less closely."""

ROUND = 2048  # steps of all environments between two rounds of updates
KEPT = 60  # rounds that are learned from
LED = 5  # rounds in which the teacher acts, too, less and less
UPDATES = 60  # per round
MIXED = 8  # rounds in a minibatch, and sequences of each
STILL = 0.01  # share of the teacher's variance below which a round of it says nothing of what an observation may be
LEARNING_RATE = 1e-3  # of Adam, falling to 0
MAX_GRAD_NORM = 1.0


def distill(
    teacher: Any,
    env: VecEnv | gym.Env[Any, Any],
    n_steps: int = 200_000,
    *,
    seed: int = 0,
    policy: str | type[PlasticPolicy] = "PlasticPolicy",
    policy_kwargs: dict[str, Any] | None = None,
    noise: float = 0.1,
    tensorboard_log: str | None = None,
    progress_bar: bool = False,
) -> PlasticPPO:
    """
    Teach a spiking policy to act as a trained one.

    :param teacher: a trained model, or what else :class:`~sb3_plastic.teacher.Teacher` takes as one; a teacher, or its
        arguments, of which ``weight`` and ``until`` are for PPO
    :param env: environments with observations as they are. Their VecNormalize is made here, for boxes that are no
        images: with the statistics of the first round, in which the teacher acts, but for what hardly changes in it, by
        the teacher's ``normalization``
    :param n_steps: steps of all environments together; at least two rounds, of 2048 steps or what is near with this
        number of environments
    :param seed: of environments, network and training
    :param policy: as PlasticPPO takes it
    :param policy_kwargs: of the policy; ``n_ticks`` is 4 by default
    :param noise: standard deviation of what is added to continuous actions while it learns, in units of half the range
    :param tensorboard_log: folder for TensorBoard, of the model, too: ``distill/loss``, and ``distill/lead``, how often
        the teacher acts; None: nothing is written
    :param progress_bar: show one, with the loss
    :return: a model in its environments. ``learn`` goes on with PPO, for which critic and exploration noise are new
    :raises UserError: on a number out of range, an unknown argument, or a student with an adaptive layer
    """
    venv = vectorised(env)
    per_env = max(1, ROUND // venv.num_envs // CHUNK) * CHUNK
    per_round = per_env * venv.num_envs
    rounds = n_steps // per_round - 1
    if rounds < 1:
        raise UserError(
            f"With {venv.num_envs} environments n_steps is at least {2 * per_round}: a round of the teacher, and one "
            f"of the student; got {n_steps}."
        )
    check_number("noise", noise, at_least=0)
    check_number("seed", seed, at_least=0, integer=True)
    seed = int(seed)  # of numpy's numbers torch takes none
    lessons, rng = Teacher.of(teacher).lessons(venv.action_space), np.random.default_rng(seed)
    venv.seed(seed)
    normalize = normalized(venv, lessons.normalization)
    policy_kwargs = {"n_ticks": N_TICKS, **(policy_kwargs or {})}
    model = PlasticPPO(policy, normalize, seed=seed, policy_kwargs=policy_kwargs, tensorboard_log=tensorboard_log)
    if model.policy.beside is not None:
        raise UserError(
            "A student has no rollouts of its own from which an adaptive layer could learn (policy_kwargs: adaptive). "
            "Distil without it, then put the layer around the student: `sb3-plastic adapt`, AdaptivePolicy.fit."
        )
    optimizer = torch.optim.Adam(model.policy.actor_parameters(), lr=LEARNING_RATE)
    with Progress(progress_bar) as progress, closing(configure_logger(0, tensorboard_log, "distill")) as logger:
        progress.begin("teacher", per_round)
        watch(lessons, normalize, per_env, progress.tick)
        settle(normalize, lessons.normalization, n_steps)
        student, told = Student(model.policy, normalize, lessons, noise, rng), deque[Demonstrations](maxlen=KEPT)
        progress.begin("student", rounds * per_round)
        for i in range(rounds):
            lead = max(0.0, 1 - i / LED)
            told.append(student.go_on(per_env, lead, progress.tick))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - i / rounds)
            loss = np.mean([update(model.policy, optimizer, minibatch(told, rng)) for _ in range(UPDATES)])
            logger.record("distill/loss", loss)
            logger.record("distill/lead", lead)
            logger.dump((i + 2) * per_round)
            progress.say(f"loss {loss:.3g}")
    normalize.training = normalize.norm_reward = True  # as PPO would have it
    return model


def normalized(venv: VecEnv, known: Normalization | None) -> VecNormalize:
    """
    Environments whose observations are normalised where they are boxes of numbers; images are turned as SB3 does.

    :param venv: with observations as they are
    :param known: the teacher's statistics: what they leave alone stays as it is
    """
    venv = channels_first(venv)
    if known is not None and known.mean:
        env = known.around(venv)
        env.training = True
        return env
    space = venv.observation_space
    of_dict = isinstance(space, spaces.Dict)
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    keys = [name for name, part in parts.items() if isinstance(part, spaces.Box) and not is_image_space(part)]
    return VecNormalize(venv, norm_obs=bool(keys), norm_reward=False, norm_obs_keys=keys if of_dict and keys else None)


def settle(env: VecNormalize, known: Normalization | None, n_steps: int) -> None:
    """
    Fix the statistics: what was said of observations in former rounds has to stay true.

    What an Ant feels when its torso lies on the ground is 0 throughout a round: by the round's own statistics the
    smallest change of it would be the largest of all. By the teacher's, of a training that began with falls, what an
    Ant reads while it walks hardly changes, and students fall more often (docs/results/learning).

    :param env: with the statistics of the first round
    :param known: the teacher's
    :param n_steps: how many steps the statistics shall count in a training that follows
    """
    env.training = False
    if not env.norm_obs:
        return
    for key, rms in env.obs_rms.items() if isinstance(env.obs_rms, dict) else [("", env.obs_rms)]:
        if known is not None and key in known.mean:
            still = rms.var < STILL * known.variance[key]
            rms.mean = np.where(still, known.mean[key], rms.mean)
            rms.var = np.where(still, known.variance[key], rms.var)
        rms.count = n_steps


def watch(lessons: Lessons, env: VecNormalize, n_steps: int, tick: Callable[[int], None]) -> None:
    """
    The teacher acts, and the statistics of the observations are taken.

    :param lessons: the teacher
    :param env: normalises
    :param n_steps: per environment
    :param tick: called after each step with the number of transitions
    """
    env.reset()
    starts = np.ones(env.num_envs, bool)
    for _ in range(n_steps):
        actions = lessons.actions(env.get_original_obs(), starts)
        starts = env.step(applicable(actions, env.action_space))[2]
        tick(env.num_envs)


def minibatch(told: Sequence[Demonstrations], rng: np.random.Generator) -> Demonstrations:
    """Some sequences of some rounds, drawn with replacement. :param told: rounds :param rng: draws"""
    rounds = [told[i] for i in rng.integers(len(told), size=MIXED).tolist()]
    drawn = [torch.from_numpy(rng.integers(part.starts.shape[1], size=MIXED)) for part in rounds]
    return Demonstrations.joined([part.picked(index) for part, index in zip(rounds, drawn, strict=True)])


def update(policy: PlasticPolicy, optimizer: torch.optim.Optimizer, told: Demonstrations) -> float:
    """
    One step of the optimiser.

    :param policy: the student
    :param optimizer: of its actor
    :param told: sequences
    :return: the loss before it
    """
    obs = map_obs(lambda value: value.flatten(0, 1), told.obs)
    latent, _, _ = policy.stepper().latents(obs, told.starts, told.state)
    distribution, actions = policy._get_action_dist_from_latent(latent), told.actions.flatten(0, 1)
    loss = divergence(distribution, actions, policy.action_space).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.actor_parameters(), MAX_GRAD_NORM)
    optimizer.step()
    return loss.item()
