"""Perturbed locomotion: perturbations as data, environments, a fast vector environment, suites.

It knows nothing of spiking networks: it perturbs any policy. In reading order: `spec` (the data), `schedules` (when),
`kinds` (what a kind is in `base`; all of them in `bodies`, `world`, `signals` and `wiring`), `robot` (a model that can
be restored), `checks`, `perturber` (one environment's episode), `envs`, `wrapper`, `batched_envs` and `vec_env` (many
at once), `suites`, `describe`, `render`, `cli`.

What is imported here needs no MuJoCo; `envs`, `wrapper` and `vec_env` do.
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
from sb3_plastic.perturbations.suites import SUITES, Scenario, Suite, find_scenario, load_suite, suite_names

__all__ = [
    "ROBOTS",
    "SUITES",
    "Distribution",
    "Perturbation",
    "PerturbationError",
    "Scenario",
    "Schedule",
    "Suite",
    "env_id",
    "find_scenario",
    "from_json",
    "from_yaml",
    "load",
    "load_suite",
    "parse",
    "register_envs",
    "suite_names",
    "to_json",
    "to_yaml",
]
