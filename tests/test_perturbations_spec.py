"""Perturbations as data: what can be written, what comes back, and what an error says."""

import dataclasses
import json

import numpy as np
import pytest

from sb3_plastic.perturbations import (
    Distribution,
    Perturbation,
    PerturbationError,
    Schedule,
    from_json,
    from_yaml,
    load,
    parse,
    to_json,
    to_yaml,
)
from sb3_plastic.perturbations.schedules import draw_timing
from sb3_plastic.perturbations.spec import extremes_of

MANY = (
    Perturbation("friction", 0.4),
    Perturbation("motor_off", target="ankle_1", schedule=Schedule("onset", at=300, ramp=0, end=500)),
    Perturbation("mass", Distribution("uniform", (0.5, 1.5)), schedule=Schedule("switch", every=100)),
    Perturbation("strength", Distribution("outside", ((0.5, 1.5), (0.8, 1.2))), target=("hip_1", "ankle_*")),
    Perturbation("push", 0.5, schedule=Schedule("intermittent", duration=5, pause=Distribution("uniform", (10, 50)))),
    Perturbation("payload", 0.3, params={"offset": [0.1, 0.0, 0.2]}),
    Perturbation("limb_scale", 0.5, target=Distribution("choice", ("ankle_1", "ankle_2"))),
    Perturbation("damping", Distribution("log_uniform", (0.5, 2)), op="scale", schedule=Schedule("drift", end=800)),
    Perturbation("gravity", 1.2, schedule=Schedule("random_walk", sigma=0.1, every=20)),
    Perturbation("slope", 5.0, schedule=Schedule("periodic", period=200)),
)


def test_numbers_of_numpy_are_numbers() -> None:
    heavy = Perturbation("mass", np.linspace(1, 2, 3)[1], schedule=Schedule("onset", at=np.int64(3)))
    same = Perturbation("mass", 1.5, schedule=Schedule("onset", at=3))
    assert heavy == same
    assert from_json(to_json([heavy])) == (heavy,)
    assert len({heavy, same}) == 1
    assert Perturbation("strength", np.ones(2)) == Perturbation("strength", (1.0, 1.0))
    assert Distribution("uniform", (np.float32(0.5), 1)).to_dict() == {"uniform": [0.5, 1]}


def test_perturbations_survive_yaml_json_and_dicts() -> None:
    assert from_yaml(to_yaml(MANY)) == MANY
    assert from_json(to_json(MANY)) == MANY
    assert parse([p.to_dict() for p in MANY]) == MANY
    assert len({hash(p) for p in MANY}) == len(MANY)


def test_numbers_that_json_writes_with_an_exponent_or_without_end_come_back(tmp_path) -> None:
    never = Schedule("onset", at=3, end=float("inf"))
    small = (Perturbation("obs_noise", 1e-05, schedule=never), Perturbation("stiffness", 2e2, op="set"))
    assert from_json(to_json(small)) == small
    assert from_yaml(to_yaml(small)) == small
    (tmp_path / "mine.json").write_text(to_json(small))
    assert load(tmp_path / "mine.json") == small
    (written,) = from_yaml("- {kind: obs_noise, value: 1e-5, schedule: {form: onset, at: 3, end: Infinity}}")
    assert written == small[0]
    with pytest.raises(PerturbationError, match="finite number, got '1e-5 m'"):
        from_yaml("- {kind: obs_noise, value: 1e-5 m}")


def test_what_asdict_gives_is_understood_since_gymnasium_stores_specs_that_way() -> None:
    stored = json.loads(json.dumps([dataclasses.asdict(p) for p in MANY]))
    assert parse(stored) == MANY


