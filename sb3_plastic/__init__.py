"""Plastic spiking policies for Stable-Baselines3 and RL Zoo."""

from sb3_plastic import perturbations, tasks
from sb3_plastic.callbacks import PlasticityCallback
from sb3_plastic.es.algorithm import PlasticES
from sb3_plastic.export import export_policy, load_policy
from sb3_plastic.policies import PlasticCnnPolicy, PlasticMultiInputPolicy, PlasticPolicy
from sb3_plastic.ppo import PlasticPPO
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.scan import plastic_scan
from sb3_plastic.snn.state import LayerState, SNNState
from sb3_plastic.wrappers import PreviousActionReward, VecPreviousActionReward

__version__ = "0.1.0"

perturbations.register_envs()  # sb3_plastic/PerturbedAnt-v0 and so on; MuJoCo is loaded when one is made
tasks.register_envs()  # sb3_plastic/OneShotAssociation-v0 and so on

__all__ = [
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
    "export_policy",
    "load_policy",
    "plastic_scan",
]
