"""Versions of everything that results depend on, and the commit of the source tree."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_plastic.errors import UserError

PACKAGES = ("sb3_plastic", "stable_baselines3", "sb3_contrib", "gymnasium", "mujoco", "numpy", "torch", "numba")


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed, by name."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def reading(saved: Any) -> Iterator[None]:
    """
    While a file is read: an error over what is in it says which version saved it, if it was another.

    :param saved: the versions that the file tells of, by package
    :raises UserError: those that are raised inside
    """
    try:
        yield
    except UserError as error:
        there = saved.get("sb3_plastic") if isinstance(saved, Mapping) else None
        here = versions().get("sb3_plastic")
        if there in (None, here):
            raise
        raise UserError(
            f"{error} sb3_plastic {there} saved it, and this is {here}: if that is why, read it with that one."
        ) from error


def commit() -> str | None:
    """The commit of the source tree, with ``+`` if files differ from it; None outside of one."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
