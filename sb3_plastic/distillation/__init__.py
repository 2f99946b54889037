"""A spiking policy learns to act as a trained one does."""

from sb3_plastic.distillation.distilling import distill

__all__ = ["distill"]
