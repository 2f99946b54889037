"""Commands that arrive late."""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.hypotheses.base import Array, Hypothesis, Sizes
from sb3_plastic.adaptive.predictor import Predictor

BLURRED = 0.35
"""What the forward model leaves a larger share of unexplained, the actor reads from the nearest example: the mean of a
contact force is neither contact nor flight, and Ants fell by it (docs/results/adaptation/tried.md). Of an Ant's contact
forces it leaves .37 to .49, of all else .35 at most, of other robots' observations .27."""


class Late(Hypothesis):
    """
    The command arrives some steps late. Nothing is to be learned: the efference copy is delayed, and the actor reads
    the observation that is predicted for the moment of arrival. What cannot be foreseen (:data:`BLURRED`) is as it was
    when the robot was most like that; for a model without examples, as it is measured.

    :param sizes: of the robot
    :param delay: steps
    """

    watchful = True

    def __init__(self, sizes: Sizes, delay: int) -> None:
        super().__init__(sizes)
        self.delay = delay
        self.name = f"late_{delay}"
        self.blurred = np.flatnonzero(sizes.unexplained > BLURRED)

    def sense(self, mean: Array, o: Array, commands: Array, model: Predictor) -> Array:
        """The observation after the commands that are still on their way."""
        ahead = o
        for k in reversed(range(self.delay)):
            ahead = model.advance(ahead, commands[:, k])
        if len(self.blurred):
            components, examples = self.sizes.components, model.examples
            real = o[:, components] if examples is None else examples.nearest(ahead[:, components])
            ahead[:, components[self.blurred]] = real[:, self.blurred]
        return ahead
