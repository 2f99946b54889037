"""The runner of studies: cells run once, results are complete files, a table gives back what was put in."""

import json
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from sb3_plastic.errors import UserError
from sb3_plastic.extensions import VARIABLE
from sb3_plastic.safe import DamagedError
from sb3_plastic.snn.rules import RULES
from sb3_plastic.studies import results
from sb3_plastic.studies.locks import alone
from sb3_plastic.studies.results import gather, keep, origin, read_results
from sb3_plastic.studies.runner import LocalProcesses, file_name, in_turns, run_cells, timed
from sb3_plastic.studies.table import from_csv, to_csv


@dataclass(frozen=True)
class Cell:
    seed: int

    @property
    def name(self):
        return file_name("toy", f"seed{self.seed}")


@dataclass(frozen=True)
class Seeded(Cell):
    label: str = ""


@dataclass(frozen=True)
class Labelled(Cell):
    label: str = ""

    @property
    def name(self):
        return file_name(self.label)


def square(cell):
    return {"square": cell.seed**2}


def test_a_study_that_was_stopped_goes_on_where_it_was(tmp_path):
    ran = []

    def run(cell):
        if cell.seed == 2 and len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(cell.seed)
        return square(cell)

    cells = [Cell(seed) for seed in range(4)]
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, run, tmp_path)
    assert ran == [0, 1]
    ran.append("again")
    results = run_cells(cells, run, tmp_path)
    assert ran == [0, 1, "again", 2, 3]
    assert [result["square"] for result in results.values()] == [0, 1, 4, 9]
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert run_cells(cells, run, tmp_path) == results
    assert len(ran) == 5


