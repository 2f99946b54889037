"""What docs/results publishes: its commands make its figures and its tables from the tables in the tree."""

import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from sb3_plastic.studies.cli import main

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
STUDIES = {
    # folder: study, its table
    "temporal": ("temporal", "results.csv"),
    "learning": ("learning", "results.csv"),
    "adaptation": ("adaptation", "results.csv"),
    "adaptation_nothing": ("adaptation", "results.csv"),
    "adaptation_cables": ("adaptation", "results.csv"),
    "adaptation_beyond": ("adaptation", "results.csv"),
    "adaptation_reversed": ("adaptation", "results.csv"),
    "robustness": ("robustness", "results.csv"),
    "estimates": ("estimates", "results.csv"),
    "evolution": ("evolution", "results.csv"),
    "meta": ("meta", "scores.csv"),
    "halfcheetah_100k": ("curves", "curves.csv"),
}
TABLES = {
    line.rstrip() for page in RESULTS.rglob("README.md") for line in page.read_text().splitlines() if line[:1] == "|"
}


@pytest.mark.parametrize("folder", STUDIES)
def test_a_study_is_remade_from_its_table(folder, tmp_path, capsys):
    study, table = STUDIES[folder]
    shutil.copy(RESULTS / folder / table, tmp_path)
    main([study, "--out", str(tmp_path), "--report-only"])
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert set(printed) <= TABLES
    assert printed or study == "curves"
    published = {path.relative_to(RESULTS / folder) for path in (RESULTS / folder).rglob("*.png")}
    assert published == {path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")}
    for name in published:
        old, new = (matplotlib.image.imread(path / name) for path in (RESULTS / folder, tmp_path))
        assert old.shape == new.shape
        assert np.abs(old - new).mean() < 0.02, name  # fonts may be rendered in another way elsewhere
    if (RESULTS / folder / "report.md").exists():
        assert (tmp_path / "report.md").read_text() == (RESULTS / folder / "report.md").read_text()


def test_no_table_names_a_folder_of_one_machine():
    for table in RESULTS.rglob("*.csv"):
        assert not re.findall(r"[ =\"']/\w+/[\w/]+", table.read_text()), table


def test_results_are_small_and_hold_no_vector_graphics():
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "docs/results"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git repository")
    files = [ROOT / name for name in found.stdout.splitlines() if (ROOT / name).is_file()]
    assert sum(path.stat().st_size for path in files) < 9_000_000
    assert not [path for path in files if path.suffix == ".svg"]
