"""Reports of evaluations, on synthetic results of which the truth is known."""

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from evaluation_helpers import make_trace, write_results
from PIL import Image

from sb3_plastic import cli
from sb3_plastic.evaluation.reading import read_records
from sb3_plastic.evaluation.records import PLASTICITY
from sb3_plastic.evaluation.scores import NET
from sb3_plastic.report import ReportError, pictures, read_results, stats, write_report
from sb3_plastic.report.claims import adapts_in, claims, few_seeds
from sb3_plastic.report.curves import TIME, Onset, _kept, _onset, curve, event_curve, read_onsets
from sb3_plastic.report.document import Document, new_figure
from sb3_plastic.report.figures import (
    SHAM_TITLE,
    adaptation,
    agents,
    fast_weights,
    gain,
    gallery,
    lifetime,
    looks,
    profiles,
    recovery,
    scenario_gains,
    survival,
)
from sb3_plastic.report.heat_map import heat_map
from sb3_plastic.report.page import _Section, compose, missing_controls
from sb3_plastic.report.scores import Estimate, against, cells, controls, headline, met_onset, other_protocols
from sb3_plastic.report.verdict import FIGURES, key_figures, verdict

# label: what it is like. The static one is better throughout, but does not adapt; the rigid one is plastic in vain.
AGENTS = {
    "adapting": dict(adapts=0.8, level=5.0, falls=True),
    "static": dict(adapts=0.0, level=7.0, plastic=False),
    "rigid": dict(adapts=0.0, level=5.0),
    "oracle": dict(adapts=0.0, level=9.0, plastic=False),
}
ROBOT = "HalfCheetah"


def edit_summary(folder, **settings):
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    for name, value in settings.items():
        part = "versions" if name in summary["versions"] else "settings"
        summary[part][name] = value
    path.write_text(json.dumps(summary))


def edit_records(folder, edited):
    records = pd.read_csv(folder / "records.csv", keep_default_na=False)
    edited(records).to_csv(folder / "records.csv", index=False)


def moves_an_ant(folder):
    edit_records(folder, lambda r: r.assign(robot="Ant", env_id="sb3_plastic/PerturbedAnt-v0"))


def split_in_protocols(folder, other):
    edit_records(folder, lambda r: r[r["protocol"].isin(["static", "onset"])])
    edit_records(other, lambda r: r[r["protocol"] == "removal"])


def evaluation(folder, label, seed):
    write_results(folder, label, seed, sham=True, **AGENTS[label])
    edit_summary(folder, model_sha256=hashlib.sha256(folder.name.encode()).hexdigest())
    return folder


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """Three trained seeds of each agent, in a folder."""
    root = tmp_path_factory.mktemp("evaluations")
    for label in AGENTS:
        for seed in range(3):
            evaluation(root / f"{label}_{seed}", label, seed)
    return root


@pytest.fixture(scope="module")
def results(evaluations):
    return read_results([evaluations])


@pytest.fixture(scope="module")
def onsets(results):
    return read_onsets(results, ROBOT)


