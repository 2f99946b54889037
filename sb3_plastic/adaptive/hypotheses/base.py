"""
What a hypothesis is: a guess at what has changed, with synapses that say by how much. A new one is a small class.

It says how the innovation depends on its synapses (``innovation``), what the actor should see (``sense``), and which
command brings about what the actor intends (``decode``). It has no state: synapses are passed in.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.adaptive import kernels
from sb3_plastic.adaptive.predictor import Prediction, Predictor
from sb3_plastic.adaptive.synapses import Rates, Synapses, initial_synapses, variances

Array = NDArray[Any]


class Transition(NamedTuple):
    """
    What happened in the last step, and what had been expected.

    :param o: observation before it, [B, O]
    :param y: change of the observation, in standard deviations, [B, C]
    :param commands: the command sent, then those before it, [B, D, A]
    :param expected: the forward model's prediction, as if all were nominal; of what was not seen, R is UNSEEN times as
        large
    :param seen: whether the components were seen before and after, bool [B, C]; None: all
    """

    o: Array
    y: Array
    commands: Array
    expected: Prediction
    seen: Array | None = None


class Sizes(NamedTuple):
    """
    What a hypothesis needs to know of the robot.

    :param n_motors: A
    :param components: of the observation that are predicted, [C]
    :param mean: of each component of the observation, [O]
    :param std: standard deviation of each, [O]
    :param scale: standard deviation of its change in a step, of those that are predicted, [C]
    :param zero: what is observed of a sensor that shows nothing, [O]: 0, but where observations are normalised
    :param unexplained: share of the variance of its change that the forward model leaves, of those predicted, [C]
    """

    n_motors: int
    components: Array
    mean: Array
    std: Array
    scale: Array
    zero: Array
    unexplained: Array


class Hypothesis:
    """
    Base of all hypotheses, and the first of them: nothing has changed.

    :param sizes: of the robot
    """

    name = "nominal"
    full = True
    """Whether its synapses have a full covariance, or variances alone."""
    start_variance = 1e-4
    """Of each synapse, at the start of an episode."""
    noise_scale = 1.0
    """What its gain takes the forward model's variance for, as a multiple."""
    watchful = False
    """Whether it learns in the dead zone, too, where nominal or a watchful one acts. It should be cheap."""
    delay = 0
    """Steps after which a command arrives."""
    in_noise = False
    """Whether noise that lasts speaks for it, so that no more evidence is asked for then."""
    lasting = False
    """Whether what it stands for does not come and go, so that more evidence is asked for where it did."""
    case_of: str | None = None
    """A more general hypothesis, if it is a case of one: what hints at that hints at it."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    @cached_property
    def fixed(self) -> bool:
        """Whether it has nothing to learn, and predicts as nominal does, but for its delay."""
        kind = type(self)
        as_here = kind.innovation is Hypothesis.innovation and kind.learn is Hypothesis.learn
        return as_here and not len(self.start())

    def start(self) -> Array:
        """Means at the start, [n]: those of a nominal robot."""
        return np.zeros(0)

    def initial(self, n_envs: int, rates: Rates) -> Synapses:
        """Synapses at the start of an episode. :param n_envs: environments, B :param rates: how they learn"""
        return initial_synapses(self.start(), n_envs, self.full, rates)

    def believed(self, synapses: Synapses) -> tuple[Array, Array]:
        """
        What is estimated, for whoever reads it.

        :param synapses: of B environments
        :return: means, to be compared with :meth:`start`, and variances, [B, n] each
        """
        return synapses.mean, variances(synapses.covariance)

    def carried(self, synapses: Synapses) -> Synapses:
        """
        What is more than the last reading's: what the next episode of a ``lifetime`` begins with, and what a layer
        knows that is frozen.

        :param synapses: after the last reading
        """
        return synapses

    def inflation(self) -> Array:
        """What surprise adds to each variance, at most, [n]."""
        return np.zeros(0)

    def bounds(self) -> tuple[float, float]:
        """Smallest and largest mean."""
        return -1.6, 1.6

    def innovation(self, mean: Array, t: Transition, model: Predictor) -> tuple[Array, Array]:
        """
        :param mean: [B, n]
        :param t: the last step
        :param model: the forward model
        :return: innovation e [B, C], and H = -de/dm [B, C, n]
        """
        p = t.expected
        return t.y - p.f - (p.B @ t.commands[:, self.delay, :, None])[..., 0], np.zeros((*t.y.shape, 0))

    def jump(self, mean: Array, t: Transition, e: Array) -> Array | None:
        """
        What a change of the synapses *within* the last step does to it: a sensor that has just gone wrong jumps by its
        bias. None: nothing else than a change before it. It needs a full covariance. Who jumps is also judged by the
        first reading of an episode: see :mod:`~sb3_plastic.adaptive.start`.

        :param mean: [B, n]
        :param t: the last step
        :param e: its innovation [B, C]
        :return: derivative of the change of each component by its own synapse, [B, C]
        """
        return None

    def learn(
        self, synapses: Synapses, e: Array, H: Array, t: Transition, rates: Rates, common_noise: Array
    ) -> tuple[Synapses, Array]:
        """
        One step of learning; by default the rule of :mod:`~sb3_plastic.adaptive.synapses`, compiled.

        :param synapses: before
        :param e: innovation [B, C]
        :param H: derivative of the prediction by the means, [B, C, n]
        :param t: the last step
        :param rates: thresholds and bounds
        :param common_noise: what hypotheses are compared under, at least 1, [B]
        :return: synapses after, in arrays of their own, and the log-likelihood of the innovation, [B]
        :raises UserError: on a jump of synapses that have variances alone
        """
        return kernels.learn(synapses, e, H, t.expected.R, rates, common_noise, self.jump(synapses.mean, t, e))

    def sense(self, mean: Array, o: Array, commands: Array, model: Predictor) -> Array:
        """
        What the actor should see.

        :param mean: [B, n]
        :param o: observation [B, O]
        :param commands: sent so far, the last one first, [B, D, A]
        :param model: the forward model
        """
        return o

    def decode(self, mean: Array, variance: Array, intended: Array, p: Prediction) -> Array:
        """
        The command that brings about what the actor intends. It need not be clipped.

        :param mean: [B, n]
        :param variance: [B, n]
        :param intended: the actor's action [B, A]
        :param p: the forward model's prediction for it
        """
        return intended

    def doubt(self, variance: Array) -> Array | None:
        """
        How uncertain it is what each command does, as a variance: the layer probes by so much. None: it need not ask.

        :param variance: of its synapses, [B, n]
        :return: [B, A]
        """
        return None
