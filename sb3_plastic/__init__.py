"""Plastic spiking policies for Stable-Baselines3 and RL Zoo."""

__version__ = "0.1.0"

__all__ = ["__version__"]