@pytest.fixture(scope="module")
def report(evaluations, tmp_path_factory):
    """The report of all of them, through the command line."""
    out = tmp_path_factory.mktemp("out") / "report"
    command = [
        sys.executable,
        "-m",
        "sb3_plastic.cli",
        "report",
        str(evaluations),
        "--out",
        str(out),
        "--title",
        "T & t",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["wrote", str(out / "report.md"), "wrote", str(out / "report.html")]
    assert done.stderr == ""
    return out


@pytest.fixture
def pair(evaluations, tmp_path):
    """Two folders that a test may spoil."""
    return [shutil.copytree(evaluations / name, tmp_path / name) for name in ("adapting_0", "static_0")]


@pytest.fixture
def brief(pair):
    """A folder of the static policy with one perturbation from the start: a report of few figures."""
    kept = ["nda-v1/nominal", "nda-v1/novel/slope"]
    edit_records(pair[1], lambda r: r[r["scenario"].isin(kept) & (r["protocol"] == "static")])
    return pair[1]


class TestThePage:
    def test_every_figure_is_there_to_be_printed_and_is_shown(self, report):
        names = {path.stem for path in (report / "figures").glob("*.svg")}
        robot = {
            *(
                "agents",
                "gain",
                "raw-gain",
                "severity",
                "profiles",
                "survival",
                "recovery",
                "gallery",
                "scenario-gains",
            ),
            *(f"{kind}-{label}" for kind in ("controls", "fast-weights") for label in ("adapting", "rigid")),
        }
        assert names == {f"halfcheetah-{name}" for name in robot}
        text = (report / "report.md").read_text()
        for name in names:
            assert (report / "figures" / f"{name}.png").stat().st_size > 10_000
            assert f"](figures/{name}.svg)" in text

    def test_labels_that_differ_by_signs_or_capitals_have_figures_of_their_own(self, results, tmp_path):
        document = Document("Labels")
        section = _Section(document, results, "HalfCheetah")
        for label in ("eta=.1", "eta .1", "Eta .1"):
            assert section._figure("controls", new_figure(2, 2), label)
        document.write(tmp_path)
        names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
        assert names == {f"halfcheetah-controls-eta--1{more}" for more in ("", "-2", "-3")}

    def test_html_needs_no_other_file(self, report):
        text = (report / "report.html").read_text()
        assert "<title>T &amp; t</title>" in text
        sources = re.findall(r'src="(.{0,30})', text)
        assert Counter(source.split(";")[0] for source in sources) == {"data:image/svg+xml": 13, "data:image/png": 2}
        assert not re.findall(r"<(script|link|iframe)|https?://", text)

    def test_the_robot_is_seen_whole_and_with_what_is_damaged_in_red(self, report):
        found = [
            np.asarray(Image.open(path).convert("RGB")).astype(int)
            for path in sorted((report / "figures").glob("halfcheetah-robot-*.png"))
        ]
        red = [(p[..., 0] > 60 + 2.0 * p[..., 1:].max(-1)).mean() for p in found]
        assert red[0] == 0
        assert len(red) > 1
        assert min(red[1:]) > 0.0005
        text = (report / "report.md").read_text()
        assert "From left to right: HalfCheetah, nothing perturbed; " in text
        assert text.index("halfcheetah-robot-1.png") < text.index("halfcheetah-gallery.svg") < text.index("how well")

    def test_where_nothing_can_be_drawn_a_line_says_so(self, brief, tmp_path, monkeypatch):
        def fails(*_):
            raise RuntimeError("no renderer")

        monkeypatch.setattr(pictures, "_drawn", fails)
        text = write_report(brief, tmp_path / "out", formats=["md"])[0].read_text()
        assert "There is no picture, since nothing can be drawn here (RuntimeError)." in text
        assert "robot-0" not in text

    def test_it_says_where_it_comes_from_and_which_simulations_broke(self, report, results):
        text = (report / "report.md").read_text()
        assert "| adapting | 0 | sb3_plastic/PerturbedHalfCheetah-v0 |" in text
        assert "| HalfCheetah | adapting | 2 | onset | nda-v1/novel/slope/onset | zeroed_at_onset | 1 |" in text
        assert len(results.unstable) == 18  # of three seeds: 2 static, 4 onset cells, one episode each
        assert not results.records["unstable"].any()
        slope = results.of(ROBOT, label="adapting", scenario="nda-v1/novel/slope")
        assert len(slope) == 3 * 3 * 2

    def test_it_starts_with_a_verdict_and_three_figures(self, report, results):
        text = (report / "report.md").read_text()
        assert text.index("## Verdict") < text.index("Suite `nda-v1`") < text.index("## What this says")
        sentence = verdict(results)
        assert f"**{sentence}**" in text
        assert sentence.startswith("Adaptation is shown for adapting; adaptation is not shown for rigid")
        assert sentence.endswith(
            "nothing is said of adaptation in static and oracle, not run with frozen fast weights."
        )
        table = key_figures(results).set_index("agent")
        net = controls(results, ROBOT).set_index(["agent", "split"])["net gain"]
        assert table.loc["rigid", "net adaptation gain"] == net["rigid", "novel"] == "0.00 [0.00, 0.00]"
        assert table.loc["static", "net adaptation gain"] == "–"  # noqa: RUF001
        assert "| sham | the control that freezes" in text

    def test_few_seeds_make_an_open_verdict(self, evaluations):
        one = read_results([evaluations / "adapting_0", evaluations / "static_0"])
        assert verdict(one).startswith("Whether adapting adapts is open: there are fewer than 3 trained seeds")


class TestWhatIsSaid:
    def test_who_adapts_is_recognised_and_who_is_just_better_is_not(self, results):
        adapting, rigid, others = claims(results, ROBOT)
        assert adapting.startswith("adapting: the net adaptation gain is 0.")
        assert "interval is above 0 in 14 of 14 scenarios, below 0 in 0" in adapting
        assert "late above early) is shown in interp, extrap1, extrap2, novel" in adapting
        assert "interval is above 0 in 0 of 14 scenarios, below 0 in 0" in rigid
        assert (
            "No adaptation (net gain above 0, and late above early) is shown in interp, extrap1, extrap2, novel."
            in rigid
        )
        assert others.startswith("static, oracle: not run with frozen fast weights, so nothing can be said")
        assert "hold the true mean in 75 % with 3 seeds, 83 % with 5 seeds" in few_seeds(results)

    def test_who_needs_its_plasticity_to_walk_is_not_taken_to_adapt(self, tmp_path):
        for seed in range(3):
            write_results(tmp_path / str(seed), "needy", seed, adapts=0, needs=0.5, episodes=2, sham=True)
            edit_summary(tmp_path / str(seed), model_sha256=f"{seed}" * 64)
        needy = read_results([tmp_path])
        raw = controls(needy, ROBOT).set_index("split")["raw gain"]
        assert all(float(value.split("[")[1].split(",")[0]) > 0.1 for value in raw)  # the gap to the frozen one opens
        (said,) = claims(needy, ROBOT)
        assert "interval is above 0 in 0 of 14 scenarios" in said
        assert "No adaptation (net gain above 0, and late above early) is shown in interp" in said
        assert "It needs its plasticity to move" in said

    def test_without_a_sham_there_is_no_claim(self, pair, tmp_path):
        edit_records(pair[0], lambda r: r[r["split"] != "sham"])
        for path in (pair[0] / "traces").glob("*sham*"):
            path.unlink()
        text = write_report(pair[:1], tmp_path / "out", formats=["md"])[0].read_text()
        assert "**Whether adapting adapts is open: there is no sham with these onsets, so" in text
        assert "adapting: no claim. There is no sham with these onsets" in text
        assert "there is no net gain to show" in text
        assert "(figures/halfcheetah-raw-gain.svg)" in text
        assert "(figures/halfcheetah-gain.svg)" not in text

    def test_one_seed_makes_no_interval_and_no_claim(self, evaluations):
        one = read_results([evaluations / "adapting_0", evaluations / "static_0", evaluations / "oracle_0"])
        assert claims(one, ROBOT)[0].startswith("adapting: 1 trained seed, too few for a claim.")
        assert "there is one trained seed: no interval, and no claim" in few_seeds(one)
        assert "true mean" not in few_seeds(one)
        tables = [headline(one, ROBOT, "onset"), controls(one, ROBOT), against(one, ROBOT, "onset")]
        assert all("[" not in table.to_csv() for table in tables)
        assert set(against(one, ROBOT, "onset")["gap closed"]) == {""}
        band = curve([onset for onset in read_onsets(one, ROBOT) if onset.label == "adapting"], lambda o: o.gain)
        assert np.isnan(band.low).all()
        assert (band.mean[band.time > 0] > 0).all()

    def test_who_did_not_move_before_any_onset_has_no_gain(self, pair):
        records = pd.read_csv(pair[0] / "records.csv")
        records[list(NET)] = np.nan
        records["forward_reward"] *= 0.01
        records.to_csv(pair[0] / "records.csv", index=False)
        found = read_results(pair)
        assert claims(found, ROBOT)[0].startswith(
            "adapting: nothing can be said of adaptation, since it stood still or had fallen before each onset"
        )
        assert controls(found, ROBOT)["net gain"].tolist() == ["–"] * 5  # noqa: RUF001
        assert profiles(found, ROBOT, looks(found, ROBOT)) is not None  # of the other
        still = [
            dataclasses.replace(o, gain=np.full_like(o.gain, np.nan), net=np.full_like(o.gain, np.nan))
            for o in read_onsets(found, ROBOT)
            if o.gain is not None
        ]
        assert gain(still, looks(found, ROBOT)) is None

    @pytest.mark.parametrize(
        ("edited", "said"),
        [
            ({"forward_reward": -3.0}, "earned less than 0, of which no gain is a share"),
            ({"forward_reward": 3.0, "onset": 60}, "met each onset before step 100"),
        ],
    )
    def test_who_has_no_gain_for_another_reason_is_not_said_to_have_stood_still(self, pair, tmp_path, edited, said):
        edit_records(pair[0], lambda r: r.assign(**edited, **dict.fromkeys(NET, np.nan)))
        text = write_report(pair[:1], tmp_path / "out", formats=["md"])[0].read_text()
        assert f"**Nothing can be said of adaptation in adapting, which {said}" in text
        assert f"adapting: nothing can be said of adaptation, since it {said}" in text
        assert "stood still" not in text

    def test_who_met_no_onset_is_not_said_to_have_stood_still(self, results):
        records = results.records[results.records["protocol"] != "onset"]
        frozen = records[(records["protocol"] == "removal") & records["label"].isin(["adapting", "rigid"])]
        records = pd.concat([records, frozen.assign(control="frozen_at_onset")])
        none = dataclasses.replace(results, records=records)
        assert "nothing is said of adaptation in adapting and rigid, not run with an onset" in verdict(none).lower()
        assert claims(none, ROBOT)[0].startswith("adapting: it was not run with an onset")

    def test_who_never_moved_is_not_said_to_have_too_few_seeds(self, results):
        records = results.records.copy()
        records.loc[records["label"] == "adapting", ["adaptation_gain", "net"]] = np.nan
        still = dataclasses.replace(results, records=records)
        assert "othing can be said of adaptation in adapting, which stood still or had fallen" in verdict(still)
        assert any(
            "adapting: nothing can be said of adaptation, since it stood still or had fallen before each onset" in claim
            for claim in claims(still, "HalfCheetah")
        )

    def test_a_split_in_which_two_seeds_have_a_gain_shows_nothing(self, results):
        assert adapts_in(results, "HalfCheetah", "adapting")
        records = results.records.copy()
        for split in records["split"].unique():
            records.loc[(records["split"] == split) & (records["train_seed"] == 2), "net"] = np.nan
        few = dataclasses.replace(results, records=records)
        assert not adapts_in(few, "HalfCheetah", "adapting")

    def test_two_seeds_are_too_few_for_a_claim(self, evaluations):
        two = read_results([evaluations / f"adapting_{seed}" for seed in range(2)])
        (said,) = claims(two, ROBOT)
        assert said.startswith("adapting: 2 trained seeds, too few for a claim. The net adaptation gain is 0.")
        assert "one below 0 does not show the opposite" in few_seeds(two)

    def test_a_constant_advantage_is_not_a_gap_that_opens(self, evaluations, tmp_path):
        folders = [shutil.copytree(evaluations / f"adapting_{seed}", tmp_path / str(seed)) for seed in range(3)]
        for i, folder in enumerate(folders):
            records = pd.read_csv(folder / "records.csv")
            records.loc[records["split"] != "sham", list(NET)] = 0.3 + 0.01 * i
            records.to_csv(folder / "records.csv", index=False)
        (said,) = claims(read_results(folders), ROBOT)
        assert "interval is above 0 in 14 of 14" in said
        assert "No adaptation (net gain above 0, and late above early) is shown in interp" in said


class TestTables:
    def test_the_headline_is_the_mean_of_each_trained_seed_first(self, evaluations, results):
        table = headline(results, ROBOT, "static").set_index(["split", "agent"])
        row = table.loc["extrap2", "adapting"]
        records = read_records([evaluations / f"adapting_{seed}" for seed in range(3)])
        chosen = records[(records["protocol"] == "static") & (records["control"] == "intact")]
        chosen = chosen[(chosen["split"] == "extrap2") & (chosen["unstable"] == 0)]
        of_each = chosen.groupby(["train_seed", "scenario"])["forward_reward"].mean().unstack("scenario")
        nominal = records[(records["split"] == "nominal") & (records["control"] == "intact")]
        scores = of_each.div(nominal.groupby("train_seed")["forward_reward"].mean(), axis=0).to_numpy()
        assert (row["seeds"], row["scenarios"]) == (3, 4)
        assert row["relative forward, IQM"].startswith(f"{stats.iqm(scores):.2f} [")
        assert row["worst"] == pytest.approx(scores.min())
        assert row["fallen"] == 0.25
        assert row["survived"] == 0.75
        assert table.loc[("nominal", "static"), "relative forward, IQM"] == "1.00 [1.00, 1.00]"

    def test_an_unperturbed_fall_does_not_make_a_model_look_better_perturbed(self, pair):
        # Unperturbed, one of four episodes is nearly nothing: a mean of ratios would be far above 1.
        records = pd.read_csv(pair[1] / "records.csv")
        records = records[records["split"].isin(["nominal", "id"])]
        records["forward_reward"] = 1000.0
        records.loc[records["split"] == "nominal", "forward_reward"] = [60.0, 1000.0, 1000.0, 1000.0]
        records.to_csv(pair[1] / "records.csv", index=False)
        table = headline(read_results(pair[1:]), ROBOT, "static").set_index("split")
        assert table.loc["id", "relative forward, IQM"] == f"{4000 / 3060:.2f}"

    def test_the_gap_closed_is_stated_where_there_is_head_room(self, results):
        table = against(results, ROBOT, "static").set_index(["split", "agent"])
        means = results.of(ROBOT, protocol="static", control="intact", split="extrap1")
        means = means.groupby(["label", "train_seed", "scenario"])["forward_reward"].mean().groupby("label").mean()
        closed = (means["adapting"] - means["static"]) / (means["oracle"] - means["static"])
        assert table.loc[("extrap1", "adapting"), "gap closed"].startswith(f"{closed:.2f} [")
        assert table.loc[("extrap1", "oracle"), "gap closed"] == ""
        assert table.loc[("extrap1", "oracle"), "P(better than static)"].startswith("1.00")

    def test_no_gap_is_stated_without_head_room(self, evaluations):
        folders = [evaluations / f"{label}_{seed}" for label in ("static", "rigid") for seed in range(3)]
        table = against(read_results(folders, oracle="rigid", baseline="static"), ROBOT, "static")
        assert set(table["gap closed"]) == {""}

    def test_controls_stand_beside_the_intact_model(self, results):
        table = controls(results, ROBOT).set_index(["agent", "split"])
        row = table.loc["adapting", "extrap2"]
        assert row["plateau, intact"] == pytest.approx(row["plateau, zeroed"])
        assert row["plateau, intact"] > row["plateau, frozen"] + 0.2
        assert table.loc[("rigid", "extrap2"), "net gain"] == "0.00 [0.00, 0.00]"

    def test_the_sham_is_no_scenario(self, results, onsets):
        assert set(results.sham["scenario"]) == {"nda-v1/nominal/sham"}
        assert not results.records["scenario"].isin(results.sham["scenario"]).any()
        tables = [table(results, ROBOT, p) for table in (headline, against) for p in ("static", "onset")]
        assert all("sham" not in set(table["split"]) for table in tables)
        row = controls(results, ROBOT).set_index(["agent", "split"]).loc["rigid", "sham"]
        assert (row["net gain"], row["raw gain"]) == ("–", "0.00 [0.00, 0.00]")  # noqa: RUF001
        drawn = [agents, gallery, scenario_gains]
        titles = [axes.get_title() for draw in drawn for axes in draw(onsets, looks(results, ROBOT)).axes]
        assert not [title for title in titles if "sham" in title]
        assert gain(onsets, looks(results, ROBOT)).axes[4].get_title() == SHAM_TITLE

    def test_who_broke_while_frozen_has_no_gain(self, pair):
        records = pd.read_csv(pair[0] / "records.csv", keep_default_na=False)
        broken = (records["scenario"] == "nda-v1/extrap1/mass/onset") & (records["control"] == "frozen_at_onset")
        records.loc[broken & (records["episode"] == 0), "unstable"] = 1
        records.to_csv(pair[0] / "records.csv", index=False)
        found = read_results(pair).of(ROBOT, scenario="nda-v1/extrap1/mass/onset", control="intact", label="adapting")
        found = found[found["protocol"] == "onset"].set_index("episode")
        assert found[["adaptation_gain", "net"]].isna().all(axis=1).tolist() == [True, False, False, False]

    def test_other_protocols_and_every_cell_are_listed(self, results):
        (row,) = other_protocols(results, ROBOT).query("agent == 'adapting'").to_dict("records")
        assert (row["protocol"], row["measure"]) == ("removal", "after-effect")
        table = cells(results, ROBOT)
        assert set(table.loc[table["split"] == "sham", "control"]) == set(PLASTICITY)
        table = table[table["split"] != "sham"]
        keys = ["protocol", "scenario", "label", "control"]
        assert len(table) == len(results.records.drop_duplicates(keys))
        assert table["episodes"].sum() == len(results.records)

    def test_estimates_without_value_or_interval_say_no_more(self):
        assert str(Estimate(0.123)) == "0.12"
        assert str(Estimate(123.4, 99.9, 200.0)) == "123 [100, 200]"
        assert str(Estimate(float("nan"))) == "–"  # noqa: RUF001
        assert not Estimate(1.0).above_zero
        assert not Estimate(-1.0).below_zero

    def test_a_life_is_judged_by_its_last_third_against_its_first(self, results):
        rows = results.of(ROBOT, label="static", protocol="static", scenario="nda-v1/id", control="intact")
        life = rows.assign(protocol="lifetime", control="carried", forward_reward=rows["episode"] * 100.0)
        (row,) = other_protocols(dataclasses.replace(results, records=life), ROBOT).to_dict("records")
        assert (row["protocol"], row["control"], row["value"]) == (
            "lifetime",
            "carried",
            "200 [200, 200]",
        )  # 2, 3 - 0, 1

    def test_who_fell_in_the_step_before_the_onset_has_not_met_it(self):
        onset = pd.DataFrame({"onset": [300, 300, -1], "length": [300, 301, 1000]})
        assert met_onset(onset).index.tolist() == [1]


class TestCurves:
    def test_the_gallery_has_a_panel_for_each_scenario_with_the_frozen_model_beside_it(self, results, onsets):
        axes = [a for a in gallery(onsets, looks(results, ROBOT)).axes if a.get_visible()]
        assert len(axes) == 14
        assert {line.get_label() for line in axes[0].lines if "_" not in line.get_label()} == {
            *("adapting", "rigid", "static", "oracle", "adapting, frozen", "rigid, frozen")
        }

    def test_the_gain_is_that_of_the_policy_that_was_made(self, results, onsets):
        (found,) = [
            o for o in onsets if (o.label, o.train_seed, o.scenario) == ("adapting", 0, "nda-v1/extrap1/mass/onset")
        ]
        t = np.arange(25)
        assert TIME[[0, 3, 4]].tolist() == [-87.5, -12.5, 12.5]
        assert np.abs(found.gain[:4]).max() == 0  # the same up to the onset, bit for bit
        # It loses 35 %, of which it regains 80 % with a time constant of 60 steps; its level before is noisy.
        assert found.gain[4] == pytest.approx((0.35 * 0.8 * (1 - np.exp(-t / 60))).mean(), rel=0.03)
        assert found.fast_weights["intact"].shape == (24, 2)
        assert found.episodes == 4

    def test_what_is_plastic_has_the_name_that_the_evaluation_noted(self, onsets):
        def lines(*names):
            drawn = fast_weights(onsets, "adapting", names)
            return {text.get_text().split(",")[0] for text in drawn.legends[0].get_texts()}

        assert lines() == {"layer 0", "layer 1"}  # earlier evaluations noted none
        assert lines("motors", "wires") == {"motors", "wires"}

    def test_episodes_that_broke_under_any_control_are_left_out(self, results, onsets):
        episodes = {o.episodes for o in onsets if "slope" in o.scenario and o.label == "adapting"}
        assert episodes == {3}

    def test_events_are_estimated_for_each_seed_and_right_censored(self):
        grid = np.array([0.0, 1.0, 2.0, 3.0])
        seed_0 = np.array([1.0, 2.0]), np.array([True, False])  # half after 1, nothing known after 2
        # One seed alone would let the curve rise again at 3.
        seed_1 = np.array([3.0, 3.0]), np.array([False, False])
        found = event_curve({0: seed_0, 1: seed_1}, grid)
        assert found.mean[:3].tolist() == [1, 0.75, 0.75]
        assert np.isnan(found.mean[3])

    def test_lines_are_broken_at_the_onset(self, results, onsets):
        axes = gain(onsets, looks(results, ROBOT)).axes[0]
        spans = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) > 2]
        assert all((x < 0).all() or (x > 0).all() for x in spans)

    def test_where_nobody_falls_there_is_no_survival_curve(self, evaluations):
        found = read_results([evaluations / "static_0"])
        assert survival(found, ROBOT, looks(found, ROBOT)) is None

    def test_who_fell_before_the_onset_did_not_fall_after_it(self, results):
        records = results.records.copy()
        of_onset = (records["protocol"] == "onset") & (records["label"] == "adapting")
        records.loc[of_onset, ["onset", "length", "fell"]] = -1, 100, 1
        early = dataclasses.replace(results, records=records)
        assert survival(early, ROBOT, looks(early, ROBOT)) is None
        assert key_figures(early).set_index("agent").loc["adapting", "fallen after an onset"] == "–"  # noqa: RUF001

    def test_where_all_have_fallen_nobody_stands_from_then_on(self):
        all_fall = np.array([50.0, 50.0]), np.array([True, True])
        assert event_curve({0: all_fall}, np.array([0.0, 50.0, 200.0])).mean.tolist() == [1, 0, 0]


