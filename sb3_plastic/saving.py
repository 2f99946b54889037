"""Atomic save of a model with a stamp; files that are truncated, and configurations that differ, are rejected."""

from __future__ import annotations

import io
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_plastic.errors import UserError
from sb3_plastic.files import replacing
from sb3_plastic.finite import check_parameters
from sb3_plastic.stamp import check_stamp, make_stamp

SelfWholeFiles = TypeVar("SelfWholeFiles", bound="WholeFiles")


class WholeFiles(BaseAlgorithm):
    """Mix-in of an SB3 algorithm, named before its base class: atomic save, truncated files are rejected."""

    stamp: dict[str, Any] | None = None
    """Version and configuration with which the model was last saved. Files of version 0.1.0 and before have none."""

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
        self.stamp = make_stamp(self)
        if not isinstance(path, str | pathlib.Path):
            return super().save(path, exclude, include)
        target = pathlib.Path(path)
        target = target if target.suffix else target.with_suffix(".zip")
        with replacing(target) as temporary, temporary.open("wb") as file:
            super().save(file, exclude, include)

    @classmethod
    def load(
        cls: type[SelfWholeFiles], path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any
    ) -> SelfWholeFiles:
        """
        As in SB3.

        :raises UserError: if the file is not a complete model, or its configuration has changed since it was saved
        """
        try:
            model = super().load(path, *args, **kwargs)
        except (ValueError, AssertionError) as error:
            # Of a file cut short near its end, zipfile takes the last member, itself an archive, for the whole.
            if not isinstance(error.__cause__, zipfile.BadZipFile) and "No data found" not in str(error):
                raise
            raise UserError(f"{path} is not a complete model: the file is truncated or damaged.") from error
        if model.stamp is not None:
            check_stamp(model.stamp, model, "algorithm", {*kwargs, *(kwargs.get("custom_objects") or {})})
        return model

    def keep_defaults(self) -> None:
        """Before a loaded model's policy is built: what its arguments leave to a default stays as it was saved."""
        if self.stamp is not None:
            saved, kwargs = self.stamp["configuration"]["policy"], self.policy_kwargs
            left = set(getattr(self.policy_class, "options", ())) - {*kwargs, *(kwargs.get("snn_kwargs") or ())}
            self.policy_kwargs = kwargs | {name: saved[name] for name in sorted(left) if name in saved}

    def check_policy(self) -> None:
        """
        Refuse a policy that is not the one that was saved, before its weights are filled in.

        :raises UserError: naming the argument that differs
        """
        if self.stamp is not None:
            check_stamp(self.stamp, self, "policy")
