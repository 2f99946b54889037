"""What lies beside a model: RL Zoo's files, and the statistics of VecNormalize."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sb3_plastic.adaptive.files import AGENT, is_adaptive_folder
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.settings import ModelSettings, WrapperSpec
from sb3_plastic.export import Normalization, read_config
from sb3_plastic.export.folder import CONFIG
from sb3_plastic.export.normalization import STACK_INSTEAD
from sb3_plastic.export.plain import from_plain
from sb3_plastic.safe import DamagedError, RefusedError, check_wrapper, listed, read_literal, read_yaml, was_normalised


class ZooFiles(NamedTuple):
    """
    What RL Zoo writes beside a model. Its methods put what is given before what is written.

    :param args: ``args.yml``: how the training was called
    :param config: ``config.yml``: its hyperparameters
    :param folder: in which both are, None if there is none
    :param names: of both files; an exported folder has one for all
    """

    args: Mapping[str, Any]
    config: Mapping[str, Any]
    folder: Path | None = None
    names: tuple[str, str] = ("args.yml", "config.yml")

    def wrappers(self, given: ModelSettings) -> list[WrapperSpec]:
        """
        ``env_wrapper`` and ``vec_env_wrapper``.

        :param given: by the caller
        :raises RefusedError: if files may not name one of them, unless trusted
        """
        if given.wrappers is not None:
            return listed(given.wrappers)
        found = [*listed(self.config.get("env_wrapper")), *listed(self.config.get("vec_env_wrapper"))]
        if not given.trust:
            for wrapper in found:
                check_wrapper(wrapper, f"{self.folder}/{self.names[1]}")
        return found

    def check_frames(self, path: Path | None) -> None:
        """
        :param path: of the model
        :raises UserError: if RL Zoo stacked frames for it, around VecNormalize
        """
        if self.config.get("frame_stack"):
            raise UserError(
                f"{path} was trained with frame_stack, which only RL Zoo's own commands play (`enjoy`, `record` with "
                "--env). " + STACK_INSTEAD
            )

    def env_id(self, given: ModelSettings) -> str | None:
        """
        The environment.

        :param given: by the caller
        :raises RefusedError: if a file asks for a module to be imported with it, unless trusted
        """
        if given.env:
            return given.env
        name = self.args.get("env")
        if name is not None and (not isinstance(name, str) or ":" in name) and not given.trust:
            raise RefusedError(f"{self.folder}/{self.names[0]}", f"the import of a module by the environment {name!r}")
        return name

    def env_kwargs(self, given: ModelSettings) -> dict[str, Any]:
        """Arguments of the environment. :param given: by the caller, added to those that are written"""
        where = f"{self.folder}/{self.names[1]}: env_kwargs"
        try:
            kwargs = read_literal(self.args.get("env_kwargs") or self.config.get("env_kwargs") or {}, where)
        except RefusedError as error:  # trust would not help: no more than literals is read there
            remedy = "Write its value there: numbers, strings, lists and dict(...)."
            raise RefusedError(error.where, error.what, remedy) from error
        if not isinstance(kwargs, Mapping):
            raise DamagedError(where, f"{kwargs!r} is no mapping")
        return {**kwargs, **(given.env_kwargs or {})}

    def normalises(self) -> bool:
        """Whether observations were normalised in the training: ``normalize`` may be a mapping, also as a string."""
        try:
            value = read_literal(self.config.get("normalize"), f"{self.folder}/{self.names[1]}: normalize")
        except RefusedError:  # more than literals: RL Zoo would normalise by it
            return True
        return bool(value.get("norm_obs", True) if isinstance(value, Mapping) else value)


def zoo_files(path: Path | None) -> ZooFiles:
    """
    RL Zoo's files beside a model, ``<env>/args.yml`` and ``<env>/config.yml``; what an exported folder notes down
    likewise.

    :param path: the model's file, or the exported folder
    :raises UserError: if they are damaged, ask to run code, or are those of several runs
    """
    if path is None:
        return ZooFiles({}, {})
    if path.is_dir():
        agent = path / AGENT if is_adaptive_folder(path) else path
        about = from_plain(read_config(agent).get("training", {}), str(path))
        return ZooFiles({"env": about.get("env_id")}, about, agent, (CONFIG, CONFIG))
    folder = zoo_folder(path)
    if folder is None:
        return ZooFiles({}, {})
    args, config = (
        read_yaml(folder / name) if (folder / name).is_file() else {} for name in ("args.yml", "config.yml")
    )
    return ZooFiles(args, config, folder)


def changed_settings(path: Path, today: Mapping[str, Any]) -> list[str]:
    """
    What a training that goes on has otherwise: a configuration may have been edited since it began.

    :param path: of the model with which it goes on
    :param today: hyperparameters
    :return: ``NAME: BEFORE -> TODAY``; empty if those of the model are not known, or not readable as data
    """
    try:
        before = zoo_files(path).config
    except UserError:  # no reason to refuse a training
        return []
    same = {"n_timesteps", "policy_kwargs"}  # steps that are still to come; and the network is that of the model
    names = sorted({*before, *today} - same) if before else []
    return [
        f"{name}: {before.get(name)!r} -> {today.get(name)!r}" for name in names if before.get(name) != today.get(name)
    ]


def zoo_folder(path: Path) -> Path | None:
    """
    The folder with RL Zoo's files beside a model; None: there is none.

    :param path: the model's file
    :raises UserError: if there are those of several runs
    """
    own = path.with_suffix("") / "args.yml"  # checkpoints and the best model go by other names
    folders = [file.parent for file in ([own] if own.is_file() else sorted(path.parent.glob("*/args.yml")))]
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise UserError(f"Which of {names} in {path.parent} belongs to {path.name}? Give each run a folder of its own.")
    return folders[0] if folders else None


def statistics_files(path: Path, folder: Path | None) -> list[Path]:
    """
    Where the statistics of VecNormalize of a model may lie, the first first.

    :param path: the model's file
    :param folder: with RL Zoo's files beside it, if there is one
    """
    beside = [path.with_suffix(".pkl"), statistics_of_checkpoint(path)]
    return [*beside, *([folder / "vecnormalize.pkl"] if folder else [])]


def statistics_of(path: Path | None, zoo: ZooFiles, given: ModelSettings) -> Path | Normalization | None:
    """
    The statistics of VecNormalize: those that are given, or else beside a model; of an exported folder itself.

    :param path: the model's file
    :param zoo: RL Zoo's files beside it
    :param given: by the caller
    :raises UserError: if the model was trained with some, and there are none; if the given file is not there, or the
        model normalises by itself
    """
    named = Path(given.normalization) if isinstance(given.normalization, str) else given.normalization
    if isinstance(named, Path) and not named.is_file():
        raise UserError(f"There are no statistics of VecNormalize in {named}.")
    if named is not None:
        if path is not None and is_adaptive_folder(path):
            raise UserError(f"{path} normalises by itself, as in the training of its agent: leave out --normalization.")
        return named
    if path is None or path.is_dir():  # an adaptive policy normalises by itself
        return None if path is None or is_adaptive_folder(path) else path
    candidates = statistics_files(path, zoo.folder)
    found = next((file for file in candidates if file.is_file()), None)
    if found is None and (was_normalised(path) if zoo.folder is None else zoo.normalises()):
        names = ", ".join(dict.fromkeys(file.name for file in candidates))
        says = "it" if zoo.folder is None else zoo.folder / zoo.names[1]
        raise UserError(
            f"{path} was trained with VecNormalize, as {says} says, and acts at random without its "
            f"statistics, which are not beside it ({names}). Put them there, or name their file with --normalization. "
            "If it normalised rewards alone, those of any VecNormalize with norm_obs=False will do."
        )
    return found


def statistics_of_checkpoint(path: Path) -> Path:
    """
    Where SB3's CheckpointCallback writes the statistics of VecNormalize: of ``rl_model_8_steps.zip`` into
    ``rl_model_vecnormalize_8_steps.pkl``.

    :param path: the model's file
    """
    return path.parent / (re.sub(r"(\d+_steps)$", r"vecnormalize_\1", path.stem) + ".pkl")