def test_yaml_is_read_from_a_file_and_errors_name_the_file(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- {kind: friction, value: 0.4}\n")
    assert load(file) == (Perturbation("friction", 0.4),)
    file.write_text("kind: friction\n")
    with pytest.raises(PerturbationError, match=r"mine\.yaml: Perturbations must be a list of entries, got dict"):
        load(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"- {kind: \xff}", "can't decode"), (b"[" * 3000, "no list of perturbations in YAML"), (b"{", "in YAML")],
)
def test_files_that_are_no_text_or_no_yaml_are_named(content, message, tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(PerturbationError, match=rf"mine\.yaml.*{message}"):
        load(file)
    if message == "in YAML":
        with pytest.raises(PerturbationError, match=message):
            from_json(content.decode())


@pytest.mark.parametrize(
    "schedule",
    [
        {"form": "drift", "at": 1200},
        {"form": "onset", "at": 5, "end": 5},
        {"form": "drift", "end": {"uniform": [0, 500]}, "at": 100},
        {"form": "onset", "at": {"uniform": [250, 500]}, "end": 300},
    ],
)
def test_no_draw_of_a_schedule_ends_before_it_begins(schedule) -> None:
    with pytest.raises(PerturbationError, match="'end' of a schedule"):
        Schedule(**schedule)


def test_a_random_walk_has_steps_of_a_finite_size() -> None:
    with pytest.raises(PerturbationError, match="'sigma' of a schedule"):
        Schedule("random_walk", sigma=float("inf"))


def test_perturbations_are_frozen_and_leave_the_callers_data_alone() -> None:
    data = {"kind": "payload", "value": 0.3, "params": {"offset": [0, 0, 1]}}
    (p,) = parse([data])
    assert data == {"kind": "payload", "value": 0.3, "params": {"offset": [0, 0, 1]}}
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.value = 0.4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"kind": "mass", "valeu": 1},
            r"Perturbation 1 .*Unknown field of a perturbation 'valeu'. Did you mean 'value'",
        ),
        ({"value": 1}, "'kind' is missing"),
        ({"kind": "mass", "value": "heavy"}, "finite number, got 'heavy'"),
        ({"kind": "mass", "value": True}, "finite number, got True"),
        ({"kind": "mass", "value": 2, "params": None}, "'params' must be a mapping.*got None"),
        ({"kind": "mass", "value": {"unifrom": [1, 2]}}, "Did you mean 'uniform'"),
        ({"kind": "mass", "value": {"uniform": [2, 1]}}, r"low <= high, got \[2.0, 1.0\]"),
        ({"kind": "mass", "value": {"uniform": 2}}, "must be a list, got 2"),
        ({"kind": "mass", "value": {"log_uniform": [0, 1]}}, "log_uniform needs positive bounds"),
        ({"kind": "mass", "value": {"log_outside": [[0, 4], [1, 2]]}}, "log_outside needs positive bounds"),
        ({"kind": "mass", "value": {"log_outside": [[1, 2], [0.5, 4]]}}, r"log_outside .*order is \[outer, inner\]"),
        ({"kind": "mass", "value": {"choice": []}}, "at least one option"),
        ({"kind": "mass", "value": {"outside": [[0.8, 1.2], [0.5, 1.5]]}}, r"The order is \[outer, inner\]"),
        ({"kind": "mass", "value": {"outside": [[0.5, 1.5], [0.5, 1.5]]}}, "within a wider outer one"),
        ({"kind": "mass", "op": "times", "value": 2}, "Unknown op 'times'.*scale"),
        ({"kind": "mass", "value": 2, "schedule": {"form": "onsett"}}, "Did you mean 'onset'"),
        ({"kind": "mass", "value": 2, "schedule": {"form": "onset"}}, "'onset' needs 'at'"),
        ({"kind": "mass", "value": 2, "schedule": {"form": "onset", "at": -1}}, "at least 0, got -1"),
        ({"kind": "mass", "value": 2, "schedule": {"form": "switch", "every": 0}}, "at least 1, got 0"),
        ({"kind": "mass", "value": 2, "schedule": {"form": "episode", "at": 3}}, "'at'.*Allowed: none"),
        ({"kind": "mass", "value": 2, "schedule": "onset"}, "mapping such as"),
        ("mass", "must be a mapping"),
    ],
)
def test_a_bad_entry_is_named_with_what_is_allowed(entry, message) -> None:
    with pytest.raises(PerturbationError, match=f"(?s){message}"):
        parse([{"kind": "friction", "value": 0.5}, entry])


def test_something_that_is_no_list_is_refused() -> None:
    for bad in ({"kind": "mass", "value": 1}, "mass", 3):
        with pytest.raises(PerturbationError, match="must be a list"):
            parse(bad)
    assert parse(None) == ()


def test_distributions_stay_in_their_support_and_reach_both_sides() -> None:
    rng = np.random.default_rng(0)
    outside = np.array([Distribution("outside", ((0.5, 2.0), (0.8, 1.2))).sample(rng) for _ in range(4000)])
    assert ((outside >= 0.5) & (outside <= 2.0)).all()
    assert not ((outside > 0.8) & (outside < 1.2)).any()
    # The left shell has 0.3 of the 1.1 units of length; the std of the share is below 0.008.
    assert abs((outside < 1).mean() - 0.3 / 1.1) < 0.03
    log = np.array([Distribution("log_uniform", (0.25, 4)).sample(rng) for _ in range(4000)])
    assert abs((log < 1).mean() - 0.5) < 0.03
    log = np.array([Distribution("log_outside", ((0.25, 8), (2, 4))).sample(rng) for _ in range(4000)])
    assert ((log >= 0.25) & (log <= 8)).all()
    assert not ((log > 2) & (log < 4)).any()
    # Two of the four octaves are below nominal; uniformly drawn, .75 of 5.75 would be.
    assert abs((log < 1).mean() - 0.5) < 0.03
    assert {Distribution("choice", ("a", "b")).sample(rng) for _ in range(50)} == {"a", "b"}