class TestRobots:
    def test_robots_stand_apart(self, pair):
        moves_an_ant(pair[1])
        found = read_results(pair)
        assert found.groups == ["HalfCheetah", "Ant"]
        assert found.labels_of("Ant") == ["static"]
        assert set(headline(found, "HalfCheetah", "static")["agent"]) == {"adapting"}

    def test_missing_controls_are_named(self, pair):
        edit_records(pair[0], lambda r: r[r["control"] != "off"])
        for path in (pair[0] / "traces").glob("*__off.npz"):
            path.unlink()
        found = read_results(pair)
        assert missing_controls(found, ROBOT) == ["**adapting** was not run with: plasticity off."]
        assert "plateau, off" not in controls(found, ROBOT)

    def test_a_static_policy_alone_has_a_report_of_the_asked_format(self, pair, tmp_path):
        assert cli.main(["report", str(pair[1]), "--out", str(tmp_path / "out"), "--format", "md"]) == 0
        text = (tmp_path / "out" / "report.md").read_text()
        assert "there is no adaptation gain to show" in text
        assert "No oracle" in text
        assert "No intact model fell after an onset" in text
        assert not (tmp_path / "out" / "report.html").exists()
        with pytest.raises(ValueError, match="Formats of a document are md and html, not pdf"):
            write_report("nowhere", tmp_path, formats=["pdf"])

    def test_a_page_alone_has_no_other_files(self, brief, tmp_path):
        write_report(brief, tmp_path / "page", formats="html")
        assert [path.name for path in (tmp_path / "page").iterdir()] == ["report.html"]

    def test_a_terminal_sees_how_long_it_will_take(self, brief, tmp_path, monkeypatch, capsys):
        words = ["report", str(brief), "--out", str(tmp_path / "out"), "--format", "md"]
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert cli.main(words) == 0
        assert re.search(r"report: 100%.* 6/6 \[\d\d:\d\d<\d\d:\d\d", capsys.readouterr().err)
        assert cli.main([*words, "--no-progress"]) == 0
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("sb3_plastic.progress.find_spec", lambda name: None)  # without tqdm, no bar and no error
        assert cli.main(words) == 0
        assert capsys.readouterr().err == ""


