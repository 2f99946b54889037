"""Suites of named scenarios, shipped as data in `data/*.yaml`.

    gym.make("sb3_plastic/PerturbedAntLatent-v0", scenario="nda-v1/novel/motor_off/onset")
    for scenario in load_suite("nda-v1").select("quick"):
        ...

A scenario is a name, a robot and a list of perturbations. In ``nda-v1`` the name is ``suite/split/family``, followed by
``/onset`` where it begins in mid-episode. Splits: ``train`` (all families at once, to train on), ``id`` (the same
distribution, to test on), ``interp`` (in the gap that training leaves out), ``extrap1`` and ``extrap2`` (shells
outside), ``novel`` (kinds never trained on), ``nominal``. ``train/switch`` is for learning to adapt: fast weights learn
nothing from a hidden variable that never changes within their life, nor from onsets in robots that have never walked
unperturbed, and fall before them. In ``nda-v2`` a family is a fault, and what is in ``id`` is also in ``train``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sb3_plastic.perturbations.registration import ROBOTS, env_id
from sb3_plastic.perturbations.spec import Perturbation, PerturbationError, parse, unknown

SWITCH = {"choice": [300, 400, 500, *[10_000] * 15]}
"""
Steps between draws, for each of four families on its own: in (15/18)^4 = 48 % of the episodes none is drawn anew; in
(1 - 2/3 * 3/18)^4 = 62 %, where a third of them never begins.
"""

OUTSIDE = {"uniform": "outside", "log_uniform": "log_outside"}
"""The laws of a family, each with the one that leaves an inner interval out."""

SUITES: dict[str, Path] = {}
"""Suites of a user: the file of each by name, in the format of ``data/nda-v2.yaml``."""

SPLITS = ("nominal", "train", "id", "interp", "extrap1", "extrap2", "novel", "anchor")


@dataclass(frozen=True)
class Scenario:
    """
    A named condition for one robot.

    :param name: its full name, starting with that of the suite
    :param robot: one of `ROBOTS`, or the id of another environment
    :param split: one of `SPLITS`
    :param onset: whether it begins in mid-episode
    :param perturbations: what acts
    :param about: in words
    """

    name: str
    robot: str
    split: str
    onset: bool
    perturbations: tuple[Perturbation, ...]
    about: str = ""

    @property
    def env_id(self) -> str:
        """Of our robots the latent environment, whose observation does not show the perturbation."""
        return env_id(self.robot, latent=True) if self.robot in ROBOTS else self.robot


@dataclass(frozen=True)
class Tier:
    """
    How much of a suite to run.

    :param robots: which robots, where none is named
    :param patterns: names of scenarios, without the suite's, with wildcards
    :param episodes: how many episodes of each
    """

    robots: tuple[str, ...]
    patterns: tuple[str, ...]
    episodes: int


@dataclass(frozen=True)
class Suite:
    """
    All scenarios of one file.

    :param name: with its version
    :param title: in words
    :param scenarios: all of them
    :param tiers: selections by name
    :param for_all: those that each robot has, without its name: what any other environment takes
    """

    name: str
    title: str
    scenarios: tuple[Scenario, ...]
    tiers: Mapping[str, Tier]
    for_all: tuple[Scenario, ...] = ()

    def of(self, robot: str) -> tuple[Scenario, ...]:
        """
        The scenarios of a robot: of one that the suite does not name, those that it has for all.

        :param robot: one of `ROBOTS`, or the id of another environment
        """
        own = tuple(s for s in self.scenarios if s.robot == robot)
        return own or tuple(replace(s, robot=robot) for s in self.for_all)

    def names(self, robot: str | None = None) -> tuple[str, ...]:
        """Names of the scenarios, without the suite's. :param robot: only this robot"""
        there = self.scenarios if robot is None else self.of(robot)
        return tuple(dict.fromkeys(s.name.removeprefix(f"{self.name}/") for s in there))

    def select(
        self,
        tier: str = "full",
        robot: str | None = None,
        split: str | None = None,
        patterns: Sequence[str] | None = None,
    ) -> tuple[Scenario, ...]:
        """
        Scenarios to run.

        :param tier: ``"smoke"`` (seconds), ``"quick"`` (minutes) or ``"full"``
        :param robot: this robot, whether it is one of the tier's or not, or the id of another environment; None: those
            of the tier
        :param split: only this split
        :param patterns: these instead of the tier's, and of any robot: names without the suite's, with wildcards
        :raises PerturbationError: on an unknown name, listing those that exist
        """
        all_robots = tuple(dict.fromkeys((*ROBOTS, *(s.robot for s in self.scenarios))))
        robots = all_robots if robot is None or not self.of(robot) else (robot,)
        for what, name, allowed in (("tier", tier, self.tiers), ("robot", robot, robots), ("split", split, SPLITS)):
            if name is not None and name not in allowed:
                raise unknown(what, name, allowed)
        there = self.names(robot)
        for pattern in patterns or ():
            if not any(fnmatch.fnmatchcase(name, pattern) for name in there):
                raise unknown(f"scenario of {self.name}{f' for {robot}' if robot else ''}:", pattern, there)
        chosen = self.tiers[tier]
        if patterns is None:
            robots, patterns = (chosen.robots if robot is None else robots), chosen.patterns
        return tuple(
            s
            for s in (self.scenarios if robot is None else self.of(robot))
            if s.robot in robots
            and split in (None, s.split)
            and any(fnmatch.fnmatchcase(s.name.removeprefix(f"{self.name}/"), pattern) for pattern in patterns)
        )


