"""Pickles without their power: a pickle is read as a tree of records. A few known kinds become objects.

A pickle is a program: it names functions and calls them. Here every name that it may use stands for a class of
:class:`Record`, which notes down how it was called and does nothing; every other name is refused. Only when the whole
pickle has been read are records of known kinds turned into arrays, spaces and statistics, by functions of this package
that check what they are given. So no call of the pickle's choosing ever happens, not even of an allowed function.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from sb3_plastic.safe.classes import CLASSES, class_named
from sb3_plastic.safe.errors import DamagedError, RefusedError


class Record:
    """A call that a pickle asked for, written down instead of made."""

    name = ""
    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Record:
        record = super().__new__(cls)
        record.args = (*args, *kwargs.values())
        return record

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    """
    An unpickler to which every allowed name is a class of records.

    :param content: the pickle
    :param where: what is being read, for messages
    """

    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(io.BytesIO(content))
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        """As in Python's unpickler; called for every name in a pickle."""
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return OrderedDict
        if full not in BUILDERS and full not in CLASSES:
            raise RefusedError(self.where, full)
        return type("Record", (Record,), {"name": full})


def read_pickle(content: bytes, where: str) -> Any:
    """
    The data in a pickle, without running it.

    :param content: the pickle
    :param where: the file and the place in it, for messages
    :return: plain Python data, arrays, spaces of gymnasium, classes of ``CLASSES``, and :class:`Statistics`
    :raises RefusedError: if it names anything else
    :raises DamagedError: if it is no complete pickle, or what it holds does not fit together
    """
    try:
        return _Builder(where).build(_Reader(content, where).load())
    except (RefusedError, DamagedError):
        raise
    except Exception as error:  # whatever a damaged pickle can make of the stack machine
        raise DamagedError(where, f"{type(error).__name__}: {error}") from error


class Statistics(dict[str, Any]):
    """Attributes of a VecNormalize or a RunningMeanStd: a mapping, no object of those classes."""


class _Builder:
    """
    Turns records into what they stand for.

    :param where: what is being read, for messages
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.done: dict[int, Any] = {}
        self.kept: list[Any] = []  # what `done` knows by its address must not be freed
        self.open: set[int] = set()

    def build(self, value: Any) -> Any:
        """:param value: a record, a container that may hold some, or plain data"""
        if isinstance(value, type):
            if issubclass(value, Record):
                return class_named(value.name, self.where)
            raise RefusedError(self.where, f"{value.__module__}.{value.__qualname__}")
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray):
            return value
        key = id(value)
        if key not in self.done:
            if key in self.open:
                raise DamagedError(self.where, "it holds itself")
            self.open.add(key)
            self.kept.append(value)
            self.done[key] = self._build(value)
            self.open.discard(key)
        return self.done[key]

    def _build(self, value: Any) -> Any:
        if isinstance(value, Record):
            if value.name not in BUILDERS:
                raise RefusedError(self.where, f"a call of {value.name}")
            return BUILDERS[value.name](self, value)
        if isinstance(value, dict):
            built = {self.build(key): self.build(entry) for key, entry in value.items()}
            return OrderedDict(built) if isinstance(value, OrderedDict) else built
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(self.build(entry) for entry in value)
        raise RefusedError(self.where, f"an object of {type(value).__name__}")

    def state(self, record: Record) -> dict[str, Any]:
        """The attributes that a record is to have."""
        state = self.build(record.state)
        if not isinstance(state, dict):
            raise DamagedError(self.where, f"{record.name} has no attributes")
        return state


# numpy: dtypes of numbers and texts alone, so that no bytes of a file are ever taken for the address of an object.


def _dtype(builder: _Builder, record: Record) -> np.dtype[Any]:
    code = record.args[0] if record.args else None
    if isinstance(code, type) and issubclass(code, Record):
        raise DamagedError(builder.where, f"a dtype of {code.name}")
    dtype = np.dtype(code) if isinstance(code, str) and code.strip("<>=|")[:1] in "biufcSU?" else None
    if dtype is None or dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise RefusedError(builder.where, f"an array of {code!r}")
    big = record.state is not None and record.state[1] == ">"
    return dtype.newbyteorder(">") if big else dtype


def _array_of(builder: _Builder, content: Any, dtype: Any, shape: Any, fortran: bool) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes | bytearray):
        raise DamagedError(builder.where, "an array without a dtype or bytes")
    order: Literal["F", "C"] = "F" if fortran else "C"
    # A copy: a view of bytes could not be written to, as arrays of an unpickled object can.
    return np.frombuffer(bytes(content), dtype).reshape(shape, order=order).copy(order=order)


def _reconstructed(builder: _Builder, record: Record) -> np.ndarray:
    _version, shape, dtype, fortran, content = builder.build(record.state)
    return _array_of(builder, content, dtype, shape, bool(fortran))


def _from_buffer(builder: _Builder, record: Record) -> np.ndarray:
    content, dtype, shape, order = builder.build(record.args)
    return _array_of(builder, content, dtype, shape, order == "F")


def _scalar(builder: _Builder, record: Record) -> Any:
    dtype, content = builder.build(record.args)
    return _array_of(builder, content, dtype, (), False)[()]


def _nothing(builder: _Builder, record: Record) -> None:
    """A space's random numbers: who samples from it draws new ones."""


