"""Reports of damaged results: each is refused in words, through the command line; and names cannot inject markup."""

import html.parser
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from evaluation_helpers import write_results
from markdown_it import MarkdownIt

from sb3_plastic import cli
from sb3_plastic.report import read_results, write_report
from sb3_plastic.report.document import Document
from sb3_plastic.seals import seal

TRACE = "onset__nda-v1-extrap1-mass-onset__intact.npz"


@pytest.fixture(scope="module")
def intact_results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "a"
    write_results(folder, "a", episodes=2, sham=True)
    return folder


@pytest.fixture
def folder(intact_results, tmp_path):
    return shutil.copytree(intact_results, tmp_path / "a")


def records(**changes):
    """Change columns of records.csv; a function gets the table, None drops the column."""

    def damage(folder):
        table = pd.read_csv(folder / "records.csv", keep_default_na=False, dtype=str)
        for name, value in changes.items():
            table = table.drop(columns=name) if value is None else table
            if value is not None:
                table.loc[3, name] = value
        table.to_csv(folder / "records.csv", index=False)

    return damage


def content(name, new):
    """Replace what a file holds; a number cuts it after so many bytes."""

    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:new] if isinstance(new, int) else new)

    return damage


def summary(**changes):
    def damage(folder):
        path = folder / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def trace(**changes):
    """Change arrays of a trace; None drops one."""

    def damage(folder):
        path = folder / "traces" / TRACE
        with np.load(path) as file:
            arrays = {**dict(file), **changes}
        np.savez(path, **{name: value for name, value in arrays.items() if value is not None})

    return damage


def removed(name):
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


DAMAGE = {
    "no records": (removed("records.csv"), "unfinished evaluation: records.csv not there"),
    "empty records": (content("records.csv", b""), "records.csv is no table"),
    "header alone": (lambda f: records()(f) or content("records.csv", header(f))(f), "holds no episodes"),
    "records cut in a row": (lambda f: content("records.csv", size(f, "records.csv") - 30)(f), "records.csv"),
    "records that are no text": (content("records.csv", bytes(range(128, 256)) * 4), "records.csv is no table"),
    "records of another program": (content("records.csv", b"a,b\n1,2\n"), "lacks the columns label"),
    "rows of other lengths": (content("records.csv", b"a,b\n1,2\n1,2,3\n"), "records.csv is no table"),
    "a column missing": (records(unstable=None), "lacks the columns unstable"),
    "a word for a number": (records(forward_reward="much"), "line 5: forward_reward is a finite number, got 'much'"),
    "an empty number": (records(forward_reward=""), "forward_reward is a finite number, got ''"),
    "inf": (records(forward_reward="inf"), "forward_reward is a finite number, got 'inf'"),
    "-inf": (records(adaptation_gain="-inf"), "adaptation_gain is a finite number, or empty, got '-inf'"),
    "nan": (records(distance="nan"), "distance is a finite number, or empty, got 'nan'"),
    "half a seed": (records(eval_seed="1.5"), "eval_seed is a whole number, got '1.5'"),
    "a flag of 2": (records(fell="2"), "fell is 0 or 1, got '2'"),
    "an unknown control": (records(control="none"), "control is one of intact, frozen_at_onset"),
    "an unknown protocol": (records(protocol="later"), "protocol is one of static, onset"),
    "no nominal": (lambda f: keep(f, "split", "nominal", False), "No nominal episodes of 'a'"),
    "twice the same episode": (lambda f: double(f), "the same episode is there twice".capitalize()),
    "no summary": (removed("summary.json"), "unfinished evaluation: summary.json not there"),
    "empty summary": (content("summary.json", b""), "summary.json is no JSON"),
    "summary cut": (content("summary.json", 50), "summary.json is no JSON"),
    "summary nested too deep": (content("summary.json", b"[" * 200_000), "summary.json is no JSON"),
    "summary that is no text": (content("summary.json", b"\xff\xfe{"), "summary.json is no JSON"),
    "summary that is a list": (content("summary.json", b"[1]"), "summary.json holds no mapping, but list"),
    "summary without settings": (summary(settings=None), "summary.json has no settings"),
    "summary with a word for versions": (summary(versions="1.0"), "summary.json has no versions"),
    "no traces": (removed("traces"), "npz is missing, though records.csv has its episodes"),
    "a trace missing": (removed(f"traces/{TRACE}"), f"{TRACE} is missing"),
    "the trace of the sham missing": (
        removed("traces/onset__nda-v1-nominal-sham__intact.npz"),
        "intact.npz is missing",
    ),
    "empty trace": (content(f"traces/{TRACE}", b""), f"{TRACE} is damaged"),
    "trace cut": (content(f"traces/{TRACE}", 300), f"{TRACE} is damaged"),
    "trace without rewards": (trace(reward=None), f"{TRACE} is damaged"),
    "trace of other shapes": (trace(effort=np.zeros((1, 5))), "its arrays do not belong together"),
    "infinite trace": (trace(reward=np.full((2, 1000), np.inf)), "its rewards are infinite"),
    "trace with a pickle": (trace(values=np.array([{}], dtype=object)), f"{TRACE} is damaged"),
    "trace of no cell": (trace(cell=np.array("{}")), f"{TRACE} is damaged"),
}