def suite_names() -> tuple[str, ...]:
    """Names of the suites that are shipped, and of those in ``SUITES``."""
    files = resources.files("sb3_plastic.perturbations").joinpath("data").iterdir()
    shipped = sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
    return (*shipped, *SUITES)


def load_suite(name: str) -> Suite:
    """
    Read a suite.

    :param name: such as ``"nda-v1"``
    :raises PerturbationError: if there is none of this name, listing those that there are
    """
    if name not in suite_names():
        raise unknown("suite", name, suite_names())
    file = SUITES.get(name) or resources.files("sb3_plastic.perturbations").joinpath("data", f"{name}.yaml")
    return _suite(name, file.read_text(encoding="utf-8"))


@cache
def _suite(name: str, text: str) -> Suite:
    """A suite from the text of its file, which its user may change meanwhile."""
    data = yaml.safe_load(text)
    scenarios: list[Scenario] = []
    for_all = [_nominal(name, ""), *_from_faults(name, "", data.get("faults", {}), data.get("onset"))]
    for robot, part in data["robots"].items():
        scenarios.append(_nominal(name, robot))
        scenarios += _from_families(name, robot, part.get("families", {}), data.get("onset"), part.get("switch_at", 0))
        for kind, entry in part.get("novel", {}).items():
            scenarios += _pair(f"{name}/novel/{kind}", robot, "novel", [{"kind": kind, **entry}], data["onset"], kind)
        for faults in (data.get("faults", {}), part.get("faults", {})):
            scenarios += _from_faults(name, robot, faults, data.get("onset"))
        for key, entry in part.get("scenarios", {}).items():
            entries = parse(entry["perturbations"])
            scenarios.append(Scenario(f"{name}/{key}", robot, "anchor", False, entries, entry["about"]))
    tiers = {
        key: Tier(tuple(tier["robots"]), tuple(tier["scenarios"]), tier["episodes"])
        for key, tier in data["tiers"].items()
    }
    # The unperturbed robot alone is no suite: one without faults for all is for the robots that it names.
    return Suite(name, data["title"], tuple(scenarios), tiers, tuple(for_all) if len(for_all) > 1 else ())


def find_scenario(name: str, robot: str) -> Scenario:
    """
    One scenario by name.

    :param name: such as ``"nda-v1/extrap1/mass"``
    :param robot: for which robot
    :raises PerturbationError: if there is none of this name for the robot, listing those that there are
    """
    suite = load_suite(name.split("/")[0])
    scenarios = {s.name: s for s in suite.of(robot)}
    if not scenarios:
        raise PerturbationError(f"{none_for(suite, robot)} Name another suite.")
    if name not in scenarios:
        raise unknown(f"scenario for {robot}:", name, scenarios)
    return scenarios[name]


