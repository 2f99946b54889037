"""Ids of the perturbed environments. Importing or registering loads no MuJoCo."""

from __future__ import annotations

import importlib

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

ROBOTS = ("HalfCheetah", "Ant", "Hopper", "Walker2d", "Humanoid")

# What the stock observation shows of perturbations: contact forces contain pushes, cinert and cvel masses,
# qfrc_actuator the strength of motors. The other three robots observe only angles and velocities; for them, latent is
# the plain variant.
LATENT: dict[str, dict[str, bool]] = {
    "Ant": {"include_cfrc_ext_in_observation": False},
    "Humanoid": {
        "include_cinert_in_observation": False,
        "include_cvel_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
}


def env_id(robot: str, *, latent: bool = False) -> str:
    """
    The id of a perturbed environment.

    :param robot: one of `ROBOTS`
    :param latent: the variant whose observation does not show the perturbation
    """
    return f"sb3_plastic/Perturbed{robot}{'Latent' if latent else ''}-v0"


def register_envs() -> None:
    """Register ``sb3_plastic/PerturbedAnt-v0``, ``sb3_plastic/PerturbedAntLatent-v0`` and so on; twice does no harm."""
    for robot in ROBOTS:
        for latent in (False, True):
            name = env_id(robot, latent=latent)
            if name not in gym.registry:
                gym.register(
                    name,
                    entry_point=f"sb3_plastic.perturbations.envs:Perturbed{robot}Env",
                    max_episode_steps=1000,
                    reward_threshold=gym.spec(f"{robot}-v5").reward_threshold,
                    kwargs=dict(LATENT.get(robot, {})) if latent else {},
                )


def registered(name: str) -> EnvSpec:
    """
    What is registered of an environment. Of ``module:Env-v0`` the module is imported first, as ``gym.make`` does.

    :param name: an id, maybe with the module that registers it
    :raises ImportError: if there is no such module
    :raises gymnasium.error.Error: if nothing of that id is registered
    """
    register_envs()
    module, _, own = name.rpartition(":")
    if module:
        importlib.import_module(module)
    return gym.spec(own)
