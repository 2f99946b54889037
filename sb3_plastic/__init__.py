"""Plastic spiking policies for Stable-Baselines3 and RL Zoo."""

from pkgutil import iter_modules
from typing import TYPE_CHECKING

from sb3_plastic.lazy import lazy_names
from sb3_plastic.registration import register_envs

if TYPE_CHECKING:
    from sb3_plastic.adaptive import AdaptivePolicy
    from sb3_plastic.callbacks import PlasticityCallback
    from sb3_plastic.distillation import distill
    from sb3_plastic.es.algorithm import PlasticES
    from sb3_plastic.export import export_policy, load_policy
    from sb3_plastic.policies import PlasticCnnPolicy, PlasticMultiInputPolicy, PlasticPolicy
    from sb3_plastic.ppo import PlasticPPO
    from sb3_plastic.snn.network import PlasticSNN
    from sb3_plastic.snn.scan import plastic_scan
    from sb3_plastic.snn.state import LayerState, SNNState
    from sb3_plastic.wrappers import PreviousActionReward, VecPreviousActionReward

__version__ = "0.1.0"

__all__ = [
    "AdaptivePolicy",
    "LayerState",
    "PlasticCnnPolicy",
    "PlasticES",
    "PlasticMultiInputPolicy",
    "PlasticPPO",
    "PlasticPolicy",
    "PlasticSNN",
    "PlasticityCallback",
    "PreviousActionReward",
    "SNNState",
    "VecPreviousActionReward",
    "__version__",
    "distill",
    "export_policy",
    "load_policy",
    "plastic_scan",
]

_HOMES = {
    "AdaptivePolicy": "adaptive",
    "LayerState": "snn.state",
    "PlasticCnnPolicy": "policies",
    "PlasticES": "es.algorithm",
    "PlasticMultiInputPolicy": "policies",
    "PlasticPPO": "ppo",
    "PlasticPolicy": "policies",
    "PlasticSNN": "snn.network",
    "PlasticityCallback": "callbacks",
    "PreviousActionReward": "wrappers",
    "SNNState": "snn.state",
    "VecPreviousActionReward": "wrappers",
    "distill": "distillation",
    "export_policy": "export",
    "load_policy": "export",
    "plastic_scan": "snn.scan",
}
"""The modules of these names, which are imported when they are asked for: what needs no torch does not wait for it."""

register_envs()


if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    """For completion in a shell or a notebook: all names and modules, imported or not."""
    return sorted([*__all__, *(module.name for module in iter_modules(__path__))])
