"""
The adaptive layer inside a policy: its forward model learns beside the training, from the training's own rollouts.

Rollouts are played without the layer: they are nominal, and the replay of PPO's update stays exact. After each update
``learn`` trains the forward model on a window of recent rollouts; ``settle`` calibrates the thresholds on transitions
that were held out, and from then on the layer is there. What it has found lies in the module's state, so that a model's
file holds it.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from sb3_plastic.adaptive.agents import box
from sb3_plastic.adaptive.calibration import calibrate, replay
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.fit import EXACT, flat, loss_of, predictable, set_scales
from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.options import ACTOR, LayerOptions
from sb3_plastic.adaptive.rollouts import side_by_side, split
from sb3_plastic.adaptive.settings import LayerSettings
from sb3_plastic.adaptive.signals import signals_of
from sb3_plastic.export import Normalization

ENOUGH = 4096
"""Transitions that are held out, about so many of the last ones: with fewer, no threshold is known."""

FIRST = 200
"""First readings of the last so many episodes: VecNormalize's statistics move."""

DRIFT = 1e-2
"""Share of its variance that a repeated command may seem to have of its own, since VecNormalize's statistics move: .2 %
was measured."""


class LayerBeside(nn.Module):
    """
    Owns the forward model's parameters and, in its extra state, what the calibration found.

    :param observation_space: of the policy, normalised if the policy's are
    :param action_space: of the policy
    :param options: plain data
    :param n_features: how many features the actor has; used with ``forward_model='actor'`` alone, where they follow the
        observation in the transitions
    :raises UserError: on spaces that are no Box with one axis
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        options: LayerOptions,
        n_features: int = 0,
    ) -> None:
        super().__init__()
        (n_observations,), (n_motors,) = (
            box(name, space).shape for name, space in (("observation", observation_space), ("action", action_space))
        )
        with torch.random.fork_rng(devices=[]):  # the policy draws the same weights with a layer and without
            torch.default_generator.manual_seed(0)  # that of the CPU alone: others are not restored
            if options.forward_model == ACTOR:
                self.model = ForwardModel(n_observations + n_features, n_motors, net_arch=())
            else:
                shape = options.forward_model, options.net_arch, options.members
                self.model = ForwardModel(n_observations, n_motors, *shape)
        self.n_observations = n_observations
        self.options = options
        self.settings: LayerSettings | None = None
        self.components: list[int] = []
        self._layer: AdaptiveLayer | None = None
        self._window: deque[tuple[Tensor, Tensor, Tensor]] = deque()
        self._held_out: deque[Transitions] = deque()
        self._first: deque[Any] = deque(maxlen=FIRST)
        self._starts: tuple[list[int], tuple[float, ...], tuple[float, ...]] = [], (), ()
        self._optimizer: torch.optim.Adam | None = None
        self._generator = torch.Generator().manual_seed(0)

    def _apply(self, fn: Any, recurse: bool = True) -> LayerBeside:
        return self  # wherever the policy goes, this stays on the CPU: the layer is asked in numpy

    # Learning, beside a training

    def learn(self, rollout: Transitions, remaining: float) -> dict[str, float]:
        """
        Train the forward model for a while. The layer is gone until :meth:`settle` calibrates it anew.

        :param rollout: nominal transitions; where ``after`` is not known it is NaN
        :param remaining: fraction of the training that remains
        :return: for the log: mean share of the variance that is unexplained, and normalised innovation squared
        """
        if self.settings and self.settings.start_mean:  # of a training that is resumed after few episodes
            self._starts = self.components, self.settings.start_mean, self.settings.start_std
        self.settings = self._layer = None
        training, held_out = split(rollout)
        self._window.append(flat(training))
        self._held_out.append(held_out)
        self._first.extend(rollout.o[rollout.starts])
        _trim(self._window, self.options.window, lambda part: len(part[0]))
        _trim(self._held_out, ENOUGH, lambda part: part.starts.size)
        o, a, change = (torch.cat(parts) for parts in zip(*self._window, strict=True))
        if len(o) < 2:
            return {}
        set_scales(self.model, o, change)
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(self.model.parameters(), self.options.learning_rate, fused=True)
        self._optimizer.param_groups[0]["lr"] = self.options.learning_rate * max(remaining, 0.0)
        n_updates = max(self.options.epochs * training.starts.size // self.options.batch_size, 1)
        for _ in range(n_updates):
            batch = torch.randint(len(o), (self.options.batch_size,), generator=self._generator)
            z, y = self.model.standardised(o[batch]), change[batch] / self.model.scale
            loss = torch.stack([loss_of(member, z, a[batch], y) for member in self.model.members]).sum()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        return _errors(self.model, held_out, self.n_observations)

    def settle(self, normalize: VecNormalize | None = None) -> dict[str, float]:
        """
        Calibrate the thresholds, if the forward model has learned since: from then on the layer is there.

        :param normalize: of the training: where a sensor shows nothing, the policy observes what it makes of 0
        :return: for the log: how the layer behaves on nominal transitions; empty if nothing had to be done
        """
        if self.settings is not None or not self._held_out:
            return {}
        held_out = side_by_side(self._held_out)
        components = np.zeros(0, int)
        if len(o := flat(held_out)[0]) > 1:  # episodes of one step tell nothing
            self.model.finish(o)
            components, _ = predictable(self.model, held_out, DRIFT if normalize and normalize.norm_obs else EXACT)
            components = components[components < self.n_observations]
        if not len(components):
            warnings.warn(
                "The forward model predicts no component of the observation yet, so there is no adaptive layer: train "
                "longer, or with more epochs of `adaptive`.",
                stacklevel=2,
            )
            self._held_out.clear()
            return {}
        self.components = components.tolist()
        zero = _sensor_zero(normalize, self.n_observations)
        options = self.options
        settings = LayerSettings(options.names(), probing=options.probing, lost_at=options.lost_at, sensor_zero=zero)
        layer = self._made(settings)
        first = np.array(self._first).reshape(-1, held_out.o.shape[2])
        self.settings = calibrate(layer, held_out, first)
        predicted, mean, std = self._starts
        if not self.settings.start_mean and predicted == self.components:
            self.settings = replace(self.settings, start_mean=mean, start_std=std)
        layer = self.layer()
        return signals_of(layer, replay(layer, held_out))

    # The layer

    def is_settled(self) -> bool:
        """Whether there is a layer: its forward model has been trained, and its thresholds calibrated."""
        return self.settings is not None

    def layer(self) -> AdaptiveLayer:
        """The layer, with the parameters of its calibration. It is there if :meth:`is_settled`."""
        assert self.settings is not None
        if self._layer is None:
            self._layer = self._made(self.settings)
        return self._layer

    def _made(self, settings: LayerSettings) -> AdaptiveLayer:
        model = copy.deepcopy(self.model)
        model.keep(torch.tensor(self.components))
        return AdaptiveLayer(model.requires_grad_(False), settings)

    # What a model's file holds beside the parameters: a tensor, since files hold numbers alone

    def get_extra_state(self) -> Tensor:
        """Settings and components as JSON, in bytes."""
        found = {"settings": asdict(self.settings) if self.settings else None, "components": self.components}
        return torch.tensor(list(json.dumps(found).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of :meth:`get_extra_state`. :param state: bytes"""
        found = json.loads(bytes(state.tolist()).decode())
        stored = found["settings"]
        self.components, self._layer = found["components"], None
        self.settings = stored and LayerSettings.from_plain(stored)