class TestErrors:
    def refuse(self, folders, capsys, message):
        assert cli.main(["report", *map(str, folders), "--out", str(folders[0] / "out")]) == 2
        assert re.search(message, capsys.readouterr().err), message
        assert not (folders[0] / "out").exists()

    def test_a_folder_that_holds_no_results(self, tmp_path, capsys):
        (tmp_path / "model.zip").touch()
        self.refuse([tmp_path], capsys, "no results folder of `sb3-plastic evaluate`.*It has only model.zip")
        self.refuse([tmp_path / "model.zip"], capsys, "is no folder")

    @pytest.mark.parametrize("name", ["records.csv", "summary.json"])
    def test_an_unfinished_evaluation(self, pair, capsys, name):
        (pair[0] / name).unlink()
        self.refuse(pair, capsys, f"unfinished evaluation: {name} not there.*goes on where it stopped")

    @pytest.mark.parametrize(("name", "value"), [("suite", "other-v1"), ("tier", "full"), ("mujoco", "3.0.0")])
    def test_results_that_cannot_be_compared(self, pair, capsys, name, value):
        edit_summary(pair[1], **{name: value})
        self.refuse(pair, capsys, f"Different (settings|versions), {name}: .*cannot be compared")

    def test_episodes_of_other_lengths(self, pair, capsys):
        records = pd.read_csv(pair[1] / "records.csv")
        records.assign(steps=records.steps // 2).to_csv(pair[1] / "records.csv", index=False)
        self.refuse(pair, capsys, r"nda-v1/\S+ \(static\) have other steps: \d+ in .*, \d+ in .*write a report of each")

    def test_scenarios_that_share_a_name_alone(self, pair, capsys):
        for folder, digest in zip(pair, ("1234", "1234"), strict=True):
            edit_summary(folder, scenarios_sha256={"static nda-v1/interp/mass": digest})
        assert read_results(pair).labels == ("adapting", "static")
        edit_summary(pair[1], scenarios_sha256={"static nda-v1/interp/mass": "5678"})
        self.refuse(pair, capsys, r"nda-v1/interp/mass \(static\) have other perturbations in .*cannot be compared")

    def test_episodes_of_one_seed_that_have_drawn_other_values(self, pair, capsys):
        edit_records(
            pair[1], lambda r: r.assign(values=r["values"].mask(r["scenario"] == "nda-v1/interp/mass", "mass=9"))
        )
        self.refuse(pair, capsys, r"nda-v1/interp/mass \(static\) with seed \d+ have drawn other values: .* mass=9 in ")

    def test_oracles_that_have_to_be_told_apart(self, tmp_path, capsys):
        folders = [tmp_path / label for label in ("oracle-a", "oracle-b")]
        for folder in folders:
            write_results(folder, folder.name, 0, sham=True, **AGENTS["oracle"])
            edit_summary(folder, model_sha256=hashlib.sha256(folder.name.encode()).hexdigest())
        self.refuse(folders, capsys, "several oracles, oracle-a, oracle-b: name one with --oracle")
        with pytest.raises(ReportError, match="'oracle-a' is the oracle, and cannot be the baseline"):
            read_results(folders, oracle="oracle-a", baseline="oracle-a")

    def test_results_below_results_count_and_the_settings_of_other_programs_do_not(self, pair):
        moved = pair[1].rename(pair[0] / "static_0")
        for other in (pair[0] / ".vscode", pair[0] / "editor"):
            other.mkdir()
            (other / "settings.json").write_text('{"editor.rulers": [120], // of another program\n}')
        assert read_results([pair[0]]).labels == ("adapting", "static")
        shutil.rmtree(moved)
        assert read_results([pair[0]]).labels == ("adapting",)

    def test_a_model_that_is_there_twice(self, pair, capsys):
        self.refuse([*pair, pair[0]], capsys, "adapting_0 is named twice")
        self.refuse([*pair, pair[0].parent], capsys, "adapting_0 is named twice")
        digest = json.loads((pair[0] / "summary.json").read_text())["settings"]["model_sha256"]
        edit_summary(pair[1], model_sha256=digest)
        self.refuse(pair, capsys, "the same model file.*counted as two trained models")

    def test_one_model_may_be_there_with_other_protocols(self, pair):
        other = shutil.copytree(pair[0], pair[0].with_name("other"))
        split_in_protocols(pair[0], other)
        found = read_results([other, pair[0]])
        assert found.folders == {(ROBOT, "adapting", 0): [pair[0], other]}
        assert found.records["protocol"].unique().tolist() == ["static", "onset", "removal"]

    def test_two_models_with_the_same_label_and_seed(self, pair, capsys):
        other = shutil.copytree(pair[0], pair[0].with_name("other"))
        edit_summary(other, model_sha256="f" * 64)
        self.refuse([pair[0], other], capsys, "counted as one trained model.*--train-seed")

    def test_two_models_with_the_same_label_and_seed_under_other_protocols(self, pair, capsys):
        other = shutil.copytree(pair[0], pair[0].with_name("other"))
        edit_summary(other, model_sha256="f" * 64)
        split_in_protocols(pair[0], other)
        self.refuse([pair[0], other], capsys, "two model files, .*counted as one trained model")

    def test_the_label_that_was_run_over_a_life_is_static_still(self, pair):
        life = dict(protocol="lifetime", control="reset")
        edit_records(pair[1], lambda r: pd.concat([r, r[r["protocol"] == "removal"].assign(**life)]))
        assert read_results(pair).baseline == "static"

    def test_results_without_nominal_episodes(self, pair, capsys):
        edit_records(pair[0], lambda r: r[r["split"] != "nominal"])
        self.refuse(pair, capsys, "No nominal episodes of 'adapting', seed 0")

    @pytest.mark.parametrize("option", ["--baseline", "--oracle"])
    def test_a_label_that_is_not_there(self, option, pair, capsys):
        assert cli.main(["report", *map(str, pair), "--out", str(pair[0] / "out"), option, "statik"]) == 2
        assert re.search(rf"{option} 'statik'.*There are adapting, static", capsys.readouterr().err)

    def test_one_label_in_two_environments(self, pair, capsys):
        other = dict(label="adapting", env_id="sb3_plastic/PerturbedHalfCheetahLatent-v0")
        edit_records(pair[1], lambda r: r.assign(**other))
        self.refuse(pair, capsys, "several environments of HalfCheetah.*its own --label")


def test_a_report_does_not_wait_for_torch(brief, tmp_path):
    command = ["-X", "importtime", "-m", "sb3_plastic.cli", "report", str(brief), "--out", str(tmp_path / "report")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sb3_plastic.report.figures" in imported
    assert not {"torch", "stable_baselines3"} & imported


def test_key_figures_are_those_of_the_scenarios_with_an_onset(results):
    row = key_figures(results).set_index("agent").loc["adapting"]
    onset = results.of(ROBOT, protocol="onset", control="intact", label="adapting")
    scores = onset.groupby(["train_seed", "scenario"])["relative"].mean().unstack().to_numpy()
    assert row["relative forward reward, onset"].startswith(f"{stats.iqm(scores):.2f} [")
    assert row["trained seeds"] == 3
    assert row["fallen after an onset"].startswith("0.26 [")  # a fourth; of the slope, where one broke, a third


def test_key_figures_leave_out_what_no_agent_has(evaluations, brief):
    static = key_figures(read_results([evaluations / "static_0"]))
    assert [*static.columns] == ["robot", "agent", "trained seeds", *FIGURES[::2]]
    text = compose(read_results([brief])).markdown()  # nothing with an onset
    assert "|" not in text[text.index("## Verdict") : text.index("Suite `nda-v1`")]


def test_a_verdict_on_several_robots_names_them(pair):
    moves_an_ant(pair[1])
    said = verdict(read_results(pair))
    assert "adapting (HalfCheetah)" in said
    assert "static (Ant)" in said


def test_who_needs_its_plasticity_to_move_and_adapts_is_not_said_just_to_need_it(tmp_path):
    for seed in range(3):
        write_results(tmp_path / str(seed), "both", seed, adapts=0.8, needs=0.5, episodes=2, sham=True)
        edit_summary(tmp_path / str(seed), model_sha256=f"{seed}" * 64)
    (said,) = claims(read_results([tmp_path]), ROBOT)
    assert "Its interval is above 0 in 14 of 14" in said
    assert "needs its plasticity to move" not in said


def test_a_difference_from_the_baseline_is_what_the_agent_has_more(results):
    table = against(results, ROBOT, "static").set_index(["split", "agent"])["forward reward minus static"]
    assert float(table["extrap1", "rigid"].split()[0]) < 0 < float(table["extrap1", "oracle"].split()[0])


def test_cvar_is_over_all_seeds_and_scenarios(results):
    records = results.of(ROBOT, protocol="static", control="intact", label="static", split="extrap2")
    number = records.groupby(["train_seed", "scenario"]).ngroup()  # of 12, of which a tenth, rounded up, is two
    row = headline(dataclasses.replace(results, records=records.assign(relative=number)), ROBOT, "static").iloc[0]
    assert (row["worst"], row["CVaR10"]) == (0, 0.5)


def lines_of(axes):
    """By label, the last part of each line: that from the onset on."""
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
    names = {line.get_color(): line.get_label() for line in curves if not line.get_label().startswith("_")}
    return {names[line.get_color()]: line for line in curves}


def test_each_control_is_drawn_under_its_own_name(results, onsets):
    axes = adaptation(onsets, "adapting", "oracle").axes
    (hard,) = (a for a in axes if a.get_title() == "extrap2")
    ends = {name: line.get_ydata()[-1] for name, line in lines_of(hard).items()}
    assert set(ends) == {"intact", "frozen at the onset", "zeroed at the onset", "plasticity off", "oracle"}
    assert ends["intact"] == pytest.approx(ends["zeroed at the onset"])
    assert ends["intact"] > ends["frozen at the onset"] + 0.5 > ends["plasticity off"] + 0.5


def test_what_begins_before_step_100_is_in_no_curve():
    trace = make_trace(np.ones((2, 600)), np.array([99, 100]))
    assert _kept({"intact": trace})["intact"].onset.tolist() == [100]


def test_a_net_curve_pairs_seeds_and_onsets():
    def stopped(levels, seeds, onset):
        forward = np.ones((len(levels), 800))
        forward[:, onset:] = np.array(levels)[:, None]
        return make_trace(forward, onset, eval_seed=np.array(seeds))

    own = {"intact": stopped([1, 1], [0, 1], 200), "frozen_at_onset": stopped([0.5, 0.9], [0, 1], 200)}

    def net(onset):
        sham = {"intact": stopped([1], [1], onset), "frozen_at_onset": stopped([0.7], [1], onset)}
        return _onset("a", 0, "s", "novel", own, sham).net

    assert net(200)[4:] == pytest.approx(0.1 - 0.3)  # of seed 1 alone
    assert net(201) is None


def test_a_seed_without_any_value_takes_no_band_away():
    values = [np.zeros(24), np.ones(24), np.full(24, np.nan)]
    onsets = [Onset("a", seed, "s", "novel", {"intact": v}, None, None, {}, 1) for seed, v in enumerate(values)]
    found = curve(onsets, lambda onset: onset.forward["intact"])
    assert (found.low[0], found.mean[0], found.high[0]) == (0, 0.5, 1)


def test_who_falls_and_who_recovers_is_seen(results):
    look = looks(results, ROBOT)
    standing = {name: line.get_ydata() for name, line in lines_of(survival(results, ROBOT, look).axes[0]).items()}
    assert standing["adapting"][0] == 1
    assert standing["adapting"][-1] == pytest.approx(0.75, abs=0.01)  # but for the simulations that broke
    assert set(standing["static"]) == {1}
    back = {name: line.get_ydata() for name, line in lines_of(recovery(results, ROBOT, look).axes[0]).items()}
    assert back["rigid"][0] < 1
    assert back["rigid"][-1] < back["adapting"][-1]


def test_in_a_life_carried_is_solid_and_reset_dotted(results):
    rows = results.of(ROBOT, label="rigid", protocol="static", scenario="nda-v1/id", control="intact")
    life = [rows.assign(protocol="lifetime", control=control) for control in ("carried", "reset")]
    found = lifetime(dataclasses.replace(results, records=pd.concat([rows, *life])), ROBOT, looks(results, ROBOT))
    styles = {line.get_label(): line.get_linestyle() for line in found.axes[0].lines}
    assert (styles["rigid, carried"], styles["rigid, reset"]) == ("-", ":")


def test_the_heat_map_tells_perturbed_from_the_start_from_perturbed_in_mid_episode(results):
    panels = {axes.get_title(): axes for axes in heat_map(results, ROBOT).axes if axes.get_visible()}
    for protocol, when in (("static", "from the start"), ("onset", "mid-episode")):
        chosen = results.of(ROBOT, protocol=protocol, control="intact", label="rigid", split="extrap2", kind="mass")
        axes = panels[f"rigid\n{when}"]
        kinds, splits = axes.yaxis.get_major_formatter(), axes.xaxis.get_major_formatter()
        said = {
            (kinds(y, None), splits(x, None)): text.get_text() for text in axes.texts for x, y in [text.get_position()]
        }
        assert said["mass", "extrap2"] == f"{chosen.groupby('train_seed')['relative'].mean().mean():.2f}"


def test_no_band_goes_on_where_the_mean_is_not_known():
    times = {seed: (np.array([3.0, 3.0]), np.array([seed % 2 == 0, False])) for seed in range(9)}
    found = event_curve(times | {9: (np.array([1.0, 2.0]), np.array([True, False]))}, np.arange(4.0))
    assert np.isnan([found.mean[3], found.low[3], found.high[3]]).all()


def test_a_scenario_has_its_own_traces_whatever_another_name_begins_with(pair):
    from sb3_plastic.evaluation.reading import load_trace
    from sb3_plastic.evaluation.records import save_trace

    (file,) = (pair[1] / "traces").glob("onset__nda-v1-extrap1-mass-onset__intact.npz")
    cell, trace = load_trace(file)
    still = dataclasses.replace(trace, forward_reward=0 * trace.forward_reward)
    save_trace(pair[1], dataclasses.replace(cell, scenario=f"{cell.scenario}__steep"), still)
    (found,) = (o for o in read_onsets(read_results(pair[1:]), ROBOT) if o.scenario == cell.scenario)
    assert found.forward["intact"].min() > 1


@pytest.mark.parametrize(
    ("name", "value"), [("base_seed", 0), ("episodes", 9), ("deterministic", False), ("sb3_plastic", "0.0.1")]
)
def test_results_of_other_settings_cannot_be_compared(pair, name, value):
    edit_summary(pair[1], **{name: value})
    with pytest.raises(ReportError, match=f"Different (settings|versions), {name}: .*cannot be compared"):
        read_results(pair)


def test_nominal_episodes_of_another_length_are_none(pair):
    edit_records(pair[1], lambda r: r.assign(protocol=r["protocol"].mask(r["split"] == "nominal", "horizon")))
    with pytest.raises(ReportError, match="No nominal episodes of 'static', seed 0"):
        read_results(pair[1:])


def test_adaptation_that_is_shown_is_said_to_be(results):
    adapting = claims(results, ROBOT)[0]
    assert (
        ". Adaptation (net gain above 0, and late above early) is shown in interp, extrap1, extrap2, novel" in adapting
    )
