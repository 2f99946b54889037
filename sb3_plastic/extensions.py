"""Modules of users that add rules, encoders, hypotheses, kinds of perturbation and the like to our registries."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

VARIABLE = "SB3_PLASTIC_IMPORT"
"""Names of such modules, with blanks between them: processes that a command starts inherit it."""


def import_extensions(modules: Sequence[str] = ()) -> None:
    """
    Import modules, after those that the process which started this one has imported so.

    :param modules: their names
    :raises ImportError: if there is no such module
    """
    named = dict.fromkeys([*os.environ.get(VARIABLE, "").split(), *modules])
    for module in named:
        importlib.import_module(module)
    if named:
        os.environ[VARIABLE] = " ".join(named)


def import_flags() -> list[str]:
    """What names these modules on a command line: of a command that another prints, say."""
    return [word for module in os.environ.get(VARIABLE, "").split() for word in ("--import", module)]
