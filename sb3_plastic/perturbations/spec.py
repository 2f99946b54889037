"""Perturbations as plain data: what changes, by how much, where and when.

    Perturbation("friction", 0.4)                                             # slippery from the start
    Perturbation("motor_off", target="ankle_1", schedule=Schedule("onset", at=300))
    Perturbation("mass", Distribution("uniform", (0.5, 1.5)))                 # drawn anew in each episode

The same three as YAML, which is also what environments take as keyword arguments:

    - {kind: friction, value: 0.4}
    - {kind: motor_off, target: ankle_1, schedule: {form: onset, at: 300}}
    - {kind: mass, value: {uniform: [0.5, 1.5]}}

Motors that differ from each other, and damage that a reset does not repair:

    - {kind: strength, value: {uniform: [0.3, 1.3]}, each: true}              # each motor its own factor
    - {kind: strength, value: [1, 1, -1, 1, 1, 1]}                            # the third motor is reversed
    - {kind: motor_off, target: {choice: [bthigh, ffoot]}, lasting: true}     # the same one in all episodes

Nothing here knows MuJoCo. What a kind means is in `kinds/`, when it acts in `schedules.py`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sb3_plastic import errors
from sb3_plastic.yaml_numbers import Loader


class PerturbationError(errors.UserError):
    """A perturbation that is unknown, malformed, impossible on this robot, or without effect."""


def unknown(what: str, got: object, allowed: Iterable[object]) -> errors.UserError:
    """
    The error for a name that does not exist.

    :param what: what the name should be, for instance ``"kind"``
    :param got: the name that was given
    :param allowed: the names that exist
    :return: a PerturbationError, as `errors.unknown` words it
    """
    return errors.unknown(what, got, sorted(map(str, allowed)), PerturbationError)


def number(value: Any, what: str) -> float:
    """Return `value` as a finite float, or say what it should have been (a bool is no number)."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise PerturbationError(f"{what} must be a finite number, got {value!r}.")
    return float(value)


def _frozen(value: Any) -> Any:
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value  # JSON takes Python's
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


LAWS = ("uniform", "log_uniform", "choice", "outside", "log_outside")


@dataclass(frozen=True)
class Distribution:
    """
    What a value (or a target, or a time) is drawn from, once per episode unless the schedule says otherwise.

    :param law: ``"uniform"``, args (low, high); ``"log_uniform"``, args (low, high), both positive;
        ``"choice"``, args: the options, equally likely; ``"outside"``, args ((low, high), (inner_low, inner_high)):
        uniform on the outer interval without the inner one; ``"log_outside"``: the same, log-uniform. The logarithm is
        for factors whose range is wide: halving and doubling are then equally likely
    :param args: the arguments of the law
    :raises PerturbationError: on an unknown law, an empty choice, bounds in the wrong order, or bounds of a logarithm
        that are not positive
    """

    law: str
    args: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise unknown("distribution", self.law, LAWS)
        args = tuple(map(_frozen, self.args))
        object.__setattr__(self, "args", args)
        if self.law == "choice":
            if not args:
                raise PerturbationError("A choice needs at least one option, got none.")
            return
        if len(args) != 2:
            raise PerturbationError(f"{self.law} takes two arguments, got {list(args)}.")
        if self.law.endswith("outside"):
            (low, high), (inner_low, inner_high) = (self._pair(arg) for arg in args)
            if not (low <= inner_low <= inner_high <= high and high - low > inner_high - inner_low):
                raise PerturbationError(
                    f"{self.law} needs an inner interval within a wider outer one, got outer {[low, high]} and "
                    f"inner {[inner_low, inner_high]}. The order is [outer, inner]."
                )
        else:
            low, high = self._pair(args)
        if self.law.startswith("log") and low <= 0:
            raise PerturbationError(f"{self.law} needs positive bounds, got {[low, high]}.")

    def _pair(self, bounds: Any) -> tuple[float, float]:
        if not isinstance(bounds, Sequence) or len(bounds) != 2:
            raise PerturbationError(f"{self.law} needs [low, high], got {bounds!r}.")
        low, high = (number(bound, f"A bound of {self.law}") for bound in bounds)
        if low > high:
            raise PerturbationError(f"{self.law} needs low <= high, got {[low, high]}.")
        return low, high

    def sample(self, rng: np.random.Generator) -> Any:
        """Draw once. :param rng: the generator to draw from"""
        if self.law == "choice":
            return self.args[int(rng.integers(len(self.args)))]
        if self.law == "uniform":
            return float(rng.uniform(*self.args))
        if self.law == "log_uniform":
            return float(np.exp(rng.uniform(*np.log(self.args))))
        (low, high), (inner_low, inner_high) = np.log(self.args) if self.law == "log_outside" else self.args
        x = low + rng.uniform() * (high - low - (inner_high - inner_low))
        x = x if x < inner_low else x + inner_high - inner_low
        return float(np.exp(x) if self.law == "log_outside" else x)

    def values(self) -> tuple[Any, ...]:
        """The extremes of the support (all options of a choice): what has to be legal for every draw to be legal."""
        return tuple(self.args[0]) if self.law.endswith("outside") else self.args

    def to_dict(self) -> dict[str, Any]:
        """The short form, ``{"uniform": [0.5, 1.5]}``."""
        return {self.law: [list(arg) if isinstance(arg, tuple) else arg for arg in self.args]}


