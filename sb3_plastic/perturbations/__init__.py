"""Perturbed locomotion: perturbations as data, environments, a fast vector environment, suites.

This package knows nothing of spiking networks: it perturbs and judges any policy.
"""

from sb3_plastic.perturbations.registration import ROBOTS, env_id, register_envs
from sb3_plastic.perturbations.spec import (
    Distribution,
    Perturbation,
    PerturbationError,
    Schedule,
    from_json,
    from_yaml,
    load,
    parse,
    to_json,
    to_yaml,
)

__all__ = [
    "ROBOTS",
    "Distribution",
    "Perturbation",
    "PerturbationError",
    "Schedule",
    "env_id",
    "from_json",
    "from_yaml",
    "load",
    "parse",
    "register_envs",
    "to_json",
    "to_yaml",
]
