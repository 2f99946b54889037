"""
What turns an observation into features for the forward model. A new body is a module with the methods of ``MLPBody``,
and a line in ``BODIES``.
"""

from __future__ import annotations

from typing import Any

from sb3_plastic.adaptive.mlp_body import MLPBody
from sb3_plastic.adaptive.spiking_body import SpikingBody

BODIES: dict[str, Any] = {"mlp": MLPBody, "spiking": SpikingBody}
"""Bodies by name."""
