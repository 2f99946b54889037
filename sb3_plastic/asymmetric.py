"""An actor and a critic that see different parts of a Dict observation.

The robot has sensors, the simulator knows more. The critic may see it, since nobody asks the critic when the policy
acts (asymmetric actor-critic, Pinto et al., 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from sb3_plastic.errors import UserError, check_choice


def seen_by(
    observation_space: spaces.Space, actor_keys: Sequence[str], critic_keys: Sequence[str]
) -> tuple[spaces.Dict, spaces.Dict]:
    """
    Split a Dict observation. Keys that are named nowhere are seen by both.

    :param observation_space: observation space
    :param actor_keys: keys that the actor alone sees
    :param critic_keys: keys that the critic alone sees
    :return: the spaces that actor and critic see
    :raises UserError: if the space is no Dict, on an unknown key, one that is named twice, or if nothing is left
    """
    if not isinstance(observation_space, spaces.Dict):
        raise UserError(
            f"actor_keys and critic_keys name keys of a Dict observation, but the observation space is a "
            f"{type(observation_space).__name__}: give the environment a Dict observation space."
        )
    for key in [*actor_keys, *critic_keys]:
        check_choice("observation key", key, observation_space.spaces)
    both = sorted({*actor_keys} & {*critic_keys})
    if both:
        raise UserError(f"{both[0]!r} is in actor_keys and in critic_keys: leave it out of them, and both see it.")
    actor, critic = (
        {key: space for key, space in observation_space.spaces.items() if key not in hidden}
        for hidden in (critic_keys, actor_keys)
    )
    for who, seen in (("actor", actor), ("critic", critic)):
        if not seen:
            raise UserError(f"The {who} sees nothing: of {[*observation_space.spaces]}, leave a key to it.")
    return spaces.Dict(actor), spaces.Dict(critic)


class SelectKeys(BaseFeaturesExtractor):
    """
    A features extractor that sees some keys of a Dict observation. The others may be missing.

    :param observation_space: the keys that it sees
    :param extractor_class: class of the extractor
    :param extractor_kwargs: further arguments of it
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        extractor_class: type[BaseFeaturesExtractor],
        extractor_kwargs: Mapping[str, Any],
    ) -> None:
        extractor = extractor_class(observation_space, **extractor_kwargs)
        super().__init__(observation_space, extractor.features_dim)
        self.keys, self.extractor = list(observation_space.spaces), extractor

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """
        :param observations: [B, ...] each
        :return: features [B, F]
        :raises UserError: if a key is missing
        """
        missing = [key for key in self.keys if key not in observations]
        if missing:
            raise UserError(f"The observation has no {missing[0]!r}, got {sorted(observations)}.")
        return self.extractor({key: observations[key] for key in self.keys})
