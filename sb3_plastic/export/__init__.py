"""Policies that travel: a folder of plain files that runs no code. See docs/export.md."""

from sb3_plastic.export.folder import is_export, read_config
from sb3_plastic.export.normalization import Normalization
from sb3_plastic.export.policy import (
    ExportedPolicy,
    export_policy,
    load_policy,
    policy_from_plain,
    policy_to_plain,
)

__all__ = [
    "ExportedPolicy",
    "Normalization",
    "export_policy",
    "is_export",
    "load_policy",
    "policy_from_plain",
    "policy_to_plain",
    "read_config",
]
