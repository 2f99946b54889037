"""What is evaluated, and how: plain data, whose fields are the keyword arguments of `evaluate_adaptation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from sb3_plastic.errors import check_number, unknown
from sb3_plastic.perturbations.suites import Scenario

if TYPE_CHECKING:
    from sb3_plastic.export import Normalization

WrapperSpec = str | Mapping[str, Any]
"""A wrapper: ``module.name`` or ``{module.name: arguments}``."""


@dataclass(frozen=True)
class ModelSettings:
    """
    What a model's file does not tell of the model.

    :param env: environment; None: as RL Zoo wrote beside the model. Of the stock ``HalfCheetah-v5`` and so on, the one
        with the same observations that can be perturbed is taken
    :param env_kwargs: arguments of it, for instance ``observe_context=True`` and the ``scenario`` of the training: an
        oracle, which sees of other scenarios what they have in common with that
    :param wrappers: as RL Zoo's ``env_wrapper``; None: as it wrote beside the model
    :param normalization: file with the statistics of VecNormalize, which stay frozen, or these; None: found beside the
        model, or in the environments of one in memory
    :param algo: a name in ``algorithms.ALGORITHMS``; None: recognised
    :param label: name of the method, which all its trained seeds share; None: the algorithm
    :param train_seed: the training's seed; None: the model's own
    :param trust: run what the model's files ask for: unpickle them, and take any wrapper that they name
    """

    env: str | None = None
    env_kwargs: Mapping[str, Any] | None = None
    wrappers: Sequence[WrapperSpec] | None = None
    normalization: str | Path | Normalization | None = None
    algo: str | None = None
    label: str | None = None
    train_seed: int | None = None
    trust: bool = False


@dataclass(frozen=True)
class TrialSettings:
    """
    Which episodes are run.

    :param suite: name of a suite
    :param tier: ``smoke``, ``quick`` or ``full``
    :param scenarios: these instead of the tier's: names of the suite without its own, with wildcards; or scenarios of
        your own, for environments that are not ours
    :param protocols: names in ``records.PROTOCOLS``
    :param controls: names in ``records.WITHIN``; None: those in ``records.PLASTICITY``, if the model has any
    :param seed: of the first episode of each cell; the others count on. Equal seeds are paired
    :param episodes: per cell; None: as the tier says
    :param deterministic: take the most likely actions
    :param steps: length of a training episode; None: the environment's time limit, of the robots 1000
    :param horizon: multiple of it in the protocol ``horizon``
    :param max_rows: environments that are stepped at once, at most
    :param faults: of the agent, such as ``weight_noise=0.3``; see :mod:`~sb3_plastic.evaluation.fault_kinds`
    :raises UserError: on a number that is not whole, or below 1; a seed may be 0
    """

    suite: str = "nda-v1"
    tier: str = "quick"
    scenarios: Sequence[str] | Sequence[Scenario] | None = None
    protocols: Sequence[str] = ("static", "onset")
    controls: Sequence[str] | None = None
    seed: int = 10_000
    episodes: int | None = None
    deterministic: bool = True
    steps: int | None = None
    horizon: int = 3
    max_rows: int = 128
    faults: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("scenarios", "protocols", "controls", "faults"):
            if isinstance(value := getattr(self, name), str):  # a single one
                object.__setattr__(self, name, (value,))
        for name in ("episodes", "steps", "horizon", "max_rows", "seed"):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, at_least=int(name != "seed"), integer=True)
                object.__setattr__(self, name, int(value))  # numpy's integers are no JSON


@dataclass(frozen=True)
class FilmSettings:
    """
    What a film shows.

    :param steps: to film
    :param every: take a picture of each so many steps; 0: of none
    :param before: how many of the steps are before the onset
    :param seed: of the episode
    :param width: of each picture, in pixels
    :param height: likewise
    """

    steps: int = 200
    every: int = 1
    before: int = 40
    seed: int = 0
    width: int = 320
    height: int = 240


class AboutModel(TypedDict, total=False):
    """The fields of `ModelSettings` but ``env``, as keyword arguments that a type checker knows."""

    env_kwargs: Mapping[str, Any] | None
    wrappers: Sequence[WrapperSpec] | None
    normalization: str | Path | Normalization | None
    algo: str | None
    label: str | None
    train_seed: int | None
    trust: bool


class Given(AboutModel, total=False):
    """Likewise all fields of `ModelSettings` and `TrialSettings`."""

    env: str | None
    suite: str
    tier: str
    scenarios: Sequence[str] | Sequence[Scenario] | None
    protocols: Sequence[str]
    controls: Sequence[str] | None
    seed: int
    episodes: int | None
    deterministic: bool
    steps: int | None
    horizon: int
    max_rows: int
    faults: Sequence[str]


def changed(
    model: ModelSettings, trials: TrialSettings, changes: Mapping[str, Any]
) -> tuple[ModelSettings, TrialSettings]:
    """
    Distribute keyword arguments over both.

    :param model: settings to change
    :param trials: settings to change
    :param changes: values by name of a field of either
    :raises UserError: on an unknown name
    """
    of_model, of_trials = ({field.name for field in fields(part)} for part in (model, trials))
    for name in changes:
        if name not in of_model | of_trials:
            raise unknown("argument of evaluate_adaptation", name, sorted(of_model | of_trials))
    return (
        replace(model, **{name: value for name, value in changes.items() if name in of_model}),
        replace(trials, **{name: value for name, value in changes.items() if name in of_trials}),
    )
