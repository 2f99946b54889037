"""An MLP that walks as a spiking agent does: is a spiking agent sturdy by its network, or by its gait?

python scripts/gait_in_mlp.py docs/results/learning/agents/exported/HalfCheetah-v5-seed0 --seed 0 --out gait/0
sb3-plastic study robustness --out study --arms frozen --agents "MLP, gait of the plastic=gait/0"

DAgger as in `sb3-plastic distill`, with the same numbers, but for the student: SB3's PPO with an MLP of 64-64 units.
"""

from __future__ import annotations

import argparse
from collections import deque
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sb3_plastic.distillation.cli import judge, write
from sb3_plastic.distillation.distilling import (
    KEPT,
    LEARNING_RATE,
    LED,
    MAX_GRAD_NORM,
    MIXED,
    ROUND,
    UPDATES,
    watch,
)
from sb3_plastic.evaluation.environment import TrainedIn, find_training
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.export import Normalization
from sb3_plastic.observations import Obs
from sb3_plastic.teacher import Teacher, divergence

ENV, N_ENVS, NOISE, SAMPLES = "HalfCheetah-v5", 8, 0.1, 128  # of each round in a minibatch: 8 sequences of 16


def main() -> None:
    """Distil, write and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, help="an exported folder, or a run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the student")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    teacher, normalization = load_model(args.teacher)[0], find_training(args.teacher).normalization
    assert normalization is not None
    with closing(make_vec_env(ENV, n_envs=N_ENVS, seed=args.seed)) as venv:
        env = VecNormalize(venv, norm_reward=False)
        student = distilled(Teacher(teacher, normalization=normalization), env, args.steps, args.seed)
        write(student, env, TrainedIn(ENV), args.out, "ppo")
        for name, model, seen in (
            ("teacher", teacher, normalization.around(venv)),
            ("student", student, Normalization.of(env).around(venv)),
        ):
            print(f"{name}: {np.mean(judge(model, seen, 20, 1000 + args.seed)):.0f}")


def distilled(teacher: Teacher, env: VecNormalize, n_steps: int, seed: int) -> PPO:
    """The student. :param env: whose statistics are taken :param n_steps: of all environments together"""
    lessons, rng = teacher.lessons(env.action_space), np.random.default_rng(seed)
    watch(lessons, env, ROUND // N_ENVS, lambda _: None)
    env.training = False
    sizes = dict(pi=[64, 64], vf=[64, 64])
    model = PPO("MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=dict(log_std_init=-1, net_arch=sizes))
    policy, told = model.policy, deque[tuple[Tensor, Tensor]](maxlen=KEPT)
    parameters = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    obs: Obs = env.reset()
    starts = np.ones(N_ENVS, bool)
    rounds = n_steps // ROUND - 1
    for i in range(rounds):
        seen, said = [], []
        for _ in range(ROUND // N_ENVS):
            teachers = lessons.actions(env.get_original_obs(), starts)
            seen.append(torch.as_tensor(obs))
            said.append(torch.as_tensor(teachers))
            own = model.predict(obs, deterministic=True)[0]
            led = rng.random(N_ENVS) < max(0.0, 1 - i / LED)
            applied = np.where(led[:, None], teachers, own) + NOISE * rng.standard_normal(own.shape)
            obs, _, starts, _ = env.step(np.clip(applied, -1, 1).astype(np.float32))
        told.append((torch.cat(seen), torch.cat(said)))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - i / rounds)
        for _ in range(UPDATES):
            parts = [told[j] for j in rng.integers(len(told), size=MIXED).tolist()]
            drawn = [torch.from_numpy(rng.integers(ROUND, size=SAMPLES)) for _ in parts]
            states, actions = (torch.cat([part[k][n] for part, n in zip(parts, drawn, strict=True)]) for k in (0, 1))
            loss = divergence(policy.get_distribution(states), actions, env.action_space).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
            optimizer.step()
    return model


if __name__ == "__main__":
    main()
