"""Training a network by gradient descent, and its accuracy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, nn

from sb3_plastic.snn.state import SNNState
from sb3_plastic.studies.temporal.bodies import GRUBody
from sb3_plastic.studies.temporal.networks import Answerer
from sb3_plastic.studies.temporal.playing import play_network
from sb3_plastic.tasks import NOT_ASKED, Task, accuracy


def detach_fast_weights(state: SNNState) -> SNNState:
    """Stop the gradient through fast weights and eligibilities between ticks."""
    return state._replace(layers=tuple(s._replace(h=s.h.detach(), e=s.e.detach()) for s in state.layers))


@dataclass(frozen=True)
class Recipe:
    """
    How a network is trained.

    :param n_updates: gradient steps
    :param batch: trials per step
    :param learning_rate: Adam's; it falls linearly towards a twentieth over the second half of the updates
    :param clip: largest norm of the gradient
    :param drop: the largest share of spikes dropped; each update draws its own, up to a ramp that ends at half of them
    :param spurious: the largest rate of spurious spikes, likewise
    :param alive: weight of ``sum_j (rate_j - .1)^2``, which keeps neurons from falling silent
    :param guided: the teacher's guidance (:func:`play_network`) falls from 1 to 0 over this part of the updates
    :param detach_fast_weights: see the function of that name
    :param frozen: names of parameters that stay as they are drawn
    """

    n_updates: int = 400
    batch: int = 64
    learning_rate: float = 1e-2
    clip: float = 1.0
    drop: float = 0.5
    spurious: float = 0.1
    alive: float = 0.1
    guided: float = 0.5
    detach_fast_weights: bool = False
    frozen: tuple[str, ...] = ()


def train(network: Answerer, task: Task, recipe: Recipe, seed: int) -> list[float]:
    """
    Train a network in place: cross-entropy at every question, back-propagated through the whole trial.

    A task in which answers have consequences is played in closed loop: answers are drawn from the network's softmax. No
    gradient goes through the draw: the teacher knows the right answer, whose cross-entropy is the loss.

    :param network: the network
    :param task: the task, whose noise is replaced by the recipe's
    :param recipe: how
    :param seed: of the trials and of the exploration
    :return: accuracy of each update's batch, of the likeliest answers; what they led to was drawn
    """
    for name, parameter in network.named_parameters():
        if name.rsplit(".", 1)[-1] in recipe.frozen:
            parameter.requires_grad_(False)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, recipe.learning_rate)
    generator = Generator().manual_seed(seed)
    each_tick = detach_fast_weights if recipe.detach_fast_weights else None
    curve = []
    for update in range(recipe.n_updates):
        done = update / recipe.n_updates
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * min(1.0, 1.95 - 1.9 * done)
        strength = min(1.0, 2 * done) * float(torch.rand(1, generator=generator))
        noisy = replace(task, drop=strength * recipe.drop, spurious=strength * recipe.spurious)
        trials = noisy.sample(recipe.batch, generator)
        explore = None if trials.outcomes is None else generator
        guidance = max(0.0, 1 - done / recipe.guided) if recipe.guided else 0.0
        played = play_network(network, noisy, trials, explore, guidance, each_tick)
        loss = nn.functional.cross_entropy(
            played.logits.flatten(0, 2), trials.targets.flatten(), ignore_index=NOT_ASKED
        )
        if not isinstance(network.body, GRUBody):  # of neurons that spike
            loss = loss + recipe.alive * (played.rates - 0.1).square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, recipe.clip)
        optimizer.step()
        curve.append(float(accuracy(played.logits.argmax(3), trials.targets)))
    return curve


@torch.no_grad()
def evaluate(network: Answerer, task: Task, n_trials: int, seed: int) -> float:
    """
    Accuracy of the best answers, in closed loop.

    :param network: the network
    :param task: the task, its noise included
    :param n_trials: number of trials, rounded up to whole batches of 256
    :param seed: of the trials
    """
    generator = Generator().manual_seed(seed)
    batch = min(n_trials, 256)
    scores = []
    for _ in range(0, n_trials, batch):
        trials = task.sample(batch, generator)
        scores.append(float(accuracy(play_network(network, task, trials).answers, trials.targets)))
    return sum(scores) / len(scores)
