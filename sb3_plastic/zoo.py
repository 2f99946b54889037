"""
Registration with RL Zoo: importing this module is all it takes, also in a script of your own::

    import sb3_plastic.zoo
    from rl_zoo3.train import train

    train()  # knows --algo plastic_ppo and plastic_es, and finds their configurations

``policy_kwargs`` of our algorithms are *merged*: ``-params "policy_kwargs:dict(rule='none')"``, or a trial of the
hyperparameter search, changes only what it names; the rest of the configuration's ``policy_kwargs`` stays. (RL Zoo
replaces the whole mapping, so a search would tune another network than the one that is trained.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stdout
from copy import copy
from io import StringIO
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import yaml

try:
    import rl_zoo3.exp_manager
    import rl_zoo3.train
    from optuna import Trial, TrialPruned
    from optuna.trial import FrozenTrial
    from rl_zoo3.exp_manager import ExperimentManager as HostManager
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    from rl_zoo3.utils import get_wrapper_class
except ImportError as error:
    raise ImportError(f'RL Zoo is missing or incomplete ({error}): pip install "sb3_plastic[zoo]"') from error

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_plastic import journal, sampling, tuning
from sb3_plastic.algorithms import algorithm_class
from sb3_plastic.errors import UserError, unknown
from sb3_plastic.extensions import import_flags
from sb3_plastic.files import own_folder
from sb3_plastic.safe import was_normalised
from sb3_plastic.yaml_numbers import NUMBER
from sb3_plastic.zoo_callbacks import (
    AtomicCheckpointCallback,
    AtomicEvalCallback,
    AtomicVecNormalizeCallback,
    save_statistics,
)

Params = dict[str, Any]


def config_file(algo: str) -> Path:
    """Our configuration of an algorithm: inside an installed package, beside it in a source tree."""
    package = Path(__file__).parent
    folder = next(folder for folder in (package / "zoo_configs", package.parent / "zoo_configs") if folder.is_dir())
    return folder / f"{algo}.yml"


def rl_zoo_file(algo: str) -> Path:
    """RL Zoo's own configuration of an algorithm, which lists robots under their former versions."""
    return Path(rl_zoo3.__file__).parent / "hyperparams" / f"{algo}.yml"


def env_wrapper(config: Mapping[str, Any]) -> Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None:
    """What puts an environment into all of its ``env_wrapper``. :param config: of a training, ``config.yml``"""
    wrap: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None = get_wrapper_class(dict(config))
    return wrap


SAMPLERS: dict[str, Callable[[Trial, int, int, Params], Params]] = {
    "plastic_es": sampling.sample_plastic_es,
    "plastic_ppo": sampling.sample_plastic_ppo,
}
"""Our algorithms, each with what draws its hyperparameters; ``zoo_configs/<name>.yml`` has its configuration."""


class Hyperparameters(dict[str, Any]):
    """Hyperparameters whose ``update`` merges ``policy_kwargs``; that of a plain dict would replace them."""

    def copy(self) -> Hyperparameters:
        """As of a dict."""
        return Hyperparameters(self)

    def update(self, changes: Params) -> None:  # type: ignore[override]
        """
        :param changes: hyperparameters to overwrite, and ``policy_kwargs`` to merge
        """
        merged = (self.get("policy_kwargs") or {}) | changes.get("policy_kwargs", {})
        super().update({**changes, "policy_kwargs": merged})


