"""The algorithms that are known by name: RL Zoo's names, where their classes are, and how their files are recognised.

Classes are named, not imported: who reads this table needs neither sb3-contrib nor our networks.
"""

from __future__ import annotations

import pkgutil
from typing import Any, NamedTuple

from sb3_plastic.errors import UserError, check_choice


class Algorithm(NamedTuple):
    """
    An algorithm, and how its files are recognised.

    :param cls: where its class is, ``module:name``
    :param policies: module of its policies
    :param attribute: a key that, among algorithms with the same policies, only its files have
    """

    cls: str
    policies: str
    attribute: str = "policy_class"


ALGORITHMS = {
    # Of those that fit a file, the first is taken.
    "plastic_ppo": Algorithm("sb3_plastic.ppo:PlasticPPO", "sb3_plastic.policies", "chunk_len"),
    "plastic_es": Algorithm("sb3_plastic.es.algorithm:PlasticES", "sb3_plastic.policies", "population_size"),
    "ppo_lstm": Algorithm("sb3_contrib:RecurrentPPO", "sb3_contrib.common.recurrent.policies"),
    "tqc": Algorithm("sb3_contrib:TQC", "sb3_contrib.tqc.policies"),
    "trpo": Algorithm("sb3_contrib:TRPO", "stable_baselines3.common.policies", "cg_max_steps"),
    "ppo": Algorithm("stable_baselines3:PPO", "stable_baselines3.common.policies", "clip_range"),
    "a2c": Algorithm("stable_baselines3:A2C", "stable_baselines3.common.policies", "normalize_advantage"),
    "sac": Algorithm("stable_baselines3:SAC", "stable_baselines3.sac.policies"),
    "td3": Algorithm("stable_baselines3:TD3", "stable_baselines3.td3.policies"),  # DDPG's files, too: it is a TD3
    "crossq": Algorithm("sb3_contrib:CrossQ", "sb3_contrib.crossq.policies"),
    "ars": Algorithm("sb3_contrib:ARS", "sb3_contrib.ars.policies"),
    "dqn": Algorithm("stable_baselines3:DQN", "stable_baselines3.dqn.policies"),
    "qrdqn": Algorithm("sb3_contrib:QRDQN", "sb3_contrib.qrdqn.policies"),
}
"""Algorithms by RL Zoo's names."""


def algorithm_class(name: str) -> type[Any]:
    """
    Import the class of an algorithm.

    :param name: a name in `ALGORITHMS`
    :raises UserError: on an unknown name, or if its package is not installed
    """
    check_choice("algorithm", name, ALGORITHMS)
    try:
        cls: type[Any] = pkgutil.resolve_name(ALGORITHMS[name].cls)
    except ImportError as error:
        raise UserError(f"{name} needs a package that is not installed: {error}. pip install sb3-contrib") from error
    return cls
