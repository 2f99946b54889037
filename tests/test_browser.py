"""
Reports in a real browser: whatever names hold, no script runs, and the page has nothing to complain about.

Skipped where there is no Chromium. ``scripts/campaign.py`` runs the same with more names.
"""

import json
import os
import random
import re
import shutil
import subprocess

import pandas as pd
import pytest
from evaluation_helpers import write_results
from markdown_it import MarkdownIt
from test_report_damaged import document_with

from sb3_plastic.report import write_report
from sb3_plastic.report.document import Document

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

EXAMPLES = int(os.environ.get("SB3_PLASTIC_EXAMPLES", "20"))
SCRIPT = "document.title='ran';document.documentElement.dataset.ran=1"
NAMES = [
    f"<script>{SCRIPT}</script>",
    f'"><img src=x onerror="{SCRIPT}">',
    f"'><svg/onload={SCRIPT}>",
    f"</code></pre></table></details><script>{SCRIPT}</script>",
    f"</title><script>{SCRIPT}</script>",
    f"</style><script>{SCRIPT}</script>",
    f"--><script>{SCRIPT}</script><!--",
    f"<details open ontoggle={SCRIPT}>",
    f'<iframe srcdoc="<script>parent.{SCRIPT}</script>">',
    f"<body onload={SCRIPT}>",
    f"<style onload={SCRIPT}></style>",
    f"`` <script>{SCRIPT}</script> `a",
    f"![a](x){{onerror={SCRIPT}}}",
    f"&lt;script&gt;{SCRIPT}&lt;/script&gt;",
]
PARTS = [
    *NAMES,
    "<",
    ">",
    '"',
    "'",
    "`",
    "``",
    "\\",
    "&",
    "|",
    "\n",
    "**",
    "](",
    "<!--",
    "-->",
    "]]>",
    "$",
    "=",
    "a",
    " ",
]


def names():
    """Those above, and some that are put together at random."""
    draw = random.Random(0)
    return NAMES + ["".join(draw.choices(PARTS, k=draw.randint(2, 6))) for _ in range(EXAMPLES)]


def opened(page, folder):
    """
    The document after all has loaded, and what the page wrote to the console.

    Without a sandbox of its own, since it may run as root in a container; the pages are ours.
    """
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *options, file.as_uri()], capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def assert_nothing_ran(page, folder):
    dom, console = opened(page, folder)
    assert "</html>" in dom
    assert "data-ran" not in re.search("<html[^>]*>", dom)[0]
    assert "<title>ran</title>" not in dom
    assert console == []


def test_a_script_would_be_seen_here(tmp_path):
    for name in (NAMES[0], NAMES[1], NAMES[2]):
        dom, _ = opened(f"<!DOCTYPE html><html><head><title>a</title></head><body>{name}</body></html>", tmp_path)
        assert "data-ran" in re.search("<html[^>]*>", dom)[0]
        assert "<title>ran</title>" in dom
    _, console = opened("<!DOCTYPE html><body><script>nothing.there()</script></body>", tmp_path)
    assert "nothing is not defined" in console[0]


def test_a_document_full_of_markup_runs_nothing(tmp_path):
    document = Document(NAMES[0])
    for name in names():
        document.heading(name)
        document.paragraph(f"See {name}, **{name}** and `{name}`.")
        document.bullets([name])
        document.table([{name: name}], caption=name)
        with document.details(name):
            document.code(name)
    assert_nothing_ran(document.html(), tmp_path)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(document.markdown())
    assert_nothing_ran(f"<!DOCTYPE html><html><head><title>a</title></head><body>{rendered}</body></html>", tmp_path)


def test_titles_run_nothing(tmp_path):
    for name in (NAMES[0], NAMES[4]):
        assert_nothing_ran(document_with(name).html(), tmp_path)


def test_a_report_of_results_whose_texts_are_scripts_runs_nothing(tmp_path):
    folder = tmp_path / "results"
    write_results(folder, "a", episodes=2, sham=True)
    table = pd.read_csv(folder / "records.csv", keep_default_na=False, dtype=str)
    table["label"], table["algo"] = NAMES[0], NAMES[3]
    table["kind"] = table["kind"].replace("mass", NAMES[2])
    scenario = "nda-v1/" + NAMES[1].replace("/", "") + "/onset"
    table["scenario"] = table["scenario"].replace("nda-v1/extrap1/mass/onset", scenario)
    table.to_csv(folder / "records.csv", index=False)
    for path in (folder / "traces").glob("onset__nda-v1-extrap1-mass-onset__*"):
        path.rename(path.with_name(path.name.replace("nda-v1-extrap1-mass-onset", scenario.replace("/", "-"))))
    summary = json.loads((folder / "summary.json").read_text())
    summary |= {"command": NAMES[0], "commit": NAMES[4]}
    summary["settings"] |= {"wrappers": [NAMES[5]], "env_kwargs": {NAMES[6]: NAMES[7]}}
    summary["versions"] |= {"torch": NAMES[8]}
    (folder / "summary.json").write_text(json.dumps(summary))
    markdown, page = (path.read_text() for path in write_report(folder, tmp_path / "out"))
    assert "&lt;script&gt;" in page
    assert_nothing_ran(page, tmp_path)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    assert_nothing_ran(f"<!DOCTYPE html><html><head><title>a</title></head><body>{rendered}</body></html>", tmp_path)
