"""What `sb3-plastic tune` draws of our algorithms, and how that becomes their arguments."""

from __future__ import annotations

from typing import Any

from optuna.trial import Trial

Params = dict[str, Any]


def sample_plastic_ppo(trial: Trial, n_actions: int, n_envs: int, additional_args: Params) -> Params:
    """
    Draw hyperparameters of PlasticPPO. Rule, modulation and sizes stay as configured: they are what one compares.

    :param trial: trial to draw from
    :param n_actions: number of continuous actions, 0 if they are discrete
    :param n_envs: number of environments
    :param additional_args: not used
    """
    trial.suggest_float("learning_rate", 1e-4, 2e-3, log=True)
    trial.suggest_int("n_steps_pow", 6, 9)
    trial.suggest_int("batch_size_pow", 7, 10)
    trial.suggest_int("chunk_len_pow", 2, 5)  # divides every n_steps and batch_size above
    trial.suggest_categorical("n_epochs", [5, 10, 20])
    trial.suggest_float("one_minus_gamma", 1e-3, 0.1, log=True)
    trial.suggest_float("one_minus_gae_lambda", 0.01, 0.2, log=True)
    trial.suggest_categorical("clip_range", [0.1, 0.2, 0.3])
    trial.suggest_float("ent_coef", 1e-6, 1e-2, log=True)
    trial.suggest_float("policy.plasticity_lr_scale", 0.1, 10, log=True)
    trial.suggest_float("policy.alpha_init", 0.01, 0.5, log=True)
    trial.suggest_float("policy.eta_init", 0.01, 0.5, log=True)
    trial.suggest_float("policy.rho", 2e-3, 0.2, log=True)
    if n_actions:
        trial.suggest_float("policy.log_std_init", -2.0, 0.0)
    return convert(trial.params)


def sample_plastic_es(trial: Trial, n_actions: int, n_envs: int, additional_args: Params) -> Params:
    """
    Draw hyperparameters of PlasticES. Its strategy stays as configured, beside what stays for PlasticPPO.

    :param trial: trial to draw from
    :param n_actions: not used
    :param n_envs: not used
    :param additional_args: not used
    """
    trial.suggest_float("learning_rate", 1e-3, 0.3, log=True)
    trial.suggest_float("sigma", 0.02, 0.3, log=True)
    trial.suggest_int("population_size_pow", 4, 7)
    trial.suggest_float("policy.alpha_init", 0.01, 0.5, log=True)
    trial.suggest_float("policy.eta_init", 0.01, 0.5, log=True)
    trial.suggest_float("policy.rho", 2e-3, 0.2, log=True)
    return convert(trial.params)


def convert(sampled: Params) -> Params:
    """
    What was drawn, as arguments of the algorithm.

    :param sampled: as the functions above draw it: ``<name>_pow`` is a power of 2, ``one_minus_<name>`` a
        difference from 1, ``policy.<name>`` an argument of the policy
    """
    params: Params = {}
    policy_kwargs: Params = {}
    for name, value in sampled.items():
        if name.startswith("policy."):
            policy_kwargs[name.removeprefix("policy.")] = value
        elif name.endswith("_pow"):
            params[name.removesuffix("_pow")] = 2**value
        elif name.startswith("one_minus_"):
            params[name.removeprefix("one_minus_")] = 1 - value
        else:
            params[name] = value
    return params | {"policy_kwargs": policy_kwargs}
