"""Errors that a user can mend. The command line prints them without a traceback and exits with code 2."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral
from typing import SupportsFloat


class UserError(ValueError):
    """An input that is wrong, in words that say what was given and what is allowed. Rooms derive their own from it."""


class NotFiniteError(UserError):
    """Something that must be a finite number is NaN or infinite."""


def unknown(what: str, got: object, allowed: Iterable[object], error: type[UserError] = UserError) -> UserError:
    """
    The error for a name that does not exist.

    :param what: what the name should be, for instance ``"kind"``
    :param got: the name that was given
    :param allowed: the names that exist
    :param error: class of the error
    :return: an error that names the most similar one, and lists all
    """
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(got), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return error(f"Unknown {what} {got!r}.{hint} Allowed: {', '.join(names) or 'none'}.")


def check_choice(what: str, name: object, allowed: Iterable[object]) -> None:
    """
    Refuse a name that is not among those allowed.

    :param what: what is being chosen, for the message
    :param name: the choice
    :param allowed: the choices
    :raises UserError: if ``name`` is not among them
    """
    choices = list(allowed)
    if name not in choices:
        raise unknown(what, name, choices)


def check_names(owner: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """
    Refuse arguments that do not exist.

    :param owner: whose arguments they are, for the message
    :param names: the arguments that were given
    :param allowed: the arguments that exist
    :raises UserError: naming the first that is unknown, and the most similar one
    """
    choices = list(allowed)
    for name in names:
        if name not in choices:
            close = difflib.get_close_matches(name, choices, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{owner} has no argument {name!r}.{hint} Allowed: {', '.join(choices)}.")


def check_number(
    name: str,
    value: object,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    integer: bool = False,
) -> None:
    """
    :param name: name of the argument, for the message
    :param value: what was given
    :param above: what it must be greater than
    :param at_least: its smallest value
    :param below: what it must be less than
    :param at_most: its greatest value
    :param integer: whether it must be a whole number, 2 and not 2.0, with which torch sizes nothing
    :raises UserError: if it is no finite number, or out of range
    """
    limits = [("above", above), ("at least", at_least), ("below", below), ("at most", at_most)]
    wanted = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
    kind = "whole" if integer else "finite"
    hint = f" (write {int(value)})" if integer and isinstance(value, float) and value.is_integer() else ""
    try:
        number = float(value) if isinstance(value, SupportsFloat) and not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    ok = math.isfinite(number) and (not integer or isinstance(value, Integral))
    ok = ok and (above is None or number > above) and (at_least is None or number >= at_least)
    ok = ok and (below is None or number < below) and (at_most is None or number <= at_most)
    if not ok or isinstance(value, str):
        raise UserError(f"{name} must be a {kind} number{' ' * bool(wanted)}{wanted}, got {value!r}{hint}.")