def none_for(suite: Suite, robot: str) -> str:
    """
    What to say where a suite has no scenarios for a robot, as a sentence.

    :param suite: which
    :param robot: or the id of another environment
    """
    there = dict.fromkeys(s.robot for s in suite.scenarios)
    others = [name for name in suite_names() if load_suite(name).of(robot)]
    instead = f"; there are some in {', '.join(others)}" if others else ""
    return f"{suite.name} has no scenarios for {robot}, only for {', '.join(there)}{instead}."


def names_file(scenario: str) -> bool:
    """Whether a file is meant, which need not be there. :param scenario: name of a scenario, or of a file"""
    return Path(scenario).is_file() or Path(scenario).suffix in (".yaml", ".yml", ".json")


def _nominal(name: str, robot: str) -> Scenario:
    return Scenario(f"{name}/nominal", robot, "nominal", False, (), "nothing is perturbed")


def _from_families(name: str, robot: str, families: Mapping[str, Any], onset: Any, switch_at: Any) -> list[Scenario]:
    """Everything that follows from ranges."""
    if not families:
        return []
    draws: dict[str, dict[str, Any]] = {kind: _draws(kind, **ranges) for kind, ranges in families.items()}
    joint = [{"kind": kind, "value": by_split["train"]} for kind, by_split in draws.items()]
    scenarios = _pair(f"{name}/train", robot, "train", joint, onset, "all families at once")
    switched = parse([entry | {"schedule": {"form": "switch", "at": switch_at, "every": SWITCH}} for entry in joint])
    about = "all families at once, from the start; in half of the episodes some are drawn anew in the middle"
    if switch_at:
        about = "each family from the start, the middle or never; in 38 % of the episodes some are drawn anew later"
    scenarios.append(Scenario(f"{name}/train/switch", robot, "train", False, switched, about))
    scenarios += _pair(f"{name}/id", robot, "id", joint, onset, "as in training")
    for split in ("interp", "extrap1", "extrap2"):
        for kind, by_split in draws.items():
            entries = [{"kind": kind, "value": by_split[split]}]
            scenarios += _pair(f"{name}/{split}/{kind}", robot, split, entries, onset, f"{kind} alone")
    return scenarios


def _from_faults(name: str, robot: str, faults: Mapping[str, Any], onset: Any) -> list[Scenario]:
    """Named faults by split; what is in ``id`` is also there to train on."""
    scenarios: list[Scenario] = []
    for split, by_name in faults.items():
        for family, fault in by_name.items():
            for where in ("train", "id") if split == "id" else (split,):
                key, entries, about = f"{name}/{where}/{family}", fault["perturbations"], fault["about"]
                pair = _pair(key, robot, where, entries, onset, about)
                scenarios += pair if fault.get("onset", True) else pair[:1]
    return scenarios


def _draws(
    kind: str, train: Any, gap: Any, extrap1: Any, extrap2: Any, law: str = "uniform"
) -> dict[str, dict[str, Any]]:
    """What each split draws from, by the ranges of a family."""
    if law not in OUTSIDE:
        raise unknown(f"law of {kind}:", law, OUTSIDE)
    outside = OUTSIDE[law]
    return {
        "train": {outside: [train, gap]},
        "interp": {law: gap},
        "extrap1": {outside: [extrap1, train]},
        "extrap2": {outside: [extrap2, extrap1]},
    }


def _pair(name: str, robot: str, split: str, entries: list[dict[str, Any]], onset: Any, about: str) -> list[Scenario]:
    """The scenario from the start, and the same with an onset in mid-episode."""
    late = parse([_delayed(entry, onset) for entry in entries])
    return [
        Scenario(name, robot, split, False, parse(entries), f"{about}, from the start"),
        Scenario(f"{name}/onset", robot, split, True, late, f"{about}, from mid-episode on"),
    ]


def _delayed(entry: dict[str, Any], onset: Any) -> dict[str, Any]:
    if entry["kind"] == "terrain":
        # Ground does not rise under feet: it is rough from some way ahead instead.
        return entry | {"params": {"flat": 10.0}}
    schedule = entry.get("schedule", {"form": "onset"})
    return entry | {"schedule": {**schedule, "at": onset}}
