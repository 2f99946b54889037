"""Models in files of which nobody sees half."""

from __future__ import annotations

import io
import os
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm

SelfWholeFiles = TypeVar("SelfWholeFiles", bound="WholeFiles")


class WholeFiles(BaseAlgorithm):
    """Mix-in of an SB3 algorithm, before its base: its files are whole, or refused."""

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        As in SB3, but a file is written under a temporary name and then moved: no interruption leaves half a model.

        :param path: path, or an open file
        :param exclude: attributes not to save
        :param include: attributes to save that are not by default
        """
        if not isinstance(path, str | pathlib.Path):
            return super().save(path, exclude, include)
        target = pathlib.Path(path)
        target = target if target.suffix else target.with_suffix(".zip")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
        try:
            with temporary.open("wb") as file:
                super().save(file, exclude, include)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(
        cls: type[SelfWholeFiles], path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any
    ) -> SelfWholeFiles:
        """
        As in SB3.

        :raises ValueError: if the file is not a complete model
        """
        try:
            return super().load(path, *args, **kwargs)
        except (ValueError, AssertionError) as error:
            # Of a file cut short near its end, zipfile takes the last member, itself an archive, for the whole.
            if not isinstance(error.__cause__, zipfile.BadZipFile) and "No data found" not in str(error):
                raise
            raise ValueError(f"{path} is not a complete model: the file is truncated or damaged.") from error
