"""
What turns an observation into features for the forward model. A new body is a module with the methods of ``MLPBody``,
and a line in ``BODIES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sb3_plastic.adaptive.mlp_body import MLPBody
from sb3_plastic.adaptive.spiking_body import SpikingBody
from sb3_plastic.errors import UserError, check_number

BODIES: dict[str, Any] = {"mlp": MLPBody, "spiking": SpikingBody}
"""Bodies by name."""


def check_net_arch(body: str, net_arch: Sequence[int]) -> None:
    """
    Refuse layers of which no body can be made.

    :param body: its name
    :param net_arch: units of each layer
    :raises UserError: on units that are no whole number of at least 1, or a spiking body without a layer
    """
    for units in net_arch:
        check_number("net_arch", units, at_least=1, integer=True)
    if body == "spiking" and not len(net_arch):
        raise UserError("A spiking forward model needs a layer: net_arch=(192,), for instance; got none.")
