"""YAML and strings of Python as RL Zoo writes them, read as data."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import yaml

from sb3_plastic.safe.classes import CLASSES
from sb3_plastic.safe.errors import DamagedError, RefusedError
from sb3_plastic.yaml_numbers import Loader


class _ZooLoader(Loader):
    """Reads RL Zoo's files, ordered dictionaries and tuples among them, without running what they say."""


def _sequence(loader: yaml.SafeLoader, node: Any) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _pairs(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    try:
        (pairs,) = _sequence(loader, node) or [[]]
        return dict(pairs)
    except (TypeError, ValueError) as error:
        problem = "not the pairs of an OrderedDict"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def _name(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> str:
    if name not in CLASSES:
        raise yaml.constructor.ConstructorError(None, None, f"'{TAG}name:{name}'", node.start_mark)
    return name


TAG = "tag:yaml.org,2002:python/"
_ZooLoader.add_multi_constructor(f"{TAG}name:", _name)
_ZooLoader.add_constructor(f"{TAG}object/apply:collections.OrderedDict", _pairs)
_ZooLoader.add_constructor(f"{TAG}tuple", _sequence)


def read_yaml(file: Path) -> dict[str, Any]:
    """
    RL Zoo's ``args.yml`` or ``config.yml`` as plain data; a class in it, such as ``nn.ReLU``, becomes its name. Trust
    does not change how it is read.

    :param file: the file
    :return: the mapping in it, empty if there is none
    :raises RefusedError: if it asks for an object, a function or a module of Python, or a class that files may not name
    :raises DamagedError: if it is no mapping in YAML
    """
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), _ZooLoader)
    except yaml.constructor.ConstructorError as error:
        problem = error.problem or ""
        if TAG in problem:
            what = f"python/{problem.split(TAG)[1]}".rstrip("'")
            remedy = "Write its value there: numbers, strings, lists."
            raise RefusedError(str(file), what, remedy) from error
        raise DamagedError(str(file), error) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError) as error:
        raise DamagedError(str(file), str(error).splitlines()[0]) from error
    if data is not None and not isinstance(data, dict):
        raise DamagedError(str(file), f"it holds {type(data).__name__}, not a mapping")
    return data or {}


def read_literal(value: Any, where: str) -> Any:
    """
    A value that RL Zoo would ``eval`` if it is a string, such as ``normalize: "dict(norm_obs=True)"``.

    :param value: a string of Python, or data, which is returned as it is
    :param where: the file and the place in it, for messages
    :raises RefusedError: if it is more than literals, and ``dict`` of them
    """
    if not isinstance(value, str):
        return value
    try:
        return _literal(ast.parse(value.strip(), mode="eval").body)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise RefusedError(where, f"the value of {value[:60]!r}") from error


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args or any(word.arg is None for word in node.keywords):
            raise ValueError("more than dict(name=literal)")
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict) and all(key is not None for key in node.keys):
        return {ast.literal_eval(key): _literal(v) for key, v in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.List | ast.Tuple):
        parts = [_literal(part) for part in node.elts]
        return parts if isinstance(node, ast.List) else tuple(parts)
    return ast.literal_eval(node)
