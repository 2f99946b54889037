"""Policies in the formats of other programs: ONNX, snntorch, NIR. See docs/interchange.md."""

from sb3_plastic.interchange.compare import Difference, compare
from sb3_plastic.interchange.frozen import FrozenLayer, FrozenPolicy, freeze
from sb3_plastic.interchange.nir import NirPolicy, to_nir
from sb3_plastic.interchange.onnx import OnnxPolicy, to_onnx
from sb3_plastic.interchange.snntorch import SnnTorchPolicy

__all__ = [
    "Difference",
    "FrozenLayer",
    "FrozenPolicy",
    "NirPolicy",
    "OnnxPolicy",
    "SnnTorchPolicy",
    "compare",
    "freeze",
    "to_nir",
    "to_onnx",
]
