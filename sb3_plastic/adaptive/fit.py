"""Training of the forward model, on nominal transitions alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event, Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import configure_logger
from torch import Tensor, nn

from sb3_plastic.adaptive.bodies import BODIES, check_net_arch
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.errors import UserError, check_choice, check_number
from sb3_plastic.progress import Progress
from sb3_plastic.snn.scan import get_num_threads

Array = NDArray[Any]

EXACT = 1e-6
"""Share of its variance that a repeated command has of its own, at most: rounding."""

WORST_SHARE = 0.5
"""Components of which the model leaves more than this share of the variance unexplained are not predicted."""

ENOUGH_UPDATES = 5000
"""Few transitions are trained on in small batches, so that there are about so many steps of Adam."""

SIFTING = 5
"""One of so many passes goes to finding out which components can be predicted, if that is enough of them: after two of
400k transitions an Ant once kept 29 components instead of 39 to 43."""

ENOUGH_TO_SIFT = 1000
"""Steps of Adam."""


POINTS = 200
"""Of the curve of a fit's loss, about so many."""

Tick = Callable[[int, float], None]
"""What is called after a batch, with the number of its transitions and their loss."""


class FitCurve:
    """
    What a fit shows of itself: how far it is, and its loss in TensorBoard.

    :param tensorboard_log: folder for TensorBoard; None: the loss is not shown
    :param progress: shows how far the training is
    """

    def __init__(self, tensorboard_log: str | None, progress: Progress) -> None:
        self.progress = progress
        self.logger = Logger(None, []) if tensorboard_log is None else configure_logger(0, tensorboard_log, "adapt")
        self.total, self.done, self.losses = 1, 0, list[float]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.logger.close()

    def begin(self, total: int) -> None:
        """Before the first batch. :param total: transitions that all networks learn from"""
        self.total = total
        self.progress.begin("train", total)

    def tick(self, n: int, loss: float) -> None:
        """After a batch of any network. :param n: of its transitions :param loss: their mean"""
        self.progress.tick(n)
        self.losses.append(loss)
        points, self.done = self.done * POINTS // self.total, self.done + n
        if self.done * POINTS // self.total > points:
            self.logger.record("adaptive/loss", np.mean(self.losses))
            self.logger.dump(self.done)
            self.losses.clear()

    def end(self, shares: Array) -> None:
        """After the last batch. :param shares: of the variance of each component that stays unexplained, [C]"""
        self.logger.record("adaptive/unexplained", shares.mean())
        self.logger.record("adaptive/unexplained_worst", shares.max())
        self.logger.dump(self.done)


def check_arguments(body: str, net_arch: Sequence[int], seed: int, **counts: int) -> None:
    """
    Refuse what makes no forward model.

    :param body: a name in ``BODIES``
    :param net_arch: units of each of its layers
    :param seed: a whole number of at least 0
    :param counts: other whole numbers of at least 1, by name
    :raises UserError: naming the argument
    """
    check_number("seed", seed, at_least=0, integer=True)
    check_choice("forward model", body, BODIES)
    check_net_arch(body, net_arch)
    for name, number in counts.items():
        check_number(name, number, at_least=1, integer=True)


def check_strengths(**strengths: float) -> None:
    """Refuse what is no number of at least 0. :param strengths: by name :raises UserError: naming the argument"""
    for name, number in strengths.items():
        check_number(name, number, at_least=0)


