"""Below a film: what the adaptive layer of an agent believes, and which hypothesis acts.

On the left the means over time of the hypothesis that acts most, with one standard deviation to either side; above them
a ribbon in the colour of whoever acts. On the right the same estimates now: bars with whiskers of a standard deviation,
or of wires a matrix, from each command (column) to each motor (row), whose squares grow as they become certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive.agents import layer_around
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.records import LAYER_OFF

Array = NDArray[Any]
Colour = tuple[int, int, int]

HEIGHT = 110  # pixels of the panel; it is as wide as the film, and the matrix or bars are a square on its right
RIBBON, TITLE = 6, 14
MANY = 12  # with more synapses than so many, bands of standard deviations would hide each other
COLOURS: tuple[Colour, ...] = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (148, 103, 189), (140, 86, 75)),
    *((227, 119, 194), (23, 190, 207), (188, 189, 34)),
)
GREY: Colour = (170, 170, 170)
POSITIVE: Colour = (31, 119, 180)
NEGATIVE: Colour = (200, 30, 30)


class Belief(NamedTuple):
    """
    What a layer believes after a step, in one environment.

    :param acting: name of the hypothesis that acts
    :param estimates: of each hypothesis with synapses, means and standard deviations, [n] each
    """

    acting: str
    estimates: Mapping[str, tuple[Array, Array]]


def belief_of(player: Player) -> Belief | None:
    """
    What the layer of an agent believes now, in the first environment.

    :param player: after a step
    :return: None without a layer, if it is frozen or off, or if none of its hypotheses has synapses
    """
    policy = layer_around(player.plastic)
    if policy is None or player.control in ("frozen_at_onset", "off", LAYER_OFF):
        return None
    known = policy.estimates(player.state)
    believed = {h.name: h.believed(known[h.name]) for h in policy.layer.hypotheses}
    estimates = {name: (mean[0], np.sqrt(variance[0])) for name, (mean, variance) in believed.items() if mean.shape[1]}
    return Belief(policy.acting(player.state)[0], estimates) if estimates else None


def shown_hypothesis(beliefs: Sequence[Belief]) -> str:
    """The hypothesis that acts most, nominal aside; else the first. :param beliefs: of one agent, over time"""
    plastic = beliefs[0].estimates
    acting = Counter(belief.acting for belief in beliefs if belief.acting in plastic)
    return acting.most_common(1)[0][0] if acting else next(iter(plastic))


def plot_width(width: int) -> int:
    """Pixels of the curves, left of the square. :param width: of the film"""
    return width - min(HEIGHT, width // 2) - 4


def draw_panel(
    draw: Any, beliefs: Sequence[Belief], now: int, box: tuple[int, int, int], onset: int | None, length: int
) -> None:
    """
    Draw the panel of one agent.

    :param draw: of PIL
    :param beliefs: of the filmed steps
    :param now: index of the present step; past its end, the last one counts
    :param box: left, top and width in pixels
    :param onset: index of the first perturbed step, None if it is not filmed
    :param length: of the film, in steps: an agent that falls has fewer beliefs, and they end where its speed does
    """
    left, top, width = box
    name = shown_hypothesis(beliefs)
    names = list(beliefs[0].estimates)
    until = min(now + 1, len(beliefs))
    acting = beliefs[until - 1].acting
    from PIL import ImageFont

    font = ImageFont.load_default(11)
    draw.text((left + 4, top), f"estimates of {name}", fill=(60, 60, 60), font=font)
    said = f"acts: {acting}"
    wide = plot_width(width)
    draw.text((left + wide - 4 - draw.textlength(said, font), top), said, _colour(acting, names), font)
    plot = left, top + TITLE + RIBBON + 2, wide, HEIGHT - TITLE - RIBBON - 4
    step = plot[2] / length
    for t, belief in enumerate(beliefs[:until]):
        x = left + t * step
        draw.rectangle((x, top + TITLE, x + step, top + TITLE + RIBBON - 1), fill=_colour(belief.acting, names))
    _draw_means(draw, [belief.estimates[name] for belief in beliefs], until, plot, (onset, length))
    mean, std = beliefs[until - 1].estimates[name]
    n = round(len(mean) ** 0.5)
    square = left + wide + 4, top + 3, width - wide - 6
    if name in ("plugs", "wires"):
        _draw_matrix(draw, mean.reshape(n, n), std.reshape(n, n), square)
    else:
        _draw_bars(draw, mean, std, square)


def _colour(name: str, names: Sequence[str]) -> Colour:
    """Of a hypothesis; grey of nominal."""
    return COLOURS[names.index(name) % len(COLOURS)] if name in names else ((0, 0, 0) if name != "nominal" else GREY)


def _light(colour: Colour) -> Colour:
    red, green, blue = (255 - (255 - c) // 4 for c in colour)
    return red, green, blue


def _draw_means(
    draw: Any,
    estimates: Sequence[tuple[Array, Array]],
    until: int,
    plot: tuple[int, int, int, int],
    times: tuple[int | None, int],
) -> None:
    (left, top, width, height), (onset, length) = plot, times
    means, stds = (np.array(arrays) for arrays in zip(*estimates, strict=True))  # [T, n] each
    low, high = min(-1.2, float(means.min())), max(1.2, float(means.max()))
    x = left + np.arange(len(means)) * (width - 1) / max(length - 1, 1)

    def y(values: Array) -> Array:
        return top + (high - np.clip(values, low, high)) / (high - low) * (height - 1)

    for level in (-1.0, 0.0, 1.0):
        at = float(y(np.array(level)))
        draw.line([(left, at), (left + width, at)], fill=(225, 225, 225))
    if onset is not None and onset < until:
        draw.line([(x[onset], top), (x[onset], top + height)], fill=NEGATIVE, width=2)
    n = means.shape[1]
    colours = [COLOURS[(i if n <= MANY else i // round(n**0.5)) % len(COLOURS)] for i in range(n)]
    if until < 2:
        return
    if n <= MANY:
        for i, colour in enumerate(colours):
            upper, lower = (y(means[:until, i] + sign * stds[:until, i]) for sign in (1, -1))
            edge = [*zip(x[:until], upper, strict=True), *reversed([*zip(x[:until], lower, strict=True)])]
            draw.polygon([(float(a), float(b)) for a, b in edge], fill=_light(colour))
    for i, colour in enumerate(colours):
        draw.line([(float(a), float(b)) for a, b in zip(x[:until], y(means[:until, i]), strict=True)], fill=colour)


def _draw_bars(draw: Any, mean: Array, std: Array, square: tuple[int, int, int]) -> None:
    left, top, size = square
    low, high = min(-1.2, float((mean - std).min())), max(1.2, float((mean + std).max()))
    wide = size / len(mean)

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (size - 1)

    for i, (m, s) in enumerate(zip(mean, std, strict=True)):
        x = left + (i + 0.5) * wide
        upper, lower = sorted((y(0), y(m)))
        draw.rectangle((x - 0.35 * wide, upper, x + 0.35 * wide, lower), fill=COLOURS[i % len(COLOURS)])
        draw.line([(x, y(m + s)), (x, y(m - s))], fill=(0, 0, 0))
    draw.line([(left, y(0)), (left + size, y(0))], fill=GREY)


def _draw_matrix(draw: Any, mean: Array, std: Array, square: tuple[int, int, int]) -> None:
    left, top, size = square
    cell = size / len(mean)
    for (row, column), m in np.ndenumerate(mean):
        x, y = left + column * cell, top + row * cell
        draw.rectangle((x, y, x + cell - 1, y + cell - 1), outline=(225, 225, 225))
        strength, certain = min(abs(m), 1.0), 1 - 0.7 * min(float(std[row, column]), 1.0)
        full = POSITIVE if m > 0 else NEGATIVE
        colour = tuple(round(255 - (255 - c) * strength) for c in full)
        half = 0.5 * (cell - 2) * certain
        centre = x + cell / 2 - 0.5, y + cell / 2 - 0.5
        draw.rectangle((centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half), fill=colour)
