"""What a file is answered that asks for more than data, or is not whole."""

from __future__ import annotations

from sb3_plastic.errors import UserError

TRUST = "If you know who made it and trust them, add --trust (in Python: trust=True)."


class RefusedError(UserError):
    """
    A file asks to run code, or names a class that files may not name.

    :param where: the file, and the place in it
    :param what: what it asks for
    :param remedy: what to do instead
    """

    def __init__(self, where: str, what: str, remedy: str = TRUST) -> None:
        self.where, self.what = where, what
        super().__init__(
            f"Refused: {where} asks for {what}. A file from elsewhere could run anything in your name. {remedy}"
        )


class DamagedError(UserError):
    """
    A file is cut short, altered, or of another kind.

    :param where: the file, and the place in it
    :param why: what was found
    """

    def __init__(self, where: str, why: object) -> None:
        super().__init__(f"{where} is damaged or not what it should be: {why}.")
