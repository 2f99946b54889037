"""What the search of the learning study compares: as many candidates for each agent, and four more of plasticity."""

from __future__ import annotations

SEARCHED = ("oja + simple", "static SNN", "MLP")
"""Agents with a search of their own; RL Zoo tuned its PPO already."""


def candidates(env_id: str, label: str) -> dict[str, list[str]]:
    """
    Candidate settings by name, as arguments of ``-params``.

    :param env_id: environment
    :param label: agent, one of ``SEARCHED``
    """
    falling, spiking = "learning_rate:'lin_1e-3'", label != "MLP"
    policy = {
        "oja + simple": "rule='oja'",
        "static SNN": "rule='none'",
        "MLP": "ortho_init=True, net_arch=dict(pi=[64, 64], vf=[64, 64])",  # all: RL Zoo merges those of ours alone
    }[label]
    if env_id == "Ant-v5":
        # HalfCheetah's choice, and three ways to smaller steps: a lower rate, fewer epochs, more exploration noise.
        tried = {
            "lin_1e-3": [falling],
            "lin_3e-4": ["learning_rate:'lin_3e-4'"],
            "4_epochs": [falling, "n_epochs:4"],
            "noise": ["learning_rate:'lin_3e-4'", f"policy_kwargs:dict({policy}, log_std_init=0)"],
        }
        if label == "oja + simple":
            # The critic is an MLP, and MLPs want the lower rate here. Or is it what plasticity adds at the start?
            slow = f"policy_kwargs:dict({policy}, critic_lr_scale=0.3)"
            small = f"policy_kwargs:dict({policy}, alpha_init=0.05)"
            tried |= {"slow_critic": [falling, slow], "4_epochs_slow_critic": [falling, "n_epochs:4", slow]}
            tried |= {"small": [falling, small], "4_epochs_small": [falling, "n_epochs:4", small]}
        return tried
    # Learning rates, constant and falling; with the best of these a shorter horizon, fewer epochs, and more ticks or
    # smaller minibatches.
    rates = (5e-4 if spiking else 1e-3, "lin_5e-4", "lin_1e-3", "lin_2e-3")
    both = {str(rate): [f"learning_rate:{rate!r}"] for rate in rates} | {
        "gamma": [falling, "gamma:0.98"],
        "4_epochs": [falling, "n_epochs:4"],
    }
    if spiking:
        return both | {"4_ticks": [falling, f"policy_kwargs:dict({policy}, n_ticks=4)"]}
    return both | {"batch": [falling, "batch_size:128"]}