def levels(schedule: Schedule, n_steps: int, seed: int = 0) -> list[float]:
    level = draw_timing(schedule, np.random.default_rng(seed)).level
    return [level(t) for t in range(n_steps)]


def test_schedules_follow_their_definitions() -> None:
    assert levels(Schedule(), 3) == [1, 1, 1]
    assert levels(Schedule("onset", at=2), 4) == [0, 0, 1, 1]
    assert levels(Schedule("onset", at=1, ramp=3, end=6), 8) == [0, 0.25, 0.5, 0.75, 1, 1, 0, 0]
    assert levels(Schedule("drift", at=1, end=5), 7) == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert levels(Schedule("intermittent", duration=1, pause=2, at=1), 8) == [0, 1, 0, 0, 1, 0, 0, 1]
    assert np.allclose(levels(Schedule("periodic", period=4, at=1), 6), [0, 0, 1, 0, -1, 0])


def test_times_that_are_left_out_are_those_of_the_documentation() -> None:
    drift = levels(Schedule("drift"), 1002)
    assert [drift[t] for t in (0, 500, 999, 1000, 1001)] == [0, 0.5, 0.999, 1, 1]
    walk = levels(Schedule("random_walk", sigma=0.1), 40)
    assert [t for t in range(1, 40) if walk[t] != walk[t - 1]] == [10, 20, 30]


def test_a_distribution_may_have_a_single_value() -> None:
    rng = np.random.default_rng(0)
    assert Distribution("uniform", (1.5, 1.5)).sample(rng) == 1.5
    assert Distribution("outside", ((0.5, 2.0), (0.5, 2 - 1e-9))).sample(rng) == pytest.approx(2)


def test_a_switch_says_when_to_draw_anew() -> None:
    timing = draw_timing(Schedule("switch", every=3, at=2), np.random.default_rng(0))
    assert [timing.level(t) for t in range(4)] == [0, 0, 1, 1]
    assert timing.redraw is not None
    assert [t for t in range(12) if timing.redraw(t)] == [5, 8, 11]


def test_a_random_walk_is_reflected_and_moves_only_when_due() -> None:
    walk = np.array(levels(Schedule("random_walk", sigma=0.7, every=5, at=3), 5000))
    assert (walk[:3] == 0).all()
    assert np.abs(walk).max() <= 1
    assert np.abs(walk).max() > 0.95
    moves = np.flatnonzero(np.diff(walk)) + 1
    assert set((moves - 3) % 5) == {0}
    small = np.array(levels(Schedule("random_walk", sigma=0.01, every=1), 200))
    assert abs(np.diff(small).std() - 0.01) < 0.003


def test_times_may_be_drawn() -> None:
    schedule = Schedule("onset", at=Distribution("uniform", (10, 20)))
    onsets = {levels(schedule, 30, seed).index(1.0) for seed in range(40)}
    assert min(onsets) >= 10
    assert max(onsets) <= 20
    assert len(onsets) > 5


def test_times_that_are_drawn_between_two_steps_are_rounded() -> None:
    schedule = Schedule("switch", at=Distribution("uniform", (2.6, 2.9)), every=Distribution("uniform", (3.6, 3.9)))
    timing = draw_timing(schedule, np.random.default_rng(0))
    assert timing.redraw is not None
    assert [t for t in range(12) if timing.redraw(t)] == [7, 11]
    assert [timing.level(t) for t in range(4)] == [0, 0, 0, 1]


def test_each_turn_on_and_off_is_drawn_anew() -> None:
    schedule = Schedule("intermittent", duration=Distribution("uniform", (1, 9)), pause=Distribution("uniform", (1, 9)))
    ends = np.flatnonzero(np.diff(levels(schedule, 400)))
    on, off = np.diff(ends)[::2], np.diff(ends)[1::2]
    assert len({*on}) > 4
    assert len({*off}) > 4


@pytest.mark.parametrize("law", ["outside", "log_outside"])
def test_all_that_an_outer_interval_may_give_has_to_be_legal(law) -> None:
    assert extremes_of(Distribution(law, ((0.5, 2.0), (0.8, 1.2)))) == (0.5, 2.0)
