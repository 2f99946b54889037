"""Options of an adaptive layer inside a policy, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sb3_plastic.adaptive.bodies import BODIES, check_net_arch
from sb3_plastic.adaptive.forward_model import NET_ARCH
from sb3_plastic.adaptive.hypotheses import ALL_BY_DEFAULT, HYPOTHESES, OF_COMMANDS, checked_names
from sb3_plastic.adaptive.probing import PROBING
from sb3_plastic.adaptive.settings import LOST_AT
from sb3_plastic.errors import UserError, check_choice, check_names, check_number

ACTOR = "actor"


@dataclass(frozen=True)
class LayerOptions:
    """
    ``policy_kwargs=dict(adaptive=...)``: plain data.

    :param forward_model: ``mlp``, ``spiking``, or ``actor``: linear in the observation and the actor's own spikes, as
        its leaky readout filters them. What asks the model about other observations (sensors, delays) is left out
    :param net_arch: units of each layer of the forward model
    :param members: networks whose mean it is; each takes its time beside PPO. ``actor`` has one
    :param hypotheses: what may have changed, names in ``HYPOTHESES``; None: those of ``DEFAULT`` that the forward
        model can serve
    :param epochs: how often each transition is learned from, on average
    :param batch_size: transitions per step of Adam
    :param learning_rate: at the start of the training; it falls to 0
    :param window: transitions of the last rollouts that are learned from
    :param lifetime: keep estimates over episodes: a damaged robot stays damaged
    :param probing: how much commands vary while cables are in doubt, see
        :class:`~sb3_plastic.adaptive.settings.LayerSettings`
    :param lost_at: errors from which on a silent reading is taken for a lost one, likewise
    """

    forward_model: str = "mlp"
    net_arch: tuple[int, ...] = NET_ARCH
    members: int = 1
    hypotheses: tuple[str, ...] | None = None
    epochs: int = 4
    batch_size: int = 256
    learning_rate: float = 1e-3
    window: int = 200_000
    lifetime: bool = False
    probing: float = PROBING
    lost_at: float = LOST_AT

    def names(self) -> tuple[str, ...]:
        """The hypotheses."""
        served = ("nominal", *OF_COMMANDS) if self.forward_model == ACTOR else HYPOTHESES
        return checked_names(self.hypotheses or (ALL_BY_DEFAULT,), served)

    @classmethod
    def of(cls, given: bool | Mapping[str, Any]) -> LayerOptions:
        """
        :param given: True: the defaults; a mapping: some of the options
        :raises UserError: on an unknown name, a number out of range, something that is no option, a spiking forward
            model without a layer, or several members of a forward model ``actor``
        """
        if not isinstance(given, bool | Mapping):
            raise UserError(f"`adaptive` is true, false or a mapping of options, got {given!r}.")
        named: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
        check_names("adaptive", named, [field.name for field in fields(cls)])
        if named.get("hypotheses") is None:
            named.pop("hypotheses", None)  # `null` in YAML: the default
        lists = {name: named[name] for name in ("net_arch", "hypotheses") if name in named}
        for name, value in lists.items():
            if not isinstance(value, list | tuple):
                raise UserError(f"{name} of `adaptive` is a list, got {value!r}.")
        if named.get("hypotheses") in ([], ()):
            raise UserError("hypotheses of `adaptive` are none. Leave them out for the default.")
        if not isinstance(named.get("lifetime", False), bool):
            raise UserError(f"lifetime of `adaptive` is true or false, got {named['lifetime']!r}.")
        options = cls(**(named | {name: tuple(value) for name, value in lists.items()}))
        check_choice("forward model", options.forward_model, (*BODIES, ACTOR))
        options.names()  # or one of them is refused
        check_net_arch(options.forward_model, options.net_arch)
        for number in ("members", "epochs", "batch_size", "window"):
            check_number(number, getattr(options, number), at_least=1, integer=True)
        check_number("learning_rate", options.learning_rate, above=0)
        for number in ("probing", "lost_at"):
            check_number(number, getattr(options, number), at_least=0)
        if options.forward_model == ACTOR and options.members != 1:
            raise UserError(
                f"A forward model of the actor's spikes is linear: all {options.members} members would agree."
            )
        return options