class ExperimentManager(HostManager):
    """
    RL Zoo's, which finds our configurations, and merges ``policy_kwargs``. Other algorithms see no difference but one:
    a training can go on from a checkpoint, which has the statistics of VecNormalize with it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_ours = self.algo in SAMPLERS
        self.given: Params = dict(self.custom_hyperparams or {})  # before they are merged with a configuration
        if self.is_ours and kwargs.get("config") is None:
            self.config = str(config_file(self.algo))
        self.of_model: Params = {}  # what comes from the model that a training goes on with
        self._refused: BaseException | None = None  # what has ended the last trial of a search
        self._undo: ExitStack | None = None  # what a refusal takes back, while an experiment is set up
        if self.trial_id == 0:
            vars(self).update(trial_id="0")  # RL Zoo takes the number 0 for none

    def read_hyperparameters(self) -> tuple[Params, Params]:
        """As in RL Zoo, which prints them all; here, only with ``--verbose 2``."""
        check_config(Path(self.config), self.env_name.gym_id)
        changes = self.custom_hyperparams
        if self.is_ours and changes and "policy_kwargs" in changes:
            merged = self._policy_kwargs(custom_hyperparams=None) | evaluated(changes["policy_kwargs"])
            self.custom_hyperparams = {**changes, "policy_kwargs": merged}
        if self.verbose > 1:
            return super().read_hyperparameters()
        with redirect_stdout(StringIO()) as printed:
            found = super().read_hyperparameters()
        if self.verbose:
            print(printed.getvalue().split("Default hyperparameters")[0], end="")
        return found

    def load_trial(self, storage: str, study_name: str, trial_id: int | None = None, convert: bool = True) -> Params:
        """As in RL Zoo."""
        trial_id = None if trial_id is None else int(trial_id)
        params = super().load_trial(storage, study_name, trial_id, convert)
        if self.is_ours and convert:
            configured = self._policy_kwargs(custom_hyperparams=None, trial_id=None)
            params["policy_kwargs"] = configured | params["policy_kwargs"]
        return params

    def _policy_kwargs(self, **attributes: Any) -> Params:
        """What ``policy_kwargs`` would be if we had other attributes."""
        other = copy(self)
        vars(other).update(attributes)
        with redirect_stdout(StringIO()):
            return evaluated(other.read_hyperparameters()[0].get("policy_kwargs"))

    def _preprocess_hyperparams(self, hyperparams: Params) -> tuple[Params, Any, Any, Any]:
        if self.is_ours and self.continue_training and "policy_kwargs" in self.given:
            raise UserError("-i goes on with the network of its model, whatever policy_kwargs are: leave them out.")
        if self.continue_training:
            self._check_statistics()
        hyperparams.update(with_numbers(dict(hyperparams)))
        if self.n_timesteps > 0:  # given on the command line, so that the configuration need not have it
            hyperparams.setdefault("n_timesteps", self.n_timesteps)
        for name, otherwise in (("policy", ""), ("n_timesteps", ", or pass -n")):
            if name not in hyperparams:
                raise UserError(f"{self.env_name} in {self.config} has no entry {name!r}: add it{otherwise}.")
        processed, wrapper, callbacks, vec_env_wrapper = super()._preprocess_hyperparams(hyperparams)
        # RL Zoo takes them from a configuration from 2.8 on, for trainings alone; the command line wins.
        env_kwargs = processed.pop("env_kwargs", {})
        self.env_kwargs = self.env_kwargs or env_kwargs
        self.eval_env_kwargs = self.eval_env_kwargs or self.env_kwargs
        check_names(self.algo, processed)
        return Hyperparameters(processed) if self.is_ours else processed, wrapper, callbacks, vec_env_wrapper

    def objective(self, trial: Trial) -> float:
        """As in RL Zoo; of trials that errors have ended, the last error is kept."""
        try:
            return super().objective(trial)
        except TrialPruned as pruned:
            self._refused = pruned.__cause__
            raise

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        """As in RL Zoo, but the statistics of VecNormalize are there before the model is."""
        if self.normalize:
            save_statistics(model, Path(self.params_path) / "vecnormalize.pkl")
            self.normalize = False  # RL Zoo would write them once more, over those that are there
        super().save_trained_model(model)

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        if not self.trained_agent:
            return super()._maybe_normalize(env, eval_env)
        from sb3_plastic.evaluation.zoo_files import statistics_of_checkpoint  # a second, for who goes on with a model

        beside = statistics_of_checkpoint(Path(self.trained_agent))
        if not beside.is_file():
            return super()._maybe_normalize(env, eval_env)
        print(f"Loading VecNormalize stats of the checkpoint, {beside}")
        normalized = VecNormalize.load(str(beside), env)
        normalized.training, normalized.norm_reward = not eval_env, normalized.norm_reward and not eval_env
        return normalized

    def _check_statistics(self) -> None:
        """Refuse to go on with a model whose statistics are not there: RL Zoo would begin new ones."""
        from sb3_plastic.evaluation.zoo_files import statistics_of_checkpoint

        model = Path(self.trained_agent)
        places = [statistics_of_checkpoint(model), model.parent / str(self.env_name) / "vecnormalize.pkl"]
        if not any(place.is_file() for place in places) and was_normalised(model):
            raise UserError(
                f"{model} was trained with VecNormalize, and acts at random without its statistics, which are neither "
                f"in {places[0]} nor in {places[1]}. Put them there, or go on with another model."
            )

    def _load_pretrained_agent(self, hyperparams: Params, env: VecEnv) -> BaseAlgorithm:
        model = super()._load_pretrained_agent(hyperparams, env)
        self.of_model = {"policy_kwargs": model.policy_kwargs} if self.is_ours else {}
        return model

    def _save_config(self, saved_hyperparams: Params) -> None:
        """As in RL Zoo; a training that goes on has the network of its model, whatever the configuration says."""
        kept = saved_hyperparams | self.of_model
        if self.continue_training:
            from sb3_plastic.evaluation.zoo_files import changed_settings

            if lines := changed_settings(Path(self.trained_agent), kept):
                print("\n  ".join([f"Other settings than those with which {self.trained_agent} was trained:", *lines]))
        super()._save_config(kept)

    def setup_experiment(self) -> tuple[BaseAlgorithm, Params] | None:
        """As in RL Zoo, but a training that is refused leaves no folder behind that would pass for the latest run."""
        with ExitStack() as self._undo:
            model = super().setup_experiment()
            self._undo.pop_all()
        self._undo = None
        return model

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """As in RL Zoo."""
        env = super().create_envs(n_envs, eval_env, no_log)
        if self._undo is not None:
            self._undo.callback(env.close)
        return env

    def create_log_folder(self) -> None:
        """
        As in RL Zoo, but a search leaves no empty folder behind that would pass for the latest run, and two trainings
        that begin at once have a folder each.
        """
        if self.optimize_hyperparameters:
            self._scratch = TemporaryDirectory()
            self.save_path = self._scratch.name
        else:
            self.save_path = own_folder(self.save_path)
            if self._undo is not None:
                self._undo.callback(rmtree, self.save_path, ignore_errors=True)
        self.params_path = f"{self.save_path}/{self.env_name}"
        super().create_log_folder()

    def hyperparameters_optimization(self) -> None:
        """
        As in RL Zoo, but its budget is printed first, the study is kept in a file and goes on with what is there, and
        the command that trains with what was found is printed last.
        """
        folder = Path(self.log_folder) / self.algo
        self._named_storage = self.storage = self.storage or str(folder / f"{self.env_name}.study.log")
        self.study_name = self.study_name or f"{self.algo} {self.env_name}"
        study, is_new = tuning.open_study(self.storage, self.study_name)
        finished = tuning.n_finished(study)
        wanted = self.n_trials if self.max_total_trials is None else self.max_total_trials
        print(tuning.budget(wanted, finished, self.n_timesteps, self.n_evaluations or 1, self.n_eval_episodes))
        print(f"Study: {self.study_name!r} in {self.storage}. The same command goes on with it after an interruption.")
        if self.max_total_trials is None:
            self.n_trials = max(wanted - finished, 0)
        self.seed = tuning.seed_of(self.seed, len(study.get_trials(deepcopy=False)))
        print(f"To do: {max(wanted - finished, 0)} trials.", flush=True)
        try:
            with tuning.not_called_existing(is_new), journal.searching(self.storage) as alone:
                if self.max_total_trials is not None:  # to which RL Zoo counts trials that seem to run
                    self.max_total_trials += journal.n_killed(study, alone)
                if self.storage.endswith(".log"):
                    self.storage = str(Path(self.storage).absolute())  # where the link of the journal's lock leads
                super().hyperparameters_optimization()
        except ValueError as error:
            if "dynamic value space" in str(error):  # Optuna's words
                raise UserError(
                    f"The study {self.study_name!r} was begun with another search space, by another version perhaps "
                    f"({error}) Begin another one: --study-name."
                ) from error
            if "No trials are completed" not in str(error):  # which is said below, in other words
                raise
            if 0 < wanted <= tuning.n_finished(study):
                why = f"the last by an error: {self._refused}" if self._refused else "take --pruner none."
                raise UserError(f"All trials were pruned: there is no best one; {why}") from error
        finally:
            print(tuning.winner(study, wanted, self._train_command), flush=True)
            self._scratch.cleanup()

    def _train_command(self, trial: FrozenTrial) -> list[str]:
        """What trains with a trial. What was drawn wins over what was given, as it did in the search."""
        drawn: Params = HYPERPARAMS_CONVERTER[self.algo](trial.params)
        command = ["sb3-plastic", "train", *import_flags(), "--algo", self.algo, "--env", self.env_name.gym_id]
        command += ["-f", self.log_folder]
        if self.args.conf_file is not None:
            command += ["-conf", self.config]
        command += ["--storage", self._named_storage, "--study-name", str(self.study_name)]
        if self.args.gym_packages:
            command += ["--gym-packages", *self.args.gym_packages]
        kept = {name: value for name, value in self.given.items() if name not in drawn}
        if self.is_ours and "policy_kwargs" in self.given:
            given, taken = self.given["policy_kwargs"], drawn.get("policy_kwargs", {})
            own = evaluated(given)
            rest = {name: value for name, value in own.items() if name not in taken}
            kept["policy_kwargs"] = given if len(rest) == len(own) else rest  # as it was given, maybe as code
        for flag, values in (
            ("--env-kwargs", self.args.env_kwargs),
            ("--eval-env-kwargs", self.args.eval_env_kwargs),
            ("-params", kept),
        ):
            command += [flag, *(f"{name}:{value!r}" for name, value in values.items())] if values else []
        return [*command, "--trial-id", str(trial.number)]


def check_config(path: Path, env_id: str) -> None:
    """
    Refuse a configuration that is none.

    :param path: of a YAML file; a module of Python, or its name, is left to RL Zoo
    :param env_id: environment
    :raises UserError: if it is no YAML, or not a mapping of environments to hyperparameters
    """
    if path.suffix not in (".yml", ".yaml"):
        return
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML in UTF-8: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get(env_id, {}), dict):
        got = found[env_id] if isinstance(found, dict) else found
        raise UserError(f"{path} holds a mapping of hyperparameters for each environment, got {got!r} for {env_id}.")


def check_names(algo: str, hyperparams: Params) -> None:
    """
    Refuse names that an algorithm does not have.

    :param algo: RL Zoo's name of it
    :param hyperparams: its arguments, without what RL Zoo takes for itself
    :raises UserError: naming the most similar one, or the policy, if it is an argument of that
    """
    given_otherwise = {"self", "env", "device", "seed", "tensorboard_log", "verbose", "_init_setup_model"}
    algorithm: Any = rl_zoo3.ALGOS[algo]
    known = {*inspect.signature(algorithm.__init__).parameters} - given_otherwise | {*OF_RL_ZOO}
    policy = algorithm.policy_aliases.get("MlpPolicy")
    of_policy = {*getattr(policy, "options", ()), *(() if policy is None else inspect.signature(policy).parameters)}
    for name in hyperparams:
        if name not in known and "kwargs" not in known:
            if name in of_policy:
                raise UserError(f"{name!r} is an argument of the policy of {algo}: policy_kwargs:dict({name}=...).")
            raise unknown(f"hyperparameter of {algo}", name, sorted(known))


OF_RL_ZOO = (
    *("n_timesteps", "n_envs", "normalize", "frame_stack", "env_wrapper", "vec_env_wrapper", "callback"),
    *("env_kwargs", "monitor_kwargs", "noise_type", "noise_std"),
)
"""Hyperparameters that RL Zoo takes for itself."""


def with_numbers(value: Any) -> Any:
    """The same, with numbers where YAML 1.1 sees texts: it takes 1.0e-3 and 1.0e+6 for numbers, 1e-3 and 1.0e6 not."""
    if isinstance(value, dict):
        return {name: with_numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [with_numbers(part) for part in value]
    is_number = isinstance(value, str) and NUMBER.fullmatch(value)
    return float(value) if is_number else value


def evaluated(policy_kwargs: Any) -> Params:
    """A copy of ``policy_kwargs``, which RL Zoo also takes as a string of Python."""
    is_code = isinstance(policy_kwargs, str)
    return dict((eval(policy_kwargs, vars(rl_zoo3.exp_manager)) if is_code else policy_kwargs) or {})


def register() -> None:
    """Make our algorithms known to RL Zoo. Importing this module has done it."""
    samplers: dict[str, Any] = HYPERPARAMS_SAMPLER
    converters: dict[str, Any] = HYPERPARAMS_CONVERTER
    for name, sample in SAMPLERS.items():
        # RL Zoo's modules share these dictionaries, so they are filled in place.
        rl_zoo3.ALGOS[name] = algorithm_class(name)
        samplers[name], converters[name] = sample, sampling.convert
    modules: list[Any] = [rl_zoo3.exp_manager, rl_zoo3.train]
    for module in modules:
        module.ExperimentManager = ExperimentManager
    manager: Any = rl_zoo3.exp_manager
    manager.CheckpointCallback, manager.EvalCallback = AtomicCheckpointCallback, AtomicEvalCallback
    manager.SaveVecNormalizeCallback = AtomicVecNormalizeCallback


register()