# Spaces


def _box(builder: _Builder, record: Record) -> spaces.Box:
    state = builder.state(record)
    return spaces.Box(state["low"], state["high"], dtype=state["dtype"].type)


def _discrete(builder: _Builder, record: Record) -> spaces.Discrete:
    state = builder.state(record)
    return spaces.Discrete(int(state["n"]), start=int(state.get("start", 0)))


def _multi_discrete(builder: _Builder, record: Record) -> spaces.MultiDiscrete:
    state = builder.state(record)
    return spaces.MultiDiscrete(state["nvec"], dtype=state["dtype"].type, start=state.get("start"))


def _multi_binary(builder: _Builder, record: Record) -> spaces.MultiBinary:
    n = builder.state(record)["n"]
    return spaces.MultiBinary(n if isinstance(n, int) else [int(i) for i in n])


def _dict_space(builder: _Builder, record: Record) -> spaces.Dict:
    # In an OrderedDict, since gymnasium sorts the keys of others.
    return spaces.Dict(OrderedDict(builder.state(record)["spaces"]))


def _tuple_space(builder: _Builder, record: Record) -> spaces.Tuple:
    return spaces.Tuple(builder.state(record)["spaces"])


def _statistics(builder: _Builder, record: Record) -> Statistics:
    return Statistics(builder.state(record))


BUILDERS: dict[str, Callable[[_Builder, Record], Any]] = {
    "numpy.dtype": _dtype,
    "numpy.ndarray": _nothing,  # only ever named, as the first argument of _reconstruct
    **{f"numpy.{core}.multiarray._reconstruct": _reconstructed for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    "numpy.random._pickle.__generator_ctor": _nothing,
    "numpy.random._pickle.__bit_generator_ctor": _nothing,
    "numpy.random._pcg64.PCG64": _nothing,
    "numpy.random.bit_generator.SeedSequence": _nothing,
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": _nothing,
    "gymnasium.spaces.box.Box": _box,
    "gymnasium.spaces.discrete.Discrete": _discrete,
    "gymnasium.spaces.multi_discrete.MultiDiscrete": _multi_discrete,
    "gymnasium.spaces.multi_binary.MultiBinary": _multi_binary,
    "gymnasium.spaces.dict.Dict": _dict_space,
    "gymnasium.spaces.tuple.Tuple": _tuple_space,
    "stable_baselines3.common.running_mean_std.RunningMeanStd": _statistics,
    "stable_baselines3.common.vec_env.vec_normalize.VecNormalize": _statistics,
}
"""What a pickle may call, by its full name, and what becomes of the call."""
