"""Evolution strategies for plastic policies."""

from sb3_plastic.es.algorithm import PlasticES

__all__ = ["PlasticES"]