def test_nothing_is_run_where_no_result_could_be_kept(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for out in (tmp_path / "mine", tmp_path / "mine" / "study"):
        with pytest.raises(UserError, match=r"--out is a folder to write into, but .*mine is a file"):
            run_cells([Cell(0)], pytest.fail, out)


def test_results_say_where_they_come_from(tmp_path):
    (result,) = run_cells([Cell(3)], square, tmp_path).values()
    assert result["seed"] == 3
    assert "numpy" in result["versions"]
    assert {"commit", "seconds", "cpu_seconds"} <= set(result)


def test_a_study_that_goes_on_with_other_versions_says_so(tmp_path, monkeypatch):
    run_cells([Cell(0)], square, tmp_path)
    run_cells([Cell(0), Cell(1)], square, tmp_path)  # of the same versions: pytest would raise a warning
    monkeypatch.setattr("sb3_plastic.studies.runner.versions", lambda: {"torch": "1.0"})
    run_cells([Cell(0)], square, tmp_path)  # nothing joins them
    with pytest.warns(UserWarning, match=r"holds 2 results of other (?s:.*)Here:(?s:.*)torch 1\.0"):
        run_cells([Cell(2)], square, tmp_path)


def tell_rules(cell):
    return {"rules": [*RULES]}


def test_processes_import_what_the_command_was_told_to_import(tmp_path, monkeypatch):
    code = "from sb3_plastic.snn.rules import RULES\nRULES['mine'] = RULES['oja']\n"
    (tmp_path / "rules_of_mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "rules_of_mine")
    ((_, told),) = LocalProcesses(2).map(tell_rules, [Cell(0)])
    assert "mine" in told["rules"]


def test_processes_give_the_results_of_one_process(tmp_path):
    cells = [Cell(seed) for seed in range(3)]
    for n_jobs in (1, 2):
        run_cells(cells, square, tmp_path / str(n_jobs), LocalProcesses(n_jobs))
    one, two = ({n: r["square"] for n, r in read_results(tmp_path / str(n)).items()} for n in (1, 2))
    assert one == two == {"toy-seed0": 0, "toy-seed1": 1, "toy-seed2": 4}


def test_a_place_is_any_object_that_maps_cells(tmp_path):
    class Backwards:
        def map(self, run, cells):
            for cell in reversed(cells):
                yield cell, run(cell)

    results = run_cells([Cell(1), Cell(2)], square, tmp_path, Backwards())
    assert [result["square"] for result in results.values()] == [1, 4]


def test_a_result_that_was_not_gathered_counts(tmp_path, capsys):
    keep(tmp_path, {"cell": "toy-seed0", "square": 7})
    assert run_cells([Cell(0)], square, tmp_path)["toy-seed0"]["square"] == 7
    assert not (tmp_path / "cells").exists()
    run_cells([Cell(0), Cell(2)], square, tmp_path, summary=lambda result: f"square {result['square']}")
    assert capsys.readouterr().out == "[2/2] toy-seed2: square 4\n"


def test_what_a_killed_process_was_writing_is_no_result(tmp_path):
    keep(tmp_path, {"cell": "toy-seed0", "square": 7})
    for content in ('{"cell": "to', '{"cell": "toy-seed0", "square": 7}'):
        (tmp_path / "cells" / ".toy-seed1.0123abcd.json").write_text(content)
        assert [*read_results(tmp_path)] == ["toy-seed0"]
    assert [*gather(tmp_path)] == ["toy-seed0"]


def test_cells_that_would_write_over_each_other_are_refused(tmp_path):
    with pytest.raises(UserError, match="Two cells have the name oja_simple"):
        run_cells([Labelled(0, "oja + simple"), Labelled(0, "oja, simple")], square, tmp_path)
    assert not [*tmp_path.iterdir()]
    ran = []
    run_cells([Labelled(0, "oja"), Labelled(0, "oja")], lambda cell: ran.append(cell) or square(cell), tmp_path)
    assert len(ran) == 1


def test_a_result_of_another_label_with_the_same_name_of_a_file_is_refused(tmp_path):
    run_cells([Labelled(0, "MLP")], square, tmp_path)
    with pytest.raises(UserError, match=r"holds the result of label='MLP' under the name MLP.*of label='MLP\*'"):
        run_cells([Labelled(1, "oja"), Labelled(0, "MLP*")], square, tmp_path)
    assert [*read_results(tmp_path)] == ["MLP"], "nothing was run"
    assert len(run_cells([Labelled(7, "MLP")], square, tmp_path)) == 1, "what is no part of the name may differ"


def good_or_bad(cell):
    """The good one goes on after the bad one has failed."""
    marker = Path(cell.label)
    if cell.seed == 1:
        while not marker.exists():
            time.sleep(0.05)
        raise RuntimeError("a bad cell")
    marker.touch()
    time.sleep(1)
    return square(cell)


def test_after_an_error_what_runs_is_finished_and_kept(tmp_path):
    cells = [Seeded(seed, str(tmp_path / "begun")) for seed in range(12)]
    with pytest.raises(RuntimeError, match="a bad cell"):
        run_cells(cells, good_or_bad, tmp_path / "out", LocalProcesses(2))
    found = read_results(tmp_path / "out")
    assert "toy-seed0" in found
    assert len(found) == 1, "the others are not begun"


def test_when_a_process_dies_all_that_ran_are_named(tmp_path, monkeypatch):
    class Dying:
        """A pool whose processes die; when a real one notices depends on which of them it was."""

        def submit(self, run, cell):
            future = Future()
            future.set_exception(BrokenProcessPool("a process died"))
            return future

        def shutdown(self, wait, cancel_futures):
            """They are dead."""

    monkeypatch.setattr("sb3_plastic.studies.runner.ProcessPoolExecutor", lambda *_: nullcontext(Dying()))
    cells = [Seeded(0), Seeded(1)]
    with pytest.raises(UserError, match="A process has died, for want of memory maybe: try fewer --jobs") as error:
        run_cells(cells, square, tmp_path / "out", LocalProcesses(2))
    assert all(str(cell) in str(error.value) for cell in cells)


def test_what_another_process_keeps_while_results_are_gathered_stays(tmp_path, monkeypatch):
    keep(tmp_path, {"cell": "a", "x": 1})

    def read_and_wait(out):
        found = read_results(out)
        (out / "cells" / "b.json").write_text('{"cell": "b", "x": 2}')  # on a file system that locks nothing
        return found

    monkeypatch.setattr(results, "read_results", read_and_wait)
    gather(tmp_path)
    monkeypatch.undo()
    assert [*read_results(tmp_path)] == ["a", "b"] == [*gather(tmp_path)]


def test_a_result_waits_until_another_process_has_gathered(tmp_path):
    keep(tmp_path, {"cell": "a", "x": 1})
    keeping = threading.Thread(target=keep, args=(tmp_path, {"cell": "b", "x": 2}))
    with results._locked(tmp_path):
        keeping.start()
        keeping.join(0.2)
        assert keeping.is_alive()
    keeping.join()
    assert [*gather(tmp_path)] == ["a", "b"]


def test_the_table_gives_back_what_was_put_in():
    rows = [
        {"cell": "a", "number": 1.5, "list": [1, [2.25]], "text": "oja + simple, recurrent", "nothing": None},
        {"cell": "b", "text": "1e-3", "quoted": 'say "1"', "true": True, "mapping": {"a": "b"}},
    ]
    assert from_csv(to_csv(rows)) == rows
    assert json.loads(json.dumps(from_csv(to_csv(rows)))) == rows


@pytest.mark.parametrize(
    "records", [[{"a": 1, "b": [2]}, {"a": 3}], [{"a": None}, {"a": 1}], [{}], [], [{"a": 1}, 2]], ids=str
)
def test_the_table_gives_records_back_whatever_they_lack(records):
    rows = [{"cell": "a", "scores": records}]
    assert from_csv(to_csv(rows)) == rows


def test_the_table_names_the_fields_of_records_once():
    assert to_csv([{"scores": [{"family": "reversed", "kept": 1.0}] * 3}]).count("kept") == 1


def test_names_of_cells_are_names_of_files():
    assert file_name("HalfCheetah-v5", "hebb + simple", "", 300, "seed0") == "HalfCheetah_v5-hebb_simple-300-seed0"


def test_results_that_are_cut_are_answered(tmp_path):
    keep(tmp_path, {"cell": "a", "square": 4})
    gather(tmp_path)
    whole = (tmp_path / "results.csv").read_text()
    for text in (whole[:-2], "nothing\nx\n", whole[:5], ""):
        (tmp_path / "results.csv").write_text(text)
        with pytest.raises(DamagedError, match=r"results\.csv is damaged"):
            read_results(tmp_path)
    (tmp_path / "results.csv").write_text(whole)
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "b.json").write_text('{"cell"')
    with pytest.raises(DamagedError, match=r"b\.json.*its cell is run again"):
        read_results(tmp_path)


def test_no_more_cells_begin_than_may_run():
    running_at_once = []

    def ended(running):
        running_at_once.append(len(running))
        return [(running[0], {})]

    cells = [Cell(seed) for seed in range(5)]
    assert [cell for cell, _ in in_turns(cells, lambda: 2, lambda cell: cell.seed, ended)] == cells
    assert running_at_once == [2, 2, 2, 2, 1]


def test_time_in_which_a_cell_waits_is_no_computing_time():
    found = timed(lambda cell: time.sleep(0.2) or {}, Cell(0))
    assert found["seconds"] >= 0.2
    assert found["cpu_seconds"] < 0.15


def test_a_result_is_that_of_the_last_run_in_the_order_of_names(tmp_path):
    for name, x in (("b", 1), ("b", 2), ("a", 3)):
        keep(tmp_path, {"cell": name, "x": x})
        assert read_results(tmp_path)[name]["x"] == x, "what was not gathered is newer than the table"
        assert gather(tmp_path)[name]["x"] == x
    keep(tmp_path, {"cell": "0", "x": 4})
    assert [*read_results(tmp_path)] == ["0", "a", "b"]


def test_the_origin_of_results_names_each_commit_and_each_set_of_versions_once():
    found = [{"commit": "b", "versions": {"torch": "2", "numpy": "1"}}, {"commit": "a"}, {"commit": "b"}, {}]
    assert origin(found) == "commits  a, b, not recorded\nversions torch 2, numpy 1"


def test_where_there_are_no_file_locks_a_study_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("sb3_plastic.studies.locks.find_spec", lambda name: None)  # as on Windows
    with pytest.raises(UserError, match="locks that Windows lacks"), alone(tmp_path / "agent"):
        pass
    with pytest.raises(UserError, match="locks that Windows lacks"), results._locked(tmp_path):
        pass