def _distribution(value: Any) -> Any:
    """A Distribution for a mapping (the short form, or the fields of the dataclass); anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"law", "args"}:
        return Distribution(value["law"], tuple(value["args"]))
    if len(value) != 1:
        raise PerturbationError(f"A distribution is one entry such as {{uniform: [0.5, 1.5]}}, got {dict(value)}.")
    ((law, args),) = value.items()
    if not isinstance(args, Sequence) or isinstance(args, str):
        raise PerturbationError(f"The arguments of {law} must be a list, got {args!r}.")
    return Distribution(law, tuple(args))


# form: the fields that it takes, and their defaults (None: has to be given)
FORMS: dict[str, dict[str, float | None]] = {
    "episode": {},
    "onset": {"at": None, "ramp": 0, "end": math.inf},
    "switch": {"every": None, "at": 0},
    "drift": {"at": 0, "end": 1000},
    "random_walk": {"sigma": None, "every": 10, "at": 0},
    "periodic": {"period": None, "at": 0},
    "intermittent": {"duration": None, "pause": None, "at": 0},
}


@dataclass(frozen=True)
class Schedule:
    """
    When a perturbation acts. Times are environment steps since the reset, or distributions of them. The step with index
    ``at`` is the first perturbed one; of ``"drift"`` and ``"periodic"`` it is the one after, since they begin at 0. The
    *activation* goes from 0, nothing, to 1, all of the perturbation.

    :param form: ``"episode"``: from reset to end. ``"onset"``: from ``at``, rising over ``ramp`` steps, until ``end``.
        ``"switch"``: from ``at``; value and target are drawn anew after each ``every`` steps. ``"drift"``: rises
        linearly from ``at`` to ``end``. ``"random_walk"``: Gaussian increments of std ``sigma`` after each ``every``
        steps, reflected at -1 and 1. ``"periodic"``: a sine of ``period`` steps. ``"intermittent"``: ``duration``
        steps with, then ``pause`` steps without, in turn; a distribution is drawn anew at each turn.
    :raises PerturbationError: on an unknown form, a field that the form lacks, or one that it needs
    """

    form: str = "episode"
    at: float | Distribution | None = None
    ramp: float | Distribution | None = None
    end: float | Distribution | None = None
    every: float | Distribution | None = None
    sigma: float | None = None
    period: float | Distribution | None = None
    duration: float | Distribution | None = None
    pause: float | Distribution | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.form, str) or self.form not in FORMS:
            raise unknown("schedule", self.form, FORMS)
        fields = FORMS[self.form]
        for name in (f.name for f in dataclasses.fields(self) if f.name != "form"):
            value = _frozen(_distribution(getattr(self, name)))
            object.__setattr__(self, name, value)
            if value is None:
                if name in fields and fields[name] is None:
                    raise PerturbationError(f"The schedule {self.form!r} needs {name!r}.")
                continue
            if name not in fields:
                raise unknown(f"field of the schedule {self.form!r}:", name, fields)
            smallest = 0 if name in ("at", "ramp", "sigma") else 1
            for extreme in value.values() if isinstance(value, Distribution) else (value,):
                if (extreme != math.inf or name == "sigma") and number(extreme, f"{name!r} of a schedule") < smallest:
                    raise PerturbationError(f"{name!r} of a schedule must be at least {smallest}, got {extreme}.")
        at, end = (fields.get(n) if (value := getattr(self, n)) is None else value for n in ("at", "end"))
        if end is not None and min(extremes_of(end)) <= max(extremes_of(at)):
            raise PerturbationError(f"'end' of a schedule must come after 'at', {_plain(at)}, got {_plain(end)}.")

    def draw(self, name: str, rng: np.random.Generator) -> float:
        """The value of one field, drawn if it is a distribution, in steps. :param name: the field"""
        value = getattr(self, name)
        if value is None:
            value = FORMS[self.form][name]
        drawn = value.sample(rng) if isinstance(value, Distribution) else value
        return float(drawn) if name == "sigma" or drawn == math.inf else float(round(drawn))

    def to_dict(self) -> dict[str, Any]:
        """Only the fields that were given."""
        given = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: _plain(value) for name, value in given if value is not None}


OPS = ("scale", "add", "set")


@dataclass(frozen=True)
class Perturbation:
    """
    One change of the body, the world, the motors or the senses.

    :param kind: what changes; ``sb3-plastic perturbations list`` names them all
    :param value: by how much, in the unit of the kind; several numbers, one for each target in its order; a
        `Distribution`; or None for kinds that are only on or off
    :param op: ``"scale"`` (times the nominal value), ``"add"`` or ``"set"``; None takes the kind's own
    :param target: the joint or body by name, with wildcards (``"ankle_*"``), a tuple of names, a `Distribution` of
        names, or None for all that the kind serves
    :param schedule: when it acts
    :param params: further arguments of the kind, such as the direction of a push
    :param each: draw one value for each target instead of one for all of them
    :param lasting: keep what was drawn in the first episode for all episodes until the environment is seeded again:
        damage that a reset does not repair
    :raises PerturbationError: if it is malformed. Whether it fits a robot is checked by the environment.
    """

    kind: str
    value: float | tuple[float, ...] | Distribution | None = None
    op: str | None = None
    target: str | tuple[str | int, ...] | Distribution | None = None
    schedule: Schedule = Schedule()
    params: Mapping[str, Any] = field(default_factory=dict)
    each: bool = False
    lasting: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str):
            raise PerturbationError(f"'kind' must be a name such as mass, got {self.kind!r}.")
        value, target, schedule = _distribution(self.value), _distribution(self.target), self.schedule
        value, target = _frozen(value), _frozen(target)
        for extreme in extremes_of(value):
            number(extreme, f"The value of {self.kind!r}")
        if isinstance(value, tuple) and not value:
            raise PerturbationError(f"The list of values of {self.kind!r} is empty; give one number for each target.")
        for name in ("each", "lasting"):
            if not isinstance(getattr(self, name), bool):
                raise PerturbationError(f"{name!r} must be true or false, got {getattr(self, name)!r}.")
        if self.each and not isinstance(value, Distribution):
            raise PerturbationError(
                f"'each' draws a value for each target, but the value of {self.kind!r} is not drawn: {value!r}. "
                "Give a distribution such as {uniform: [0.5, 1.5]}, or a list of numbers without 'each'."
            )
        if self.op is not None and self.op not in OPS:
            raise unknown("op", self.op, OPS)
        if isinstance(schedule, Mapping):
            schedule = _build(Schedule, schedule, "field of a schedule")
        if not isinstance(schedule, Schedule):
            raise PerturbationError(f"A schedule is a mapping such as {{form: onset, at: 300}}, got {schedule!r}.")
        if not isinstance(self.params, Mapping):
            raise PerturbationError(f"'params' must be a mapping such as {{seed: 3}}, got {self.params!r}.")
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "params", {k: _frozen(v) for k, v in self.params.items()})

    def __hash__(self) -> int:  # params is a dict, which has no hash of its own
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the fields that are at their default: the inverse of `from_dict`."""
        given = {"kind": self.kind, "value": self.value, "op": self.op, "target": self.target}
        data: dict[str, Any] = {name: _plain(value) for name, value in given.items() if value is not None}
        if self.schedule != Schedule():
            data["schedule"] = self.schedule.to_dict()
        if self.params:
            data["params"] = {name: _plain(value) for name, value in self.params.items()}
        return data | {name: True for name in ("each", "lasting") if getattr(self, name)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Perturbation:
        """Inverse of `to_dict`; also takes what `dataclasses.asdict` gives, as gymnasium does to store an EnvSpec."""
        return _build(cls, data, "field of a perturbation")


def extremes_of(value: float | tuple[float, ...] | Distribution | None) -> tuple[Any, ...]:
    """All numbers that have to be legal for a value to be legal. :param value: of a perturbation"""
    if isinstance(value, Distribution):
        return value.values()
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _build(cls: Any, data: Mapping[str, Any], what: str) -> Any:
    names = {f.name for f in dataclasses.fields(cls)}
    for name in data:
        if name not in names:
            raise unknown(what, name, names)
    required = next(iter(dataclasses.fields(cls))).name
    if required not in data:
        raise PerturbationError(f"The field {required!r} is missing in {dict(data)}.")
    return cls(**data)


def _plain(value: Any) -> Any:
    if isinstance(value, Distribution):
        return value.to_dict()
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def parse(entries: Any) -> tuple[Perturbation, ...]:
    """
    Read a list of perturbations.

    :param entries: a sequence of mappings and `Perturbation` objects; None is the empty list
    :return: the perturbations
    :raises PerturbationError: naming the entry that is wrong and what is allowed there
    """
    if entries is None:
        return ()
    if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence):
        raise PerturbationError(
            f"Perturbations must be a list of entries, got {type(entries).__name__}: {entries!r}. "
            "Write a single one as a list of one entry: [{kind: mass, value: 1.5}]."
        )
    parsed = []
    for i, entry in enumerate(entries):
        if isinstance(entry, Perturbation):
            parsed.append(entry)
        elif isinstance(entry, Mapping):
            try:
                parsed.append(Perturbation.from_dict(entry))
            except (PerturbationError, TypeError) as error:
                raise PerturbationError(f"Perturbation {i} ({dict(entry)}): {error}") from error
        else:
            raise PerturbationError(f"Perturbation {i} must be a mapping such as {{kind: motor_off}}, got {entry!r}.")
    return tuple(parsed)


