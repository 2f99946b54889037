"""Protocols: from the scenarios of a suite to the conditions that are run.

    static    perturbed from the start
    onset     from a step between 250 and 500 on, drawn with the episode
    removal   the same, and unperturbed again from step `REMOVAL` on: is there an after-effect?
    switch    values drawn anew every `SWITCH` steps, from step `SWITCH` on
    lifetime  `LIFE` episodes in a row with the same perturbation, fast weights carried over or reset
    horizon   nominal and id, for a multiple of the training episode's length: does the policy stay stable?

static and onset are scenarios of the suite as they are; the others are derived from them. Ground cannot rise under
feet, so terrain begins some metres ahead; its onset is where the robot gets there, and its reference is level ground
of the same kind.

Where a model has controls, the protocol onset also has a sham: they intervene at an onset at which nothing happens.
What freezing costs there is no adaptation, and is subtracted in the net adaptation gain, see scores.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sb3_plastic.evaluation.fault_kinds import Fault
from sb3_plastic.evaluation.records import LAYER_OFF, LIFETIME, PROTOCOLS, WITHIN, Cell
from sb3_plastic.perturbations.kinds.world import needs_terrain
from sb3_plastic.perturbations.perturber import generator
from sb3_plastic.perturbations.spec import Distribution, Perturbation, PerturbationError, Schedule, extremes_of, unknown
from sb3_plastic.perturbations.suites import Scenario

REMOVAL = 700  # step; every onset is before it
SWITCH = 200  # steps
LIFE = 5  # episodes
EVERYWHERE = 1e6  # m; further than any robot gets

SEVERITY = {"nominal": 0, "reference": 0, "train": 1, "id": 1, "interp": 1, "extrap1": 2, "extrap2": 3}


@dataclass(frozen=True)
class Condition:
    """
    A cell, and how to run it.

    :param cell: what it is
    :param perturbations: what acts
    :param steps: time limit of an episode
    :param life: episodes in a row
    :param heightfield: whether the ground is a height field
    :param removal: first step that is unperturbed again, -1 without
    :param begins_at: distance from the start at which the perturbation is met, m; None: it is a matter of time
    :param sham: nothing happens at the onset that these entries would have
    :param fault: of the agent; from the onset of ``sham``, or from the start without
    """

    cell: Cell
    perturbations: tuple[Perturbation, ...]
    steps: int
    life: int = 1
    heightfield: bool = False
    removal: int = -1
    begins_at: float | None = None
    sham: tuple[Perturbation, ...] = ()
    fault: Fault | None = None


def plan(
    scenarios: Sequence[Scenario],
    protocols: Sequence[str],
    controls: Sequence[str],
    steps: int,
    horizon: int = 3,
    has_memory: bool = True,
    faults: Sequence[Fault] = (),
) -> list[Condition]:
    """
    All conditions of an evaluation, in order.

    :param scenarios: scenarios of one robot
    :param protocols: names in `PROTOCOLS`
    :param controls: names in `controls.WITHIN`
    :param steps: length of a training episode
    :param horizon: multiple of it, for the protocol ``horizon``
    :param has_memory: whether there is something to carry over from one episode to the next
    :param faults: of the agent, in the nominal scenario
    :raises PerturbationError: on an unknown name, or several scenarios of the split nominal
    """
    for what, names, allowed in (("protocol", protocols, PROTOCOLS), ("control", controls, WITHIN)):
        for name in names:
            if name not in allowed:
                raise unknown(what, name, allowed)
    if faults and not {"static", "onset"} & {*protocols}:
        raise PerturbationError(f"Faults are judged by the protocols static and onset, got {', '.join(protocols)}.")
    of_nominal = [s.name for s in scenarios if s.split == "nominal"]
    if len(of_nominal) > 1:
        raise PerturbationError(
            f"One scenario has the split nominal, with which the others are compared, got {', '.join(of_nominal)}."
        )
    nominal = next(iter(of_nominal), None)
    conditions: list[Condition] = []
    for protocol in PROTOCOLS:
        if protocol not in protocols:
            continue
        wanted: Sequence[str] = controls
        if protocol in ("static", "horizon"):  # what begins with the episode has no onset to do something at
            wanted = [control for control in controls if control in ("intact", "off", LAYER_OFF)]
        if protocol == "lifetime":
            wanted = LIFETIME if has_memory else LIFETIME[1:]
        for control in wanted:
            for scenario in scenarios:
                condition = _condition(scenario, protocol, control, steps, horizon, nominal)
                if condition is not None:
                    conditions.append(condition)
            if protocol == "onset" and len(wanted) > 1 and nominal is not None:
                conditions += _sham(scenarios, control, steps, nominal)
        if protocol in ("static", "onset"):
            conditions += [_faulty(scenarios, fault, protocol, steps, nominal) for fault in faults]
    rough = [c for c in conditions if c.heightfield and c.cell.protocol != "horizon"]
    if nominal is not None and rough:
        cell = Cell("static", _level(nominal), "intact", "reference", "none", 0)
        (*_, terrain) = (p for p in rough[0].perturbations if p.kind == "terrain")
        level = replace(terrain, params={**terrain.params, "flat": EVERYWHERE})
        conditions.append(Condition(cell, (level,), steps, heightfield=True, begins_at=EVERYWHERE))
    return conditions


def check_onsets(scenarios: Sequence[Scenario], steps: int) -> None:
    """
    Refuse scenarios that begin after all episodes.

    :param scenarios: of one robot
    :param steps: time limit of an episode
    :raises PerturbationError: naming the first
    """
    for scenario in scenarios:
        first = min((min(extremes_of(p.schedule.at), default=0) for p in scenario.perturbations), default=0)
        if first >= steps:
            raise PerturbationError(
                f"{scenario.name} begins at step {first:g} or later, and episodes have {steps} steps: --episode-steps "
                "makes them longer. Or name scenarios that begin sooner."
            )


def _condition(
    scenario: Scenario, protocol: str, control: str, steps: int, horizon: int, nominal: str | None
) -> Condition | None:
    """The condition, None if the protocol does not apply to the scenario."""
    entries = scenario.perturbations
    terrain = next((p for p in entries if p.kind == "terrain"), None)
    reference = None if scenario.split == "nominal" or nominal is None else nominal
    if terrain is not None and reference is not None:
        reference = _level(reference)
    severity = SEVERITY.get(scenario.split)
    cell = Cell(protocol, scenario.name, control, scenario.split, _kind(scenario), severity, reference)
    condition = Condition(cell, entries, steps, heightfield=terrain is not None)
    drawn = any(isinstance(p.value, Distribution) for p in entries)
    if protocol == "static":
        return None if scenario.onset else condition
    if protocol == "horizon":
        if scenario.split not in ("nominal", "id") or scenario.onset:
            return None
        return replace(condition, steps=steps * horizon, cell=replace(cell, reference=None, training_steps=steps))
    if protocol == "onset":
        if not scenario.onset:
            return None
        # The front of the robot is about a metre ahead of its middle.
        flat = None if terrain is None else float(terrain.params.get("flat", 0)) - 1
        return replace(condition, begins_at=flat)
    if protocol == "removal":
        if not scenario.onset or any(p.schedule.form != "onset" for p in entries) or steps <= REMOVAL:
            return None
        if any(max(extremes_of(p.schedule.at), default=0) >= REMOVAL for p in entries):
            return None
        late = tuple(replace(p, schedule=replace(p.schedule, end=REMOVAL)) for p in entries)
        return replace(condition, perturbations=late, removal=REMOVAL)
    if scenario.onset or not entries or terrain is not None:
        return None
    if protocol == "switch":
        if not drawn or steps <= SWITCH:
            return None
        schedule = Schedule("switch", every=SWITCH, at=SWITCH)
        switched = tuple(replace(p, schedule=schedule) for p in entries)
        return replace(condition, perturbations=switched, cell=replace(cell, switch_every=SWITCH))
    if any(p.schedule.form == "switch" for p in entries):  # is another perturbation in each episode
        return None
    lasting = tuple(replace(p, lasting=True) for p in entries)
    return replace(condition, perturbations=lasting, life=LIFE)


def _sham(scenarios: Sequence[Scenario], control: str, steps: int, nominal: str) -> list[Condition]:
    """Nothing but the intervention: at the onset that other scenarios have, in the nominal one, if they have any."""
    for scenario in scenarios:
        if scenario.onset and scenario.perturbations[0].schedule.form == "onset":
            cell = Cell("onset", f"{nominal}/sham", control, "sham", "none", 0, nominal)
            return [Condition(cell, (), steps, sham=scenario.perturbations)]
    return []


FAULT_ONSET = Perturbation("gravity", 1.0, schedule=Schedule("onset", at=Distribution("uniform", (250, 500))))
"""When faults of agents set in where no scenario has an onset."""


def _faulty(scenarios: Sequence[Scenario], fault: Fault, protocol: str, steps: int, nominal: str | None) -> Condition:
    """The unperturbed robot with a faulty agent, from the start or from the onset that other scenarios have."""
    late = protocol == "onset"
    cell = Cell(protocol, f"faults/{fault}{'/onset' * late}", "intact", "fault", fault.kind, None, nominal)
    onsets = (s.perturbations for s in scenarios if s.onset and s.perturbations[0].schedule.form == "onset")
    return Condition(cell, (), steps, sham=next(onsets, (FAULT_ONSET,)) if late else (), fault=fault)


def _level(nominal: str) -> str:
    return f"{nominal}/heightfield"


def _kind(scenario: Scenario) -> str:
    if scenario.split in ("nominal", "reference"):
        return "none"
    if needs_terrain(scenario.perturbations):
        return "terrain"  # whatever its name is: it is compared with level ground of its kind
    if scenario.split in ("id", "train") and len(scenario.perturbations) > 1:
        return "all"
    return scenario.name.removesuffix("/onset").rsplit("/", 1)[-1]


def onset_of(entry: Perturbation, seed: int) -> int:
    """
    The step at which a perturbation begins in the first episode with a seed, if it is the first of a scenario.

    :param entry: with a schedule of the form ``onset``
    :param seed: seed of the environment
    """
    return int(entry.schedule.draw("at", generator(seed, episode=0, index=0)))