def _sensor_zero(normalize: VecNormalize | None, n_observations: int) -> tuple[float, ...]:
    """0 normalised. Empty if nothing is, or something else than these observations."""
    if normalize is None or not normalize.norm_obs or normalize.observation_space.shape != (n_observations,):
        return ()
    unclipped = replace(Normalization.of(normalize), clip=np.inf)
    return tuple(map(float, unclipped(np.zeros(n_observations))))


def _trim(parts: deque[Any], enough: int, size: Callable[[Any], int]) -> None:
    """Forget the oldest parts that are not needed."""
    while len(parts) > 1 and sum(map(size, parts)) - size(parts[0]) >= enough:
        parts.popleft()


@torch.no_grad()
def _errors(model: ForwardModel, held_out: Transitions, n_observations: int) -> dict[str, float]:
    o, a, change = flat(held_out)
    if len(o) < 2:
        return {}
    y = change / model.scale
    f, B, log_R = model(o, a)  # of each member
    f, B, R = f.mean(0), B.mean(0), log_R.exp().mean(0)
    squared = (y - f - (B @ a.unsqueeze(-1)).squeeze(-1)).square()
    moves = (y.var(0) > 1e-6) & (torch.arange(y.shape[1]) < n_observations)
    if not moves.any():
        return {}
    share = (squared.mean(0) / y.var(0).clamp(min=1e-6))[moves]
    nis = (squared / R)[:, moves].mean(1)
    return {"unexplained": share.mean().item(), "unexplained_worst": share.max().item(), "nis": nis.median().item()}
