"""How agents are drawn: each in one colour, in the figures of all studies."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import NamedTuple

from sb3_plastic.report.document import COLORS

# Beside those of all figures: these stand apart from them, too.
WINE, INDIGO, BROWN, OLIVE, GREY = "#882255", "#332288", "#7A4A10", "#999933", "#888888"
LINES, MARKERS = ("-", "--", ":"), "oDv"


class Look(NamedTuple):
    """
    How an agent is drawn.

    :param color: of lines and points
    :param style: index in ``LINES`` and ``MARKERS``
    """

    color: str
    style: int = 0

    @property
    def line(self) -> str:
        """Style of its lines."""
        return LINES[self.style]

    @property
    def marker(self) -> str:
        """Of its points."""
        return MARKERS[self.style]


BLUE, VERMILION, GREEN, PINK, SKY, ORANGE, BLACK = COLORS
KNOWN = {
    "plastic": Look(BLUE),
    "oja + simple": Look(BLUE),  # the same network
    "oja + simple, 4 ticks": Look(BLUE, 1),
    "oja + simple, chunks of 4": Look(BLUE, 2),
    "oja + simple, recurrent": Look(BLUE),
    "plastic, adaptive": Look(WINE, 2),
    "plastic, distilled": Look(INDIGO, 1),
    "plastic, noise of the MLP": Look(BROWN, 2),
    "bcm + simple": Look(SKY),
    "hebb": Look(PINK),
    "hebb + retroactive": Look(ORANGE),
    "static SNN": Look(VERMILION),
    "static (rule none)": Look(VERMILION),
    "static": Look(VERMILION),
    "static SNN, distilled": Look(VERMILION, 1),
    "static, recurrent": Look(GREEN),
    "MLP": Look(GREEN),
    "MLP (RL Zoo)": Look(GREEN, 1),
    "MLP, 500k steps": Look(OLIVE, 1),
    "MLP, gait of the plastic": Look(WINE, 1),
    "MLP, low_pass": Look(GREY, 2),
    "MLP, noise by schedule": Look(BLACK),
    "RecurrentPPO": Look(ORANGE, 1),
    "ALIF, recurrent": Look(WINE),
    "GRU": Look(GREY),
    "oracle": Look(GREY, 2),
}
"""Of the agents that docs/results shows."""


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """
    How the agents of a figure are drawn: those of ``KNOWN`` as everywhere, others as nobody else in it is, as far as
    there are colours and styles.

    :param labels: of agents
    """
    labels = [*dict.fromkeys(labels)]
    found: dict[str, Look] = {}
    for label in labels:
        if label in KNOWN and KNOWN[label] not in found.values():
            found[label] = KNOWN[label]
    every = [Look(color, style) for style in range(len(LINES)) for color in COLORS]
    free = cycle([look for look in every if look not in found.values()] or every)
    return {label: found.get(label) or next(free) for label in labels}
