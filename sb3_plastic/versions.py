"""Versions of everything that results depend on."""

from __future__ import annotations

import importlib.metadata
import sys

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
