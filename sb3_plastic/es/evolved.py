"""Which of the actor's parameters evolve, and where the others come from."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.save_util import load_from_zip_file
from torch import Tensor, nn

from sb3_plastic.errors import UserError, check_choice
from sb3_plastic.export.folder import is_export, read_folder
from sb3_plastic.policies import PlasticPolicy

FIXED = ("kept", "redrawn")
"""What happens to parameters that do not evolve: they stay, or are drawn anew in each episode."""

MODULES = ("pi_features_extractor", "snn", "action_net")
"""The actor's modules, in the order of ``PlasticPolicy.actor_parameters``."""


def actor_names(policy: PlasticPolicy) -> list[str]:
    """Names of the actor's parameters, such as ``snn.layers.0.w``, in the order of ``policy.actor_parameters()``."""
    return [f"{module}.{name}" for module in MODULES for name, _ in getattr(policy, module).named_parameters()]


def groups_of(policy: PlasticPolicy) -> dict[str, list[bool]]:
    """
    Groups of parameters that can be named as a whole.

    :param policy: policy
    :return: for each group, whether each of the actor's parameters belongs to it
    """
    names = actor_names(policy)
    plastic = {id(parameter) for parameter in policy.snn.plasticity_parameters()}
    plasticity = [id(parameter) in plastic for parameter in policy.actor_parameters()]
    return {
        "all": [parameter.requires_grad for parameter in policy.actor_parameters()],
        "plasticity": plasticity,
        "weights": [n.startswith("snn.layers.") and not p for n, p in zip(names, plasticity, strict=True)],
        "features": [name.startswith("pi_features_extractor.") for name in names],
        "encoder": [name.startswith("snn.encoder.") for name in names],
        "readout": [name.startswith("snn.readout.") for name in names],
        "decoder": [name.startswith("action_net.") for name in names],
    }


class Evolved:
    """
    The parameters that evolve, a part of all that the actor has. A: numbers of the actor, D: numbers that evolve.

    :param policy: policy
    :param evolve: ``all`` that is not frozen (``requires_grad``), ``plasticity``, or a list of groups (``weights``,
        ``plasticity``, ``features``, ``encoder``, ``readout``, ``decoder``) and of patterns of names
        (``snn.layers.1.*``)
    :param fixed: a name in ``FIXED``
    :raises UserError: if a name matches nothing
    """

    def __init__(self, policy: PlasticPolicy, evolve: str | Sequence[str], fixed: str) -> None:
        check_choice("fixed", fixed, FIXED)
        groups, names = groups_of(policy), actor_names(policy)
        if not isinstance(evolve, Sequence) or not all(isinstance(entry, str) for entry in evolve):
            raise UserError(f"evolve is a name or a list of names, got {evolve!r}. Groups: {', '.join(groups)}.")
        chosen = [False] * len(names)
        for entry in [evolve] if isinstance(evolve, str) else evolve:
            matches = groups.get(entry, [fnmatchcase(name, entry) for name in names])
            if not any(matches):
                raise UserError(
                    f"evolve names {entry!r}, but the actor has no such parameters. Groups: {', '.join(groups)}; "
                    f"names, with wildcards: {', '.join(names)}."
                )
            chosen = [a or b for a, b in zip(chosen, matches, strict=True)]
        if not any(chosen):
            raise UserError("evolve is empty: nothing would evolve.")
        self.plasticity = [n for n, c, p in zip(names, chosen, groups["plasticity"], strict=True) if c and p]
        self.redrawn = fixed == "redrawn"
        self._sizes = [parameter.numel() for parameter in policy.actor_parameters()]
        sizes = torch.tensor(self._sizes)
        self._mask = torch.repeat_interleave(torch.tensor(chosen), sizes)  # [A]

    def part(self, actor: Tensor) -> Tensor:
        """
        :param actor: all numbers of an actor, [A]
        :return: those that evolve, [D]
        """
        return actor[self._mask]

    def whole(self, actor: Tensor, vectors: Tensor) -> Tensor:
        """
        :param actor: all numbers of an actor, [A]
        :param vectors: those that evolve, of individuals, [B, D]
        :return: all numbers of the individuals, [B, A]
        """
        if vectors.shape[1] == len(self._mask):
            return vectors
        rows = actor.repeat(len(vectors), 1)
        rows[:, self._mask] = vectors
        return rows

    def redraw(self, rows: Tensor, which: np.ndarray, seeds: np.ndarray, actor: Tensor) -> None:
        """
        Draw the fixed numbers of some individuals anew, tensor by tensor, from the normal distribution with the mean
        and the standard deviation that the tensor has in the policy.

        :param rows: all numbers of individuals, [B, A]; changed in place
        :param which: individuals, int [n]
        :param seeds: on which alone the draw depends, int [n]
        :param actor: all numbers of the policy's actor, [A]
        """
        fixed = ~self._mask
        parts = actor.split(self._sizes)
        mean = torch.cat([part.mean().expand(len(part)) for part in parts])[fixed]
        std = torch.cat([part.std(correction=0).expand(len(part)) for part in parts])[fixed]
        for row, seed in zip(which, seeds, strict=True):
            generator = torch.Generator().manual_seed(int(seed))
            rows[row, fixed] = mean + std * torch.randn(len(mean), generator=generator)


def saved_parameters(path: str | Path) -> dict[str, Tensor]:
    """
    The parameters of a saved policy. Nothing of the file is unpickled.

    :param path: a saved ``PlasticPPO`` or ``PlasticES``, or the folder of an exported policy
    :return: by name
    """
    if is_export(Path(path)):
        return read_folder(Path(path))[1]
    saved: Any = load_from_zip_file(path, device="cpu", load_data=False)[1]
    return dict((saved or {}).get("policy", {}))


def take_actor(policy: PlasticPolicy, path: str | Path, optional: Sequence[str]) -> None:
    """
    Copy the actor of a saved policy.

    :param policy: to be changed
    :param path: see :func:`saved_parameters`
    :param optional: parameters that the saved policy need not have: those of plasticity that evolve
    :raises UserError: if the saved actor has other parameters
    """
    saved = saved_parameters(path)
    with torch.no_grad():
        for name, parameter in zip(actor_names(policy), policy.actor_parameters(), strict=True):
            given = saved.get(name)
            if given is not None and given.shape == parameter.shape:
                parameter.copy_(given)
            elif name not in optional:
                got = "nothing of this name" if given is None else f"one of shape {tuple(given.shape)}"
                raise UserError(
                    f"{path} does not fit: the policy's {name} has shape {tuple(parameter.shape)}, the file holds "
                    f"{got}. Give PlasticES the policy_kwargs with which the model was trained."
                )


def get_vector(parameters: list[nn.Parameter]) -> Tensor:
    """A copy of parameters, one after the other, on the CPU: [A]."""
    return torch.cat([parameter.detach().cpu().flatten() for parameter in parameters])


def set_vector(parameters: list[nn.Parameter], vector: Tensor) -> None:
    """
    Copy a vector into parameters. (torch's ``vector_to_parameters`` makes them views of it.)

    :param parameters: to be written
    :param vector: [A]
    """
    with torch.no_grad():
        parts = vector.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))
