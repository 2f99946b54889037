"""The classes that a file may name. A file never brings a class with it: it names one that is installed, or none."""

from __future__ import annotations

import pkgutil
from typing import Any

from sb3_plastic.errors import UserError
from sb3_plastic.safe.errors import RefusedError


def _below(module: str, *names: str) -> dict[str, Any]:
    return {f"{module}.{name}": None for name in names}


CLASSES: dict[str, Any] = {
    **_below("sb3_plastic.policies", "PlasticPolicy", "PlasticMultiInputPolicy", "PlasticCnnPolicy"),
    **_below("sb3_plastic.buffers", "ChunkedRolloutBuffer"),
    **_below(
        "stable_baselines3.common.policies",
        "ActorCriticPolicy",
        "ActorCriticCnnPolicy",
        "MultiInputActorCriticPolicy",
    ),
    **_below("stable_baselines3.sac.policies", "SACPolicy", "CnnPolicy", "MultiInputPolicy"),
    **_below("stable_baselines3.td3.policies", "TD3Policy", "CnnPolicy", "MultiInputPolicy"),
    **_below("stable_baselines3.dqn.policies", "DQNPolicy", "CnnPolicy", "MultiInputPolicy"),
    **_below("sb3_contrib.tqc.policies", "TQCPolicy", "CnnPolicy", "MultiInputPolicy"),
    **_below("sb3_contrib.qrdqn.policies", "QRDQNPolicy", "CnnPolicy", "MultiInputPolicy"),
    **_below("sb3_contrib.crossq.policies", "CrossQPolicy"),
    **_below("sb3_contrib.ars.policies", "ARSPolicy", "ARSLinearPolicy"),
    **_below(
        "sb3_contrib.common.recurrent.policies",
        "RecurrentActorCriticPolicy",
        "RecurrentActorCriticCnnPolicy",
        "RecurrentMultiInputActorCriticPolicy",
    ),
    **_below("stable_baselines3.common.torch_layers", "FlattenExtractor", "CombinedExtractor", "NatureCNN"),
    **_below(
        "torch.nn.modules.activation",
        *("CELU", "ELU", "GELU", "Hardtanh", "LeakyReLU", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid"),
        *("Softplus", "Tanh"),
    ),
    **_below("torch.optim.adam", "Adam"),
    **_below("torch.optim.adamw", "AdamW"),
    **_below("torch.optim.rmsprop", "RMSprop"),
    **_below("torch.optim.sgd", "SGD"),
    **_below("stable_baselines3.common.sb2_compat.rmsprop_tf_like", "RMSpropTFLike"),
}
"""
Full name -> class, None until it is first asked for. A program that trusts a class of its own adds it::

    CLASSES["my_package.extractors.MyExtractor"] = MyExtractor
"""


def class_named(name: str, what: str) -> type:
    """
    The installed class that a file names.

    :param name: ``module.Class``
    :param what: where in the file the name stands, for the message
    :raises RefusedError: if it is not among ``CLASSES``
    :raises UserError: if it is, but cannot be imported
    """
    if name not in CLASSES:
        raise RefusedError(what, f"the class {name}")
    if CLASSES[name] is None:
        try:
            CLASSES[name] = pkgutil.resolve_name(name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{what} names the class {name}, which is not installed here ({error}).") from error
    return CLASSES[name]


def name_of(cls: type) -> str | None:
    """The name under which a file may name a class, None if it may not. :param cls: the class"""
    name = f"{cls.__module__}.{cls.__qualname__}"
    return name if name in CLASSES and class_named(name, "") is cls else None
