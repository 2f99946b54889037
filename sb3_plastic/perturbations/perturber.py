"""What runs the perturbations of one environment: checks them, draws them for an episode, applies and undoes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.checks import Plant, check, find_ids
from sb3_plastic.perturbations.kinds import KINDS, Active
from sb3_plastic.perturbations.robot import Robot
from sb3_plastic.perturbations.schedules import draw_timing
from sb3_plastic.perturbations.spec import Distribution, Perturbation, PerturbationError

Vector = NDArray[np.float64]


def generator(seed: int, episode: int, index: int) -> np.random.Generator:
    """
    The source of all that one perturbation draws in one episode: first its schedule (its onset before all else), then
    its value, then its noise. Not that of the environment, whose initial state would tell what was drawn.

    :param seed: of the environment
    :param episode: how many episodes there were since the environment was seeded
    :param index: place of the perturbation in its scenario
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(episode, index)))


class Perturber:
    """
    The perturbations of one environment, and their state in the present episode.

    Every perturbation of every episode has a generator of its own, derived from the seed of the environment, the number
    of the episode and its place in the list. None of them touches the environment's generator: until a perturbation
    begins, trajectories are bit-identical to those without it.

    :param plant: what they act on
    """

    def __init__(self, plant: Plant) -> None:
        self.plant, self.robot = plant, plant.robot
        self.perturbations: tuple[Perturbation, ...] = ()
        self.active: list[Active] = []
        self.t = 0  # index of the step that comes next
        self.onset: int | None = None  # index of the first perturbed step
        self.info: dict[str, Any] = {}
        self.forces: dict[int, Vector] = {}  # N, by body
        self._seed, self._episode = 0, 0
        self._touched = False
        self._known: dict[Perturbation, tuple[Any, ...]] = {}  # what each changes
        self.seed(None)
        self._sort()

    # -- per episode -------------------------------------------------------------------------------------------------

    def seed(self, seed: int | None) -> None:
        """Start the sequence of episodes anew. :param seed: None takes one from the operating system"""
        self._seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) if seed is None else seed
        self._episode = 0

    def take_over(self, other: Perturber) -> None:
        """Go on with another's sequence of episodes. :param other: whose"""
        self._seed, self._episode = other._seed, other._episode

    def use(self, perturbations: Sequence[Perturbation]) -> None:
        """
        Take other perturbations, from the next episode on.

        :param perturbations: as `spec.parse` returns them
        :raises PerturbationError: naming the entry, if one cannot act here; the present ones then stay
        """
        for i, p in enumerate(perturbations):
            try:
                check(p, self.plant)
            except PerturbationError as error:
                raise PerturbationError(f"Perturbation {i} ({p.kind}) on {self.plant.name}: {error}") from error
        self.perturbations = tuple(perturbations)

    def begin(self) -> None:
        """Undo the last episode and draw the next one. What acts from the start is applied, but for locks."""
        if self._touched and self.robot is not None:
            self.robot.restore()
            self._touched = False
        self.t, self.onset, self.active = 0, None, []
        for i, p in enumerate(self.perturbations):
            rng = generator(self._seed, 0 if p.lasting else self._episode, i)
            kind, params = KINDS[p.kind], dict(KINDS[p.kind].params) | dict(p.params)
            # Model kinds never run without a robot: `check` refuses them.
            active = Active(p, kind, cast(Robot, self.robot), rng, params, draw_timing(p.schedule, rng))
            self._draw(active)
            if p.lasting:  # the damage is the same, but what is drawn after it is not
                active.rng = np.random.default_rng([self._seed, self._episode, i, 1])
            self.active.append(active)
        self._episode += 1
        self._sort()
        for active in self.active:
            active.activation = active.timing.level(0)
        self._apply(None, self.active)

    def _sort(self) -> None:
        layers = {
            layer: [a for a in self.active if a.kind.layer == layer] for layer in ("shape", "model", "lock", "force")
        }
        self._shapes, self._models, self._locks, self._pushes = layers.values()
        self.filters_actions = [a for a in self.active if a.kind.layer == "action"]
        self.filters_observations = [a for a in self.active if a.kind.layer == "observation"]
        self.pushes = bool(self._pushes)
        self._moving = [a for a in self.active if a.timing.until > 0]
        self.busy = bool(self._moving or self._locks)  # whether `before_step` has something to do

    def _draw(self, active: Active) -> None:
        p = active.spec
        for name in set(active.memory) - {"history"}:  # a signal that is late stays so
            del active.memory[name]
        if isinstance(p.value, Distribution):
            n = len(find_ids(active.kind, p.target, self.plant)) if p.each else None
            draws = [float(p.value.sample(active.rng)) for _ in range(1 if n is None else n)]
            active.value = draws[0] if n is None else np.array(draws)
        elif p.value is not None:
            active.value = np.array(p.value, dtype=float) if isinstance(p.value, tuple) else float(p.value)
        active.target = p.target.sample(active.rng) if isinstance(p.target, Distribution) else p.target
        active.ids = find_ids(active.kind, active.target, self.plant)
        if "half_range" not in active.params:
            active.params |= {"half_range": self.plant.half_range, "middle": self.plant.middle}
        if "seed" in active.kind.params:
            drawn = int(active.rng.integers(2**63))
            active.params["seed"] = drawn if p.params.get("seed") is None else p.params["seed"]
        if active.kind.pattern is not None:
            active.value = active.kind.pattern.draw(active)

    # -- per step ----------------------------------------------------------------------------------------------------

    def before_step(self, data: Any) -> bool:
        """
        Bring the model to the state of step `t`.

        :param data: an MjData, or a row of a batch: something with `qpos` and `eq_active`
        :return: whether the model was changed
        """
        if self.t == 0:
            changed = self._locks  # which need the angles of this moment
        else:
            changed = [active for active in self._moving if self._move(active)]
            if changed:
                self._moving = [active for active in self._moving if self.t < active.timing.until]
                self.busy = bool(self._moving)
        if changed:
            self._apply(data, changed)
        return bool(changed)

    def _move(self, active: Active) -> bool:
        """Bring one perturbation to step `t`. :return: whether it is another than before"""
        redrawn = active.timing.redraw is not None and active.timing.redraw(self.t)
        if redrawn:
            self._draw(active)
        level = active.timing.level(self.t)
        if level == active.activation:
            return redrawn
        if level == 0:
            active.memory.pop("angles", None)
            active.memory.pop("stuck", None)
        active.activation = level
        return True

    def command(self, ctrl: Vector) -> Vector:
        """What the motors are told. :param ctrl: the action; it is not changed"""
        ctrl = np.array(ctrl, dtype=np.float64)
        for active in self.filters_actions:
            if active.activation != 0 or active.kind.records:
                ctrl = _filtered(active, ctrl)
        return ctrl

    def observe(self, obs: NDArray[Any]) -> NDArray[Any]:
        """What the senses say, of integers as float64. :param obs: the observation; it is not changed"""
        seen = np.array(obs)
        if self.filters_observations and seen.dtype.kind != "f":
            seen = seen.astype(np.float64)
        for active in self.filters_observations:
            if active.activation != 0 or active.kind.records:
                seen = _filtered(active, seen)
        return seen

    def steps_since_onset(self) -> int:
        """Steps since the first perturbed one, which counts as 0; -1 before it."""
        return -1 if self.onset is None else self.t - self.onset

    # -- applying ----------------------------------------------------------------------------------------------------

    def _apply(self, data: Any, changed: Sequence[Active]) -> None:
        """
        Put the model into the state that the activations say: a function of them alone, not of what was before.

        :param data: as in `before_step`; None before the first step
        :param changed: whose activation, value or target is new: the rest of the model is as it should be
        """
        edits = [active for active in changed if active.kind.layer in ("shape", "model", "lock")]
        if self.robot is not None and edits:
            try:
                self._edit(self.robot, data, edits)
            except BaseException:
                self.robot.restore()
                raise
        self.forces = {}
        for active in self._pushes:
            if active.activation != 0:
                for body in active.ids:
                    self.forces[int(body)] = self.forces.get(int(body), 0) + active.kind.apply(active)
        if self.onset is None and any(a.activation != 0 for a in self.active):
            self.onset = self.t
        self._describe()

    def _edit(self, robot: Robot, data: Any, changed: Sequence[Active]) -> None:
        scales: dict[int, float] = {}
        for active in self._shapes:
            if active.activation != 0:
                for body, factor in active.kind.apply(active).items():
                    scales[body] = scales.get(body, 1.0) * factor
        base = robot.variant(scales) if scales else None
        models = self._sharing_fields(changed)
        if any(active.kind.layer == "shape" or active.kind.set_const for active in [*changed, *models]):
            # Everything: much is derived from sizes and masses.
            models = self._models
            robot.restore(base)
        else:
            robot.restore_fields(sorted({name for a in [*changed, *models] for name in a.kind.fields}), base)
        self._touched = True
        for active in models:
            if active.activation != 0:
                active.kind.apply(active)
        if any(a.kind.set_const for a in models):
            robot.set_const()
        if data is not None:
            data.eq_active[list(robot.locks.values())] = 0
            for active in self._locks:
                if active.activation != 0:
                    active.data = data
                    active.kind.apply(active)

    def _sharing_fields(self, changed: Sequence[Active]) -> list[Active]:
        """
        The perturbations of the model that have to be applied again: they write a field that one of ``changed`` writes,
        or a field that another one of these writes.
        """
        fields = {name for active in changed for name in active.kind.fields}
        while True:
            sharing = [active for active in self._models if fields.intersection(active.kind.fields)]
            grown = fields.union(*(active.kind.fields for active in sharing))
            if grown == fields:
                return sharing
            fields = grown

    def _describe(self) -> None:
        self.info = {
            "perturbation_names": tuple(self._label(a) for a in self.active),
            "perturbation_values": tuple(_plain(a.value) for a in self.active),
            "perturbation_active": tuple(a.activation != 0 for a in self.active),
            "context": self.context(),
        }

    @staticmethod
    def _label(active: Active) -> str:
        return active.spec.kind if active.target is None else f"{active.spec.kind}:{active.target}"

    def context(self, layout: Sequence[Perturbation] | None = None) -> tuple[float, ...]:
        """
        The hidden variables, as an oracle may see them: for each perturbation its present deviation from nominal (value
        minus 1 for factors, value otherwise, 1 for on; several numbers where each target has its own, and the matrix
        of wires row by row), then one 0 or 1 for each option of a target that is drawn.

        :param layout: the perturbations whose variables are wanted, in this order; those that are not in use now are at
            nominal, and others stay hidden. None: those in use
        """
        in_use = list(self.active)
        if layout is None:
            return tuple(number for active in in_use for number in _variables(active))
        context: list[float] = []
        for wanted in layout:
            variable = self._variable(wanted)
            i = next((i for i, a in enumerate(in_use) if self._variable(a.spec) == variable), None)
            context += [0.0] * self.context_size([wanted]) if i is None else _variables(in_use.pop(i))
        return tuple(context)

    def context_size(self, perturbations: Sequence[Perturbation]) -> int:
        """Length of the context of these. :param perturbations: for which"""
        return sum(self._n_variables(p) for p in perturbations)

    def _variable(self, p: Perturbation) -> tuple[Any, ...]:
        """What a perturbation changes, however it is written: two with the same one differ in the value alone."""
        if p not in self._known:
            kind, is_drawn = KINDS[p.kind], isinstance(p.target, Distribution)
            target = p.target if is_drawn else tuple(find_ids(kind, p.target, self.plant))
            op, direction = p.op or next(iter(kind.ops), None), p.params.get("direction", kind.params.get("direction"))
            self._known[p] = p.kind, op, target, p.each or isinstance(p.value, tuple), direction
        return self._known[p]

    def _n_variables(self, p: Perturbation) -> int:
        if isinstance(p.target, Distribution):
            return 1 + len(p.target.args)
        pattern = KINDS[p.kind].pattern
        if pattern is None and not p.each and not isinstance(p.value, tuple):
            return 1
        n = len(find_ids(KINDS[p.kind], p.target, self.plant))
        return n if pattern is None else pattern.nothing(n).size


def _filtered(active: Active, x: NDArray[Any]) -> NDArray[Any]:
    """What a filter makes of a vector; refused if it is no such vector: MuJoCo would go on with NaN."""
    filtered = active.kind.apply(active, x)
    if not isinstance(filtered, np.ndarray) or filtered.shape != x.shape:
        raise PerturbationError(
            f"The kind {active.kind.name!r} must return the vector that it got, an array of shape {x.shape}, changed "
            f"or not; it returned {filtered!r}. Is its last line 'return x'?"
        )
    return filtered


def _plain(value: Any) -> Any:
    return tuple(value.ravel().tolist()) if isinstance(value, np.ndarray) else value


def _variables(active: Active) -> list[float]:
    deviation = active.deviation.tolist()
    if not isinstance(active.spec.target, Distribution):
        return list(deviation)
    return [*deviation, *(float(active.activation != 0 and active.target == o) for o in active.spec.target.args)]
