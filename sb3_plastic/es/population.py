"""Individuals of a policy, side by side: row i of every batch belongs to individual i, who has weights of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sb3_plastic.copying import copied
from sb3_plastic.es.row_wise import RowWise
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.stepper import State


class Population:
    """
    A copy of a policy whose actor's parameters have a leading axis, one entry per individual. The spiking layers run
    on the same kernels, which take parameters per row; encoders and readouts compute elementwise, so theirs broadcast;
    features extractor and decoder go through :class:`RowWise`.

    :param policy: policy to copy; it stays as it is
    """

    def __init__(self, policy: PlasticPolicy) -> None:
        self._initial_state = policy.initial_state
        self._policy = copied(policy)
        self._policy.set_training_mode(False)
        self._parameters = self._policy.actor_parameters()
        self._shapes = [parameter.shape for parameter in self._parameters]
        for name in ("pi_features_extractor", "action_net"):
            module = getattr(self._policy, name)
            if any(True for _ in module.parameters()):
                setattr(self._policy, name, RowWise(module))

    def load(self, vectors: Tensor) -> None:
        """
        Set the parameters of the individuals, each at the start of an episode.

        :param vectors: in the order of ``policy.actor_parameters()``, [B, A]
        """
        self.set_parameters(vectors)
        # Not random, and one for all: individuals and generations are judged on the same noise of their encoders.
        start = self._initial_state(1, random=False)
        self._state: State = tuple(part.expand(len(vectors), *part.shape[1:]).clone() for part in start)

    def set_parameters(self, vectors: Tensor) -> None:
        """
        Set the parameters of the individuals, and keep their states.

        :param vectors: as in :meth:`load`
        """
        parts = vectors.to(self._policy.device).split([shape.numel() for shape in self._shapes], dim=1)
        for parameter, shape, part in zip(self._parameters, self._shapes, parts, strict=True):
            parameter.data = part.reshape(-1, *shape)
        self._rows = vectors
        self._stepper = self._policy.prepared(in_place=True)  # nobody keeps the states: steps may overwrite them

    def keep(self, rows: np.ndarray) -> None:
        """
        Drop all other individuals.

        :param rows: which to keep, int [b]
        """
        index = torch.as_tensor(rows)
        self.set_parameters(self._rows[index])
        self._state = tuple(tensor[index.to(tensor.device)] for tensor in self._state)

    def act(self, observation: np.ndarray | dict[str, np.ndarray], episode_starts: np.ndarray) -> np.ndarray:
        """
        The most likely actions.

        :param observation: of all individuals, [B, ...]
        :param episode_starts: bool [B]
        :return: actions as environments take them, [B, ...]
        """
        starts = torch.as_tensor(episode_starts, device=self._policy.device)
        with torch.no_grad():
            obs, _ = self._policy.obs_to_tensor(observation)
            actions, self._state = self._stepper.act(obs, self._state, starts, deterministic=True)
        return actions
