"""Names of a package whose modules are imported at their first use: what needs no torch does not wait for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """
    The ``__getattr__`` of a package (PEP 562). Type checkers must not see it: they would take any name for one of it.

    :param package: its ``__name__``
    :param homes: module by name, without the package's own name; its modules are names, too
    """

    def getter(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        elif find_spec(f"{package}.{name}"):
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return getter