def header(folder):
    return (folder / "records.csv").read_bytes().split(b"\n")[0] + b"\n"


def size(folder, name):
    return (folder / name).stat().st_size


def keep(folder, column, value, equal):
    table = pd.read_csv(folder / "records.csv", keep_default_na=False, dtype=str)
    table[(table[column] == value) == equal].to_csv(folder / "records.csv", index=False)


def double(folder):
    table = pd.read_csv(folder / "records.csv", keep_default_na=False, dtype=str)
    pd.concat([table, table[:1]]).to_csv(folder / "records.csv", index=False)


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_results_are_refused_in_words(name, folder, tmp_path, capsys):
    damage, message = DAMAGE[name]
    damage(folder)
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sb3-plastic report: error: ")
    assert message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "old", "new"), [("records.csv", b",1.", b",2."), ("summary.json", b'"quick"', b'"quack"')]
)
def test_a_changed_digit_or_letter_is_found_out(name, old, new, folder, tmp_path, capsys):
    file, table = folder / "summary.json", (folder / "records.csv").read_bytes()
    file.write_text(json.dumps(seal(json.loads(file.read_text()), "summary.json", {"records.csv": table})))
    assert len(read_results([folder]).records)  # it is whole
    content = (folder / name).read_bytes()
    assert old in content
    (folder / name).write_bytes(content.replace(old, new, 1))
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert f"{name} is damaged or not what it should be: its checksum does not fit" in capsys.readouterr().err


def test_records_keep_every_digit(folder):
    table = pd.read_csv(folder / "records.csv", float_precision="round_trip", keep_default_na=False, na_values=[""])
    read = read_results([folder]).records
    assert set(read["forward_reward"]) <= set(table["forward_reward"])


# Markup in names

NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "[[click]](javascript:alert(1))",
    "[click]: javascript:alert(1)",
    "[click](//evil.example)",
    '[click](x"onmouseover="alert(1))',
    "`` <script>alert(1)</script> `a",
    "\\`<script>alert(1)</script>\\`",
    "\\](javascript:alert(1))",
    "a|b\nc **d** <!-- $e$",
]


class Elements(html.parser.HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def assert_harmless(page):
    """No script, no handler, no picture but our own, no link but to anchors and files beside the page."""
    for tag, attributes in Elements(page).found:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form", "link")
        assert not [name for name in attributes if name.startswith("on") or name in ("srcdoc", "action")]
        assert re.match(r"#|figures/|$", attributes.get("href", "")), attributes
        assert re.match(r"data:image/|figures/|$", attributes.get("src", "")), attributes


def document_with(name):
    document = Document(name)
    document.heading(name)
    document.paragraph(f"See {name}.")
    document.bullets([name])
    document.table([{name: name}], caption=name)
    with document.details(name):
        document.code(name)
    return document


@pytest.mark.parametrize("name", NAMES)
def test_names_bring_no_markup_into_a_document(name):
    document = document_with(name)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(document.markdown())
    for page in (document.html(), rendered):
        assert_harmless(page)


def test_labels_and_scenarios_with_markup_make_a_harmless_report(folder, tmp_path):
    label, scenario = '<script>alert("$x$")</script>[a](javascript:b)', "nda-v1/<img src=x onerror=c>/onset"
    table = pd.read_csv(folder / "records.csv", keep_default_na=False, dtype=str)
    table["label"] = label
    table["scenario"] = table["scenario"].replace("nda-v1/extrap1/mass/onset", scenario)
    table.to_csv(folder / "records.csv", index=False)
    for path in (folder / "traces").glob("onset__nda-v1-extrap1-mass-onset__*"):
        name = path.name.replace("nda-v1-extrap1-mass-onset", scenario.replace("/", "-"))
        path.rename(path.with_name(name))
    markdown, page = (path.read_text() for path in write_report(folder, tmp_path / "out"))
    assert_harmless(page)
    assert_harmless(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
    assert "&lt;script&gt;" in page
