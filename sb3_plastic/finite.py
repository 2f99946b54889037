"""NaN and infinity stop a training, a prediction or a save at once: each check says what, where, and a remedy.

A spiking network hides them. A membrane that is NaN never fires, so actions stay finite while nothing is learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sb3_plastic.errors import NotFiniteError, UserError
from sb3_plastic.observations import Obs, check_observation


def check_parameters(parameters: Iterable[tuple[str, Tensor]], doing: str) -> None:
    """
    Refuse parameters that are not finite. Costs some 100 microseconds for a policy.

    :param parameters: names and tensors
    :param doing: what cannot be done with them, for the message
    :raises NotFiniteError: naming the first such parameter
    """
    named = [(name, p.detach()) for name, p in parameters if p.is_floating_point() and p.numel()]
    by_device: dict[torch.device, list[Tensor]] = {}  # an adaptive layer stays on the CPU
    for _, p in named:
        by_device.setdefault(p.device, []).append(p)
    if all(math.isfinite(torch.stack(torch._foreach_norm(ps, math.inf)).sum()) for ps in by_device.values()):
        return
    for name, p in named:
        bad = ~p.isfinite()
        if bad.any():
            raise NotFiniteError(
                f"{doing}: {int(bad.sum())} of the {p.numel()} numbers of the policy's parameter {name!r} are not "
                f"finite, the first is {p[bad][0].item()}. The policy has diverged: go on from a checkpoint before "
                "that, with a lower learning rate (or plasticity_lr_scale, critic_lr_scale) or a lower max_grad_norm."
            )


def check_rewards(rewards: np.ndarray) -> None:
    """
    Refuse rewards that are not finite.

    :param rewards: of all environments, [B]
    :raises NotFiniteError: naming the first environment with such a reward
    """
    if math.isfinite(rewards.sum()) or np.isfinite(rewards).all():
        return
    i = int(np.flatnonzero(~np.isfinite(rewards))[0])
    raise NotFiniteError(
        f"The reward of environment {i} is {rewards[i]}: the simulation has probably become unstable, the environment "
        "returned no number, or a reward was divided by zero. Mend the environment, or wrap it in one that ends the "
        "episode there; the policy has not learned from this rollout, so training can go on from here."
    )


def check_state(
    state: Sequence[Tensor], names: Sequence[str], doing: str, episode_starts: np.ndarray | None = None
) -> None:
    """
    Refuse a state whose neurons are not finite. Whatever else of it is not shows there one tick later.

    :param state: of all networks, environment axis first
    :param names: what each tensor is
    :param doing: what cannot be done with it, for the message
    :param episode_starts: bool [B]: where an episode starts, the state is cleared before it is used
    :raises NotFiniteError: naming the first environment, and the layer
    """
    starts = () if episode_starts is None else np.flatnonzero(episode_starts)
    network, layer = -1, -1
    for name, tensor in zip(names, state, strict=False):
        network, layer = (network + 1, -1) if name == "encoder" else (network, layer + (name == "v"))
        if name not in ("v", "readout") or math.isfinite(tensor.sum()):
            continue
        rows = torch.nonzero(~tensor.isfinite().flatten(1).all(1)).flatten().tolist()
        rows = [row for row in rows if row not in starts]
        if rows:
            where = f"membranes of layer {layer}" if name == "v" else "filtered spikes"
            owner = "critic" if network else "actor"
            raise NotFiniteError(
                f"{doing}: {where} of the {owner} are not finite in environment {rows[0]}. The state passed in "
                "was not, or an observation is so large that a current overflowed: normalise observations "
                "(VecNormalize), and pass back only states that predict() returned."
            )


class NormalizationBackup:
    """
    The statistics of a ``VecNormalize`` as they were: one NaN that enters them stays in them for good.

    :param normalize: the wrapper, None if there is none; then nothing happens
    """

    def __init__(self, normalize: VecNormalize | None) -> None:
        self.normalize = normalize
        self.kept = None if normalize is None else deepcopy((getattr(normalize, "obs_rms", None), normalize.ret_rms))

    def check_step(self, obs: Obs, rewards: np.ndarray | None = None) -> None:
        """
        Refuse what is not finite, and put the statistics back.

        :param obs: of all environments
        :param rewards: likewise; None after a reset
        :raises NotFiniteError: naming the environment that it came from
        """
        try:
            if rewards is not None:
                check_rewards(rewards)
            check_observation(obs)
        except UserError:
            self.restore()
            if self.normalize is not None:  # which spreads one NaN over all environments
                if rewards is not None:
                    check_rewards(self.normalize.get_original_reward())
                check_observation(self.normalize.get_original_obs())
            raise

    def restore(self) -> None:
        """Put the statistics back."""
        if self.normalize is not None and self.kept is not None:
            obs_rms, self.normalize.ret_rms = deepcopy(self.kept)
            if obs_rms is not None:
                self.normalize.obs_rms = obs_rms
            self.normalize.returns = np.nan_to_num(self.normalize.returns, nan=0.0, posinf=0.0, neginf=0.0)
