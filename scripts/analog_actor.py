"""PlasticPPO with an analog network in place of the spiking one: what costs return, spikes or the filter behind them?

python scripts/analog_actor.py --neurons analog analog --ticks 1 --readout rate     # a multilayer perceptron
python scripts/analog_actor.py --neurons analog analog --ticks 2 --readout leaky    # with the recipe's readout
python scripts/analog_actor.py --neurons analog lif --ticks 2 --readout leaky       # spikes in the second layer

All else is the recipe of HalfCheetah without plasticity; exploration noise follows a schedule.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic import PlasticPPO
from sb3_plastic.exploration import LogStdSchedule
from sb3_plastic.snn.neurons import NEURONS

ENV = "HalfCheetah-v5"


def analog(v: Any, z: Any, current: Any, beta: Any, threshold: float, fire: Any) -> tuple[Any, Any]:
    """A neuron without memory and spikes: it passes tanh of its current on."""
    return current, torch.tanh(current)


NEURONS["analog"] = analog


def main() -> None:
    """Train and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", nargs=2, choices=NEURONS, required=True, help="of both layers")
    parser.add_argument("--ticks", type=int, required=True, help="per step")
    parser.add_argument("--readout", choices=("leaky", "rate"), required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with closing(VecNormalize(make_vec_env(ENV, 8, seed=args.seed))) as env:
        model = trained(env, args.neurons, args.ticks, args.readout, args.steps, args.seed)
        print(f"training: {safe_mean([episode['r'] for episode in model.ep_info_buffer or ()]):.0f}")
        env.training = env.norm_reward = False
        for name, deterministic in (("exploring", False), ("deterministic", True)):
            print(f"{name}: {evaluate_policy(model, env, 20, deterministic=deterministic)[0]:.0f}")


def trained(env: VecNormalize, neurons: Sequence[str], ticks: int, readout: str, steps: int, seed: int) -> PlasticPPO:
    """A model with two layers of the named neurons. Analog ones start as those of a perceptron do."""
    spiking = "lif" in neurons
    network = dict(neuron=neurons, n_ticks=ticks, readout=readout, rule="none", gain=None if spiking else 1.4)
    model = PlasticPPO(
        "PlasticPolicy",
        env,
        n_steps=256,
        batch_size=512,
        chunk_len=16,
        learning_rate=lambda remaining: 1e-3 * remaining,
        seed=seed,
        device="cpu",
        policy_kwargs=network,
    )
    return model.learn(steps, callback=LogStdSchedule(start=-1.0, end=-1.3))


if __name__ == "__main__":
    main()
