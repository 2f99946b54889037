"""Settings of an adaptive layer, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from sb3_plastic.adaptive.hypotheses import DEFAULT
from sb3_plastic.adaptive.probing import PROBING
from sb3_plastic.errors import UserError

LOST_AT = 3.0
"""Standard deviations of the forward model's error: robots at rest, whose readings may repeat, are within them."""


@dataclass(frozen=True)
class LayerSettings:
    """
    Plain data, saved with the layer.

    :param hypotheses: names that run side by side
    :param surprise_threshold: of each hypothesis by name, nominal first; calibrated
    :param head_start: evidence that a hypothesis needs to act, beside the lead; calibrated
    :param calm: errors of the hypothesis that acts (its surprise, in units of R) below which the others wait: a dead
        zone, in which estimates cannot drift and no time is spent; calibrated
    :param lead: evidence that a rival needs more than the one that acts
    :param rule: what was learned of a hypothesis's rule, by its name: see
        :func:`~sb3_plastic.adaptive.synapses.with_rule`; empty: calibration alone
    :param always: a hypothesis that acts throughout, whatever the evidence: to compare with, not to walk with
    :param probing: standard deviations of a command's effect by which commands vary while cables are in doubt; 0: not
    :param sensor_zero: what is observed of sensors that show nothing, where observations are normalised; empty: 0
    :param unexplained: share of the variance of each predicted component's change that the forward model leaves
        unexplained, measured with the thresholds; empty: it was not measured, and counts as 0
    :param lost_at: standard deviations of the forward model's error from which on a silent reading is taken for a lost
        one, and filled in: see :mod:`~sb3_plastic.adaptive.lost`; 0: never
    :param often_nothing: predicted components, by their places, that often show nothing on the nominal robot: it is
        believed; measured with the thresholds
    :param often_still: likewise those that often show what they showed before
    :param start_mean: first readings of nominal episodes, of the predicted components: their mean; empty: too few were
        seen. See :mod:`~sb3_plastic.adaptive.start`
    :param start_std: likewise their standard deviation
    """

    hypotheses: tuple[str, ...] = DEFAULT
    surprise_threshold: dict[str, float] = field(default_factory=dict)
    head_start: float = 3.0
    calm: float = 0.0
    lead: float = 2.0
    always: str | None = None
    rule: dict[str, dict[str, float]] = field(default_factory=dict)
    probing: float = PROBING
    sensor_zero: tuple[float, ...] = ()
    unexplained: tuple[float, ...] = ()
    lost_at: float = LOST_AT
    often_nothing: tuple[int, ...] = ()
    often_still: tuple[int, ...] = ()
    start_mean: tuple[float, ...] = ()
    start_std: tuple[float, ...] = ()

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> LayerSettings:
        """
        The inverse of ``dataclasses.asdict``, from JSON as well.

        :param plain: what a file holds
        :raises KeyError: if it names no hypotheses
        :raises UserError: on a name that is none of the settings
        """
        if later := ", ".join(sorted({*plain} - {setting.name for setting in fields(cls)})):
            raise UserError(
                f"The layer has settings that this sb3_plastic does not know, {later}: it was made by a later version. "
                "pip install --upgrade sb3_plastic"
            )
        values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in plain.items()}
        return cls(**(values | {"hypotheses": tuple(plain["hypotheses"])}))
