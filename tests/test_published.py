"""What docs/results publishes: its commands make its figures and its tables from the tables in the tree."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from sb3_plastic.evaluation.scores import mean
from sb3_plastic.report.stats import COVERAGE
from sb3_plastic.studies.cli import main
from sb3_plastic.studies.results import read_results
from sb3_plastic.studies.trial_scores import by_seed, difference, frame_of, over_seeds

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
STUDIES = {
    # folder: study, its table
    "temporal": ("temporal", "results.csv"),
    "learning": ("learning", "results.csv"),
    "learning_validation": ("learning", "results.csv"),
    "adaptation": ("adaptation", "results.csv"),
    "adaptation_nda_v1": ("adaptation", "results.csv"),
    "adaptation_nothing": ("adaptation", "results.csv"),
    "adaptation_cables": ("adaptation", "results.csv"),
    "adaptation_beyond": ("adaptation", "results.csv"),
    "adaptation_reversed": ("adaptation", "results.csv"),
    "adaptation_rivals": ("adaptation", "results.csv"),
    "adaptation_rivals_64": ("adaptation", "results.csv"),
    "adaptation_mlps_64": ("adaptation", "results.csv"),
    "adaptation_sensors": ("adaptation", "results.csv"),
    "adaptation_noise": ("adaptation", "results.csv"),
    "adaptation_lifetime": ("adaptation", "results.csv"),
    "replugged": ("replugged", "results.csv"),
    "robustness": ("robustness", "results.csv"),
    "robustness_full": ("robustness", "results.csv"),
    "robustness_ant": ("robustness", "results.csv"),
    "estimates": ("estimates", "results.csv"),
    "evolution": ("evolution", "results.csv"),
    "meta": ("meta", "scores.csv"),
    "halfcheetah_100k": ("curves", "curves.csv"),
}
PAGES = [page for page in RESULTS.rglob("*.md") if page.name != "report.md"]  # which a study writes itself
TABLES = {line.rstrip() for page in PAGES for line in page.read_text().splitlines() if line[:1] == "|"}

FAMILIES = {
    # what tables in words call it: family of nda-v2
    "nothing changes": "nominal",
    "motors reversed": "id/reversed",
    "reversed anew every 150 steps": "novel/redrawn",
    "all cables permuted": "novel/wires_permuted",
    "permuted and reversed": "novel/wires_signed",
    "commands one step late": "novel/late_1",
    "two steps late": "novel/late_2",
    "all sensors off by .1": "novel/sensors_off",
    "off by .3": "novel/sensors_far_off",
    "sensors off by .3": "novel/sensors_far_off",
    "drawn gains": "id/gains",
    "a constant added to each command": "novel/action_bias",
    "a constant added to commands": "novel/action_bias",
}
PLAIN = "plain mean over all that change, plastic agents"
AIMED_AT = [
    # the columns of the table of aims
    *["nominal", "id/reversed", "novel/reversed", "novel/redrawn", "novel/wires_swapped", "novel/wires_permuted"],
    *["novel/wires_signed", "novel/sensors_off", "novel/sensors_far_off", "novel/sensor_gain"],
    *["novel/late_1", "novel/late_2"],
]


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """The table on a page whose heading begins so: the cells of each row, by its first one."""
    lines = iter((ROOT / page).read_text().split(f"\n{heading}", 1)[1].splitlines()[2:])
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows


@cache
def judged(folder: str) -> pd.DataFrame:
    """Scores of agents under nda-v2, as the study of the layer reads them."""
    rows = frame_of(read_results(RESULTS / folder).values())
    return rows[(rows["suite"] == "nda-v2") & (rows["control"] == "intact") & (rows["split"] != "sham")]


def scores(folder: str, robot: str, agent: str, arm: str, family: str | None = None) -> pd.DataFrame:
    """Of a family; without one, of all that change."""
    rows = judged(folder)
    rows = rows[(rows["robot"] == robot) & (rows["agent"] == agent) & (rows["arm"] == arm)]
    return rows[rows["family"] == family if family else rows["split"] != "nominal"]


def kept(folder: str, robot: str, agent: str, arm: str, family: str | None) -> float:
    """What speed agents keep; without a family, of all that change. NaN if that was not judged."""
    return over_seeds(scores(folder, robot, agent, arm, family), "speed").value


def plain_means(robot: str) -> str:
    """What plastic agents keep of all that change, families that cannot be compensated included."""
    both = [scores("adaptation", robot, "plastic", arm) for arm in ("frozen", "adaptive")]
    return " -> ".join(two_digits(mean(by_seed(rows, "speed"))) for rows in both)


def two_digits(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def alone_and_with_the_layer(robot: str, agent: str, family: str | None) -> str:
    # Reversed motors and cables of plastic HalfCheetahs were judged on more episodes, in folders of their own.
    larger = ["adaptation_reversed", "adaptation_cables"] if family not in (None, "nominal") else []
    for folder in [*larger, "adaptation"]:
        shares = [kept(folder, robot, agent, arm, family) for arm in ("frozen", "adaptive")]
        if not np.isnan(shares).any():
            return " -> ".join(map(two_digits, shares))
    raise LookupError((robot, agent, family))


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("README.md", "| | HalfCheetah | Ant | Hopper | Walker2d |"),
        ("docs/adaptation.md", "| | HalfCheetah | Ant |"),
    ],
)
def test_what_the_layer_gives_is_told_as_it_was_measured(page, heading):
    robots = heading.strip("| ").split(" | ")
    others = {
        "the same of five MLPs": ["MLP, noise by schedule", *["MLP"] * 3],
        "of five static spiking": ["static SNN", *["static SNN, distilled"] * 3],
    }
    rows = rows_of(page, heading)
    assert len(rows) > 5
    rows.pop(PLAIN, None)
    for name, cells in rows.items():
        agents = next((agents for start, agents in others.items() if name.startswith(start)), ["plastic"] * 4)
        family = FAMILIES.get(name)
        assert family or agents[0] != "plastic" or name.startswith("**all that change**"), name
        told = [alone_and_with_the_layer(*place, family) for place in zip(robots, agents, strict=False)]
        assert cells == told, name


def test_plain_means_stand_beside_interquartile_ones():
    means = [plain_means(robot) for robot in ("HalfCheetah", "Ant", "Hopper", "Walker2d")]
    assert rows_of("README.md", "| | HalfCheetah | Ant | Hopper | Walker2d |")[PLAIN] == means
    text = (RESULTS / "adaptation" / "README.md").read_text()
    told = "plain means are {} (plastic HalfCheetahs), {} (Ants), {} (Hoppers) and {} (Walker2ds)"
    assert told.format(*means) in text


def test_intervals_are_said_to_hold_what_they_hold():
    text = (RESULTS / "README.md").read_text().split("## Intervals")[1].split("\n## ")[0]
    page = " ".join(text.split())
    assert "in {} % with three seeds, in {} % with five, in {} % with ten".format(*COVERAGE.values()) in page
    left: dict[str, list[bool]] = {"shares": [], "differences": []}
    for folder in ("adaptation_beyond", "adaptation_reversed", "adaptation_cables", "adaptation_rivals_64"):
        changed = judged(folder)[judged(folder)["split"] != "nominal"]
        for (robot, family), _ in changed.groupby(["robot", "family"]):
            # Ants were judged on either in one run, with the same layers.
            both = ["adaptation_rivals" if robot == "Ant" else "adaptation", folder]
            frozen, adaptive = (
                [scores(episodes, robot, "plastic", arm, family) for episodes in both] for arm in ("frozen", "adaptive")
            )
            alone = [over_seeds(rows, "speed") for rows in frozen]
            gained = [difference(*rows) for rows in zip(adaptive, frozen, strict=True)]
            for name, (sixteen, more) in {"shares": alone, "differences": gained}.items():
                left[name].append(not sixteen.low <= more.value <= sixteen.high)
    told = [f"{sum(outside)} of the {len(outside)} {name}" for name, outside in left.items()]
    assert all(words in page for words in told), told


def test_aims_are_met_where_the_table_of_aims_says_so():
    rows = rows_of("docs/results/adaptation/README.md", "| kept with the layer | nothing | reversed |")
    aims = [[float(aim) for aim in cell.strip("*").split(", ")] for cell in rows.pop("*aim*")]
    assert len(rows) > 10
    for name, cells in rows.items():
        robot, agent = name.split(", ", 1)
        for family, aim, cell in zip(AIMED_AT, aims, cells, strict=True):
            share = kept("adaptation", robot, agent, "adaptive", family)
            met = share >= aim[0 if robot == "HalfCheetah" else -1]  # of two aims the first is HalfCheetah's
            assert cell == (f"**{two_digits(share)}**" if met else two_digits(share)), (name, family)


def test_returns_in_the_readme_are_those_of_the_study():
    agents = ["oja + simple", "static SNN", "MLP", "MLP, noise by schedule", "MLP (RL Zoo)", "oja + simple, distilled"]
    for env, cells in rows_of("README.md", "| | plastic | static | MLP |").items():
        measured = rows_of("docs/results/learning/README.md", f"| {env} | training | exploring | deterministic |")
        assert cells == [measured.get(agent, [""] * 3)[2] for agent in agents], env


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
    assert sum(path.stat().st_size for path in files) < 15_000_000  # agents, too: each clone carries them
    assert not [path for path in files if path.suffix == ".svg"]