def flat(transitions: Transitions) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, commands and changes of finite transitions, [n, ...] each."""
    o, a, after = (torch.from_numpy(x).flatten(0, 1) for x in transitions[:3])
    change = after - o
    finite = o.isfinite().all(1) & change.isfinite().all(1)
    return o[finite], a[finite], change[finite]


def fit(
    model: ForwardModel,
    training: Transitions,
    held_out: Transitions,
    epochs: int = 20,
    generator: torch.Generator | None = None,
    tick: Tick | None = None,
) -> Array:
    """
    Train a forward model: one network for a while on all components, to find those that cannot be predicted, such as
    contact forces, then all networks on the others alone, which gain by it.

    :param model: to train, in place
    :param training: nominal transitions
    :param held_out: others, which say what can be predicted
    :param epochs: passes over them
    :param generator: pays for the order
    :param tick: called after each batch with the number of its transitions and their loss
    :return: unexplained share of the components that are kept, [C]
    :raises UserError: if none is left
    """
    o, _, change = flat(training)
    set_scales(model, o, change)
    sifting = sifting_of(epochs, len(o))
    if sifting:
        sieve = copy.deepcopy(model)
        sieve.members = sieve.members[:1]  # one network can tell
        train(sieve, training, sifting, generator=generator, tick=tick)
        keep_predictable(sieve, held_out)
        model.keep(sieve.components)
    train(model, training, epochs - sifting, generator=generator, tick=tick)
    model.requires_grad_(False)
    return keep_predictable(model, held_out)


def sifting_of(epochs: int, n: int) -> int:
    """Passes that find the components, 0 if that is not enough. :param epochs: all passes  :param n: transitions"""
    sifting = epochs // SIFTING
    return sifting if sifting * n / batch_size_of(sifting, n) >= ENOUGH_TO_SIFT else 0


def work_of(epochs: int, n: int, members: int) -> int:
    """Transitions that a fit learns from. :param epochs: passes :param n: transitions :param members: networks"""
    sifting = sifting_of(epochs, n)
    return n * (sifting + (epochs - sifting) * members)


def batch_size_of(epochs: int, n: int) -> int:
    """Transitions of a batch. :param epochs: passes over them  :param n: how many there are"""
    return int(np.clip(epochs * n / ENOUGH_UPDATES, 32, 512))


def train(
    model: ForwardModel,
    transitions: Transitions,
    epochs: int,
    learning_rate: float = 2e-3,
    generator: torch.Generator | None = None,
    tick: Tick | None = None,
) -> None:
    """
    Train a forward model, whose scales are set: its members side by side, each in an order of its own and in a thread
    of its own, if :func:`sb3_plastic.snn.scan.set_num_threads` allows more than one. Results do not depend on it.

    :param model: to train the components that it predicts, in place
    :param transitions: nominal ones
    :param epochs: passes over them
    :param learning_rate: at the start; it falls to 0
    :param generator: pays for the orders
    :param tick: called after each batch of each member with the number of its transitions and their loss
    """
    o, a, change = flat(transitions)
    z, y = model.standardised(o), change[:, model.components] / model.scale
    stopped, ticking = Event(), Lock()

    def learn(member: nn.Module, seed: int) -> None:
        for n, loss in train_member(member, (z, a, y), epochs, learning_rate, torch.Generator().manual_seed(seed)):
            if stopped.is_set():
                return
            if tick is not None:
                with ticking:
                    tick(n, loss.item())

    seeds = torch.randint(2**62, (len(model.members),), generator=generator).tolist()
    n_threads = len(seeds) if get_num_threads() > 1 else 1
    with ThreadPoolExecutor(n_threads) as threads:
        try:
            learning = [threads.submit(learn, *pair) for pair in zip(model.members, seeds, strict=True)]
            for learned in as_completed(learning):
                learned.result()
        finally:  # an error or Ctrl-C ends all of them
            stopped.set()
    model.finish(o)


def train_member(
    member: nn.Module,
    transitions: tuple[Tensor, Tensor, Tensor],
    epochs: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Iterator[tuple[int, Tensor]]:
    """
    Train one network.

    :param member: in place
    :param transitions: standardised observations, commands and changes, see :func:`loss_of`
    :param epochs: passes over them
    :param learning_rate: at the start; it falls to 0
    :param generator: pays for the order
    :return: after each batch, the number of its transitions and their loss
    """
    n = len(transitions[0])
    batch_size = batch_size_of(epochs, n)
    n_batches, done = epochs * -(-n // batch_size), 0
    optimizer = torch.optim.Adam(member.parameters(), learning_rate, fused=True)
    for _ in range(epochs):
        for batch in torch.randperm(n, generator=generator).split(batch_size):
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - done / n_batches)
            loss = loss_of(member, *(part[batch] for part in transitions))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            yield len(batch), loss.detach()


def set_scales(model: ForwardModel, o: Tensor, change: Tensor) -> None:
    """Standardise by what was seen. :param model: of all components, in place :param o: [n, O] :param change: [n, O]"""
    model.mean.copy_(o.mean(0))
    model.std.copy_(o.std(0).clamp(min=1e-6))
    model.scale.copy_(change.std(0).clamp(min=1e-6))


def loss_of(member: nn.Module, z: Tensor, a: Tensor, y: Tensor) -> Tensor:
    """
    Squared error, bounded, and the likelihood of its noise beside.

    :param member: a network of the model
    :param z: standardised observations [n, O]
    :param a: commands [n, A]
    :param y: change of the components that it predicts, in standard deviations, [n, C]
    """
    f, B, log_R = member(z, a)
    error = y - f - (B @ a.unsqueeze(-1)).squeeze(-1)
    # A third of the bound of 5 standard deviations and beyond are collisions, which must not lead.
    squared = error.pow(2).clamp(max=25)
    likelihood = log_R + squared.detach() / log_R.exp()
    return squared.mean() + 0.1 * likelihood.mean()


@torch.no_grad()
def unexplained(model: ForwardModel, transitions: Transitions) -> Array:
    """
    Share of the variance of each component's change that the model leaves unexplained, [C].

    :param model: trained
    :param transitions: nominal ones that it has not seen
    """
    o, a, change = (x.to(model.mean.dtype) for x in flat(transitions))
    y = change[:, model.components] / model.scale
    error = torch.cat([_error(model, *part) for part in zip(o.split(8192), a.split(8192), y.split(8192), strict=True)])
    return (error.pow(2).mean(0) / y.var(0).clamp(min=1e-12)).numpy()


def _error(model: ForwardModel, o: Tensor, a: Tensor, y: Tensor) -> Tensor:
    f, B, _ = (x.mean(0) for x in model(o, a))
    return y - f - (B @ a.unsqueeze(-1)).squeeze(-1)


def predictable(model: ForwardModel, held_out: Transitions, share: float = EXACT) -> tuple[Array, Array]:
    """
    The components that the model can predict, so that nobody has to list those that matter.

    :param model: trained
    :param held_out: nominal transitions that it has not seen
    :param share: as for :func:`echoes`
    :return: which of those that it predicts, indices, and the unexplained share of all of these, [C]
    """
    left, components = unexplained(model, held_out), model.components.numpy()
    moves = model.scale.numpy() > 1e-5 * model.std.numpy()[components]
    return np.flatnonzero((left < WORST_SHARE) & moves & ~echoes(held_out, share)[components]), left


def echoes(transitions: Transitions, share: float = EXACT) -> Array:
    """
    Components of the observation that repeat the command, such as the previous action: they say nothing of the body,
    and would be taken for proof that nothing has changed. Bool [O].

    :param transitions: nominal ones
    :param share: of the variance that a linear function of the command may leave
    """
    o, a, change = (x.double() for x in flat(transitions))
    after = o + change
    inputs = torch.cat([a, torch.ones(len(a), 1)], 1).double()
    error = after - inputs @ torch.linalg.lstsq(inputs, after).solution
    variance = after.var(0)
    return ((error.square().mean(0) < share * variance) & (variance > 0)).numpy()


def keep_predictable(model: ForwardModel, held_out: Transitions) -> Array:
    """
    Drop the components that the model cannot predict.

    :param model: trained, changed in place
    :param held_out: nominal transitions that it has not seen
    :return: unexplained share of those that are kept, [C]
    :raises UserError: if none is left
    """
    good, share = predictable(model, held_out)
    if not len(good):
        raise UserError(
            f"The forward model predicts no component of the observation (unexplained: {share.min():.2f} at best). "
            "It needs more steps, or the observation does not tell the robot's state."
        )
    model.keep(torch.from_numpy(good))
    return share[good]