def from_yaml(text: str) -> tuple[Perturbation, ...]:
    """
    Read perturbations from YAML (JSON is YAML).

    :param text: a list of mappings
    :raises PerturbationError: if it is no YAML, or no list of perturbations
    """
    try:
        return parse(yaml.load(text, Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, errors.UserError):
            raise
        raise PerturbationError(f"This is no list of perturbations in YAML: {error}") from error


def from_json(text: str) -> tuple[Perturbation, ...]:
    """Read perturbations from JSON, which is YAML. :param text: a list of objects"""
    return from_yaml(text)


def to_yaml(perturbations: Sequence[Perturbation]) -> str:
    """Write perturbations as YAML. :param perturbations: what `parse` returns"""
    return yaml.safe_dump([p.to_dict() for p in perturbations], sort_keys=False, default_flow_style=None)


def to_json(perturbations: Sequence[Perturbation]) -> str:
    """Write perturbations as JSON. :param perturbations: what `parse` returns"""
    return json.dumps([p.to_dict() for p in perturbations])


def load(path: str | Path) -> tuple[Perturbation, ...]:
    """
    Read perturbations from a YAML or JSON file.

    :param path: the file
    :raises PerturbationError: naming the file, if it holds no list of perturbations
    """
    try:
        return from_yaml(Path(path).read_text(encoding="utf-8"))
    except (PerturbationError, UnicodeDecodeError) as error:
        raise PerturbationError(f"{path}: {error}") from error
