"""Arguments, arrays and spaces as plain data, which JSON can hold, and back. Numbers keep every bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_plastic.errors import UserError
from sb3_plastic.safe import DamagedError, RefusedError, class_named, name_of

CLASS, FLOAT, ARRAY = "$class", "$float", "$array"
"""Keys of a mapping that stands for what JSON has no form for: a class of ``CLASSES``, inf or nan, an array."""

ENTER = (
    "A folder is read as data alone, also with --trust. A program that trusts the class enters it before it loads the "
    "folder: sb3_plastic.safe.CLASSES['module.Class'] = Class."
)
"""What to do about a class that a folder may not name."""


def to_plain(value: Any, where: str) -> Any:
    """
    :param value: plain data, arrays, and classes of ``sb3_plastic.safe.CLASSES``, nested
    :param where: what it is, for the message
    :raises UserError: if it is, or holds, anything else
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {FLOAT: repr(float(value))}
    if isinstance(value, np.generic):
        return to_plain(value.item(), where)
    if isinstance(value, np.ndarray):
        return {ARRAY: [to_plain(number, where) for number in value.ravel().tolist()]} | {
            "dtype": value.dtype.name,
            "shape": list(value.shape),
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry, where) for entry in value]
    name = name_of(value) if isinstance(value, type) else None
    if name is None:
        raise UserError(
            f"{where} is {value!r}, which cannot be exported: a folder holds plain data, and names of the classes in "
            "sb3_plastic.safe.CLASSES. If it is a class of yours, add it there, here and where the folder is loaded."
        )
    return {CLASS: name}


def from_plain(value: Any, where: str) -> Any:
    """
    The inverse of :func:`to_plain` (tuples come back as lists).

    :param value: plain data
    :param where: the file and the place in it, for messages
    :raises RefusedError: if it names a class that files may not name
    :raises DamagedError: if it is not as :func:`to_plain` writes it
    """
    if isinstance(value, list):
        return [from_plain(entry, where) for entry in value]
    if not isinstance(value, dict):
        return value
    try:
        if CLASS in value:
            try:
                return class_named(str(value[CLASS]), where)
            except RefusedError as error:
                raise RefusedError(where, error.what, ENTER) from error
        if FLOAT in value:
            return float(value[FLOAT])
        if ARRAY in value:
            numbers = [from_plain(number, where) for number in value[ARRAY]]
            return np.array(numbers, dtype_named(value["dtype"], where)).reshape([int(n) for n in value["shape"]])
    except (TypeError, KeyError, OverflowError, ValueError) as error:
        if type(error).__module__.startswith("sb3_plastic"):
            raise
        raise DamagedError(where, error) from error
    return {key: from_plain(entry, where) for key, entry in value.items()}


def dtype_named(name: Any, where: str) -> np.dtype[Any]:
    """
    A type of numbers by its name.

    :param name: as numpy writes it
    :param where: the file, for messages
    :raises DamagedError: on anything else
    """
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise DamagedError(where, error) from error
    if not isinstance(name, str) or dtype.kind not in "biuf" or dtype.names is not None:
        raise DamagedError(where, f"{name!r} is no type of numbers")
    return dtype


# Spaces


def space_to_plain(space: spaces.Space[Any]) -> dict[str, Any]:
    """
    :param space: a space of gymnasium that SB3 serves
    :raises UserError: on another
    """
    if isinstance(space, spaces.Box):
        return {
            "type": "Box",
            "shape": list(space.shape),
            "dtype": space.dtype.name,
            "low": _bound(space.low),
            "high": _bound(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.n)}
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: space_to_plain(part) for key, part in space.items()}}
    raise UserError(f"{space} cannot be exported: only boxes, (multi-)discrete, multi-binary and dict spaces can.")


def space_from_plain(plain: Any, where: str) -> spaces.Space[Any]:
    """
    The inverse of :func:`space_to_plain`.

    :param plain: plain data
    :param where: the file and the place in it, for messages
    :raises DamagedError: if it describes no space
    """
    try:
        kind = plain["type"]
        if kind == "Box":
            dtype = dtype_named(plain["dtype"], where)
            shape = tuple(int(n) for n in plain["shape"])
            low, high = (
                np.broadcast_to(np.array(from_plain(plain[name], where), dtype).reshape(-1), math.prod(shape))
                for name in ("low", "high")
            )
            return spaces.Box(low.reshape(shape), high.reshape(shape), dtype=dtype.type)
        if kind == "Discrete":
            return spaces.Discrete(int(plain["n"]), start=int(plain["start"]))
        if kind == "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(plain["nvec"]), start=np.array(plain["start"]))
        if kind == "MultiBinary":
            return spaces.MultiBinary(plain["n"])
        if kind == "Dict":
            # As pairs: of a mapping, gymnasium would sort the keys.
            return spaces.Dict([(key, space_from_plain(part, where)) for key, part in plain["spaces"].items()])
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(where, f"no space: {error}") from error
    raise DamagedError(where, f"the space {kind!r} is unknown")


def _bound(values: np.ndarray) -> Any:
    """One number if all are equal, as those of images are."""
    numbers = values.ravel().tolist()
    return to_plain(numbers[0] if len(set(numbers)) == 1 else numbers, "a bound of the space")
