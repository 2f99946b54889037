"""What happens to files: the one definition for the campaign and the property tests."""

from __future__ import annotations

DAMAGES = ("flip", "cut", "repeat", "drop", "zero")


def damaged(whole: bytes, how: str, where: float, size: int) -> bytes:
    """
    A file with a bit changed, a part missing, twice or empty.

    :param whole: its content
    :param how: one of ``DAMAGES``
    :param where: the place, as a fraction of the length, from 0 to below 1
    :param size: of the part, bytes; of ``flip`` the number of the bit
    """
    content, at = bytearray(whole), int(where * len(whole))
    if how == "flip":
        content[at] ^= 1 << size % 8
    elif how == "cut":
        del content[at:]
    elif how == "repeat":
        content[at:at] = content[at : at + size]
    elif how == "drop":
        del content[at : at + size]
    else:
        content[at : at + size] = bytes(len(content[at : at + size]))
    return bytes(content)
