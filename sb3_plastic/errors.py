"""Errors that a user can mend. The command line prints them without a traceback and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """An input that is wrong, in words that say what was given and what is allowed. Rooms derive their own from it."""


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
