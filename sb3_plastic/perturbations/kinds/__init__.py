"""All kinds of perturbation: importing this package registers every one of them in ``KINDS``."""

from sb3_plastic.perturbations.kinds import bodies, signals, wiring, world
from sb3_plastic.perturbations.kinds.base import KINDS, Active, Change, Kind, Limits, Pattern, Refusal, kind

__all__ = [
    "KINDS",
    "Active",
    "Change",
    "Kind",
    "Limits",
    "Pattern",
    "Refusal",
    "bodies",
    "kind",
    "signals",
    "wiring",
    "world",
]
