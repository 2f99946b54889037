"""Atomic save of a model with a stamp; files that are truncated, and configurations that differ, are rejected."""

from __future__ import annotations

import io
import pathlib
import textwrap
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_plastic.errors import UserError
from sb3_plastic.files import replacing
from sb3_plastic.finite import check_parameters
from sb3_plastic.stamp import check_stamp, make_stamp
from sb3_plastic.versions import reading

OF_ANOTHER = "{} is no model of {}: another algorithm has saved it."

OTHER_PARAMETERS = (
    "{} holds other parameters than its policy has in this version: another version saved it, or load() was given "
    "other policy_kwargs. Read it with the version that saved it, or train it again. {}"
)


class WholeFiles(BaseAlgorithm):
    """Mix-in of an SB3 algorithm, named before its base class: atomic save, truncated files are rejected."""

    stamp: dict[str, Any] | None = None
    """Version and configuration with which the model was last saved; None until then, and in files of early commits."""

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        As in SB3, but atomic: an interrupted save leaves the old file. The model is stamped with its configuration.

        :param path: path, or an open file
        :param exclude: attributes not to save
        :param include: attributes to save that are not by default
        :raises NotFiniteError: if a parameter is not finite
        """
        check_parameters(self.policy.named_parameters(), "The model is not saved")
        exclude = None if exclude is None else {*exclude}
        self.stamp = make_stamp(self, exclude or ())
        if not isinstance(path, str | pathlib.Path):
            return super().save(path, exclude, include)
        target = pathlib.Path(path)
        target = target if target.suffix else target.with_suffix(".zip")
        with replacing(target) as temporary, temporary.open("wb") as file:
            super().save(file, exclude, include)

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """
        As in SB3.

        :raises UserError: if the file is not a complete model, or its configuration has changed since it was saved
        """
        try:
            model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        except KeyError as error:
            if isinstance(error.__context__, UserError):  # SB3 takes it for that of an old DQN, and fails over it
                raise error.__context__ from None
            raise UserError(OF_ANOTHER.format(path, cls.__name__)) from error
        except (ValueError, AssertionError) as error:
            if "Names of parameters do not match" in str(error):
                raise UserError(OF_ANOTHER.format(path, cls.__name__)) from error
            # Of a file cut short near its end, zipfile takes the last member, itself an archive, for the whole.
            if not isinstance(error.__cause__, zipfile.BadZipFile) and "No data found" not in str(error):
                raise
            raise UserError(f"{path} is not a complete model: the file is truncated or damaged.") from error
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise UserError(OTHER_PARAMETERS.format(path, textwrap.shorten(str(error), 300))) from error
        if model.stamp is not None:
            check_stamp(model.stamp, model, "algorithm", {*kwargs, *(custom_objects or {})})
        return model

    @contextmanager
    def kept_defaults(self) -> Iterator[None]:
        """While a loaded model's policy is built: what its arguments leave to a default stays as it was saved."""
        given = self.policy_kwargs
        if self.stamp is not None:
            saved, whole = (self.stamp["configuration"].get(part, {}) for part in ("policy", "whole_options"))
            left = set(getattr(self.policy_class, "options", ())) - {*given, *(given.get("snn_kwargs") or ())}
            self.policy_kwargs = given | {name: saved[name] for name in sorted(left) if name in saved}
            for name in whole.keys() & given.keys():
                if given[name] is not False:
                    some = given[name] if isinstance(given[name], Mapping) else {}
                    self.policy_kwargs[name] = {**whole[name], **some}
        try:
            with reading((self.stamp or {}).get("versions")):
                yield
        finally:
            self.policy_kwargs = given  # what is saved next, and compared with what load() is given

    def check_policy(self) -> None:
        """
        Refuse a policy that is not the one that was saved, before its weights are filled in.

        :raises UserError: naming the argument that differs
        """
        if self.stamp is not None:
            check_stamp(self.stamp, self, "policy")
