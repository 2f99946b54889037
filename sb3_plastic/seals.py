"""Checksums of files that belong together, with which damage is found out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SUMS = "sha256"
"""Key of a sealed mapping: checksums by file name, its own among them."""


def seal(data: Mapping[str, Any], name: str, others: Mapping[str, bytes]) -> dict[str, Any]:
    """
    Data with checksums of what belongs together, so that damage is found out: of other files, and of the data.

    :param data: plain data
    :param name: of the JSON file that they will be in
    :param others: content of other files by name
    """
    sums = {other: sha256(content) for other, content in others.items()}
    whole = {**data, SUMS: sums}
    return {**whole, SUMS: {**sums, name: digest(whole, name)}}


def broken_seal(data: Mapping[str, Any], name: str, others: Mapping[str, bytes]) -> str | None:
    """
    The first of some files that is not as it was when :func:`seal` noted its checksum; None if all are.

    :param data: what `seal` returned, as read from a file
    :param name: of that file
    :param others: content of other files by name
    """
    sums = data.get(SUMS)
    if not isinstance(sums, dict) or sums.get(name) != digest(data, name):
        return name
    return next((other for other, content in others.items() if sums.get(other) != sha256(content)), None)


def sha256(content: bytes) -> str:
    """Checksum of a file's content. :param content: all of it"""
    return hashlib.sha256(content).hexdigest()


def digest(data: Mapping[str, Any], name: str) -> str:
    """
    Checksum of data, whatever the order of their keys.

    :param data: with or without their own checksum
    :param name: under which that is kept
    """
    sums = {other: value for other, value in data.get(SUMS, {}).items() if other != name}
    return hashlib.sha256(json.dumps({**data, SUMS: sums}, sort_keys=True).encode()).hexdigest()
