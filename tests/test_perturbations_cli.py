"""The commands, the pictures, and the documentation that is generated."""

import os
from pathlib import Path

import numpy as np
import perturbation_helpers  # noqa: F401  (chooses how to render, before MuJoCo is imported)
import pytest
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.registration import EnvSpec, registry

from sb3_plastic import cli
from sb3_plastic.perturbations.envs import make_perturbable
from sb3_plastic.perturbations.kinds import KINDS
from sb3_plastic.perturbations.spec import parse
from sb3_plastic.perturbations.suites import find_scenario, load_suite

DOCS = Path(__file__).parents[1] / "docs" / "perturbations.md"


def main(argv: list[str]) -> int:
    return cli.main(["perturbations", *argv])


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(autouse=True)
def _wide(monkeypatch) -> None:
    """Lists are not broken: xdist's workers have 80 columns."""
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture
def _renderer() -> None:
    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except Exception as error:  # every GL back end fails in its own way
        if "CI" in os.environ:
            raise  # there it is installed, and must work
        pytest.skip(f"no off-screen rendering here: {error}")


def test_list_names_every_kind_and_suite(capsys) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("kind             its value  ")
    for name in [*KINDS, "nda-v1", "anchors-v1"]:
        assert name in out


def test_list_shows_the_scenarios_of_a_suite(capsys) -> None:
    assert main(["list", "--suite", "nda-v1", "--robot", "Ant", "--tier", "quick"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(load_suite("nda-v1").select("quick", robot="Ant"))
    assert all("Ant" in line for line in lines)


@pytest.mark.parametrize("listed", [[], ["--suite", "nda-v2", "--robot", "Ant"]])
def test_in_a_narrow_terminal_lists_break_between_words_and_go_on_below_a_column(listed, capsys, monkeypatch) -> None:
    main(["list", *listed])
    wide = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "80")
    main(["list", *listed])
    narrow = capsys.readouterr().out
    assert narrow.split() == wide.split()
    rows = narrow.splitlines()[1:-2]
    assert max(map(len, rows)) <= 80
    assert {len(row) - len(row.lstrip()) for row in rows} == ({2, 15} if listed else {0, 17})


def test_describe_explains_a_kind_and_prints_a_scenario_as_yaml(capsys) -> None:
    assert main(["describe", "damping"]) == 0
    assert "op scale (default): 0 to 100 (Humanoid 0 to 4)" in capsys.readouterr().out
    assert main(["describe", "anchors-v1/slope-up", "--robot", "HalfCheetah"]) == 0
    assert "kind: slope, value: 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["describe", "dampin"], "Did you mean 'damping'"),
        (["describe", "nda-v1/novel/slop"], "Did you mean 'nda-v1/novel/slope'"),
        (["list", "--suite", "nda"], "Unknown suite 'nda'"),
        (["list", "--suite", "nda-v1", "--tier", "all"], "Unknown tier 'all'"),
        (["render", "nda-v1/novel/wings", "--robot", "Ant", "--output", "x.png"], "Unknown scenario for Ant"),
        (["render", "nda-v1/novel/wings", "--output", "x.png"], "Unknown scenario 'nda-v1/novel/wings'"),
        (["render", "missing.yaml", "--robot", "Ant", "--output", "x.png"], "No such file or directory: missing.yaml"),
        (["render", "nda-v1/novel/slope", "--output", "x.png"], "Which robot? Add --robot, one of HalfCheetah, Ant"),
        (["render", "nda-v1/novel/slope", "--output", "x.jpg"], "allowed suffixes: .png, .mp4, .gif"),
        (
            ["render", "nda-v1/novel/slope", "--steps", "0", "--output", "x.png"],
            "--steps must be a whole number at lea",
        ),
    ],
)
def test_mistakes_are_answered_with_what_is_allowed_and_status_2(argv, message, capsys) -> None:
    assert main(argv) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("sb3-plastic perturbations: error: ")
    assert message in printed


def test_list_and_describe_serve_a_robot_of_all_suites_and_a_scenario_of_all_robots(capsys) -> None:
    assert main(["list", "--robot", "Hopper"]) == 0
    out = capsys.readouterr().out
    assert "Ant" not in out
    assert all(f"{suite}/" in out for suite in ("nda-v1", "nda-v2", "anchors-v1"))
    assert main(["list", "--suite", "nda-v1", "--robot", "Hopper", "--tier", "smoke"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(load_suite("nda-v1").select("smoke")) // 2
    assert main(["describe", "nda-v1/novel/slope"]) == 0
    out = capsys.readouterr().out
    robots = {scenario.robot for scenario in load_suite("nda-v1").scenarios}
    assert all(f"nda-v1/novel/slope, {robot}:" in out for robot in robots)


@pytest.mark.usefixtures("_renderer")
def test_a_picture_shows_the_damaged_part_in_red(tmp_path) -> None:
    from PIL import Image

    def redness(name: str) -> int:
        output = tmp_path / f"{name.replace('/', '-')}.png"
        assert main(["render", name, "--robot", "Ant", "--steps", "2", "--output", str(output)]) == 0
        picture = np.asarray(Image.open(output)).astype(int)
        assert picture.shape == (240, 320, 3)
        return int(((picture[..., 0] > 90) & (picture[..., 0] > 3 * picture[..., 1])).sum())

    assert redness("nda-v1/nominal") == 0
    assert redness("nda-v1/novel/motor_off") > 20
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".png"] == []


@pytest.mark.usefixtures("_renderer")
def test_reports_show_the_robot_and_what_damages_a_part_of_it() -> None:
    from sb3_plastic.perturbations.render import stills

    names = ("novel/limb_scale/onset", "novel/action_delay/onset")
    pictures = stills("Ant", {name: find_scenario(f"nda-v1/{name}", "Ant").perturbations for name in names})
    assert [*pictures] == ["", "novel/limb_scale/onset"]  # late commands are not to be seen
    assert {picture.shape for picture in pictures.values()} == {(240, 320, 3)}


@pytest.mark.usefixtures("_renderer")
def test_a_video_has_a_frame_for_each_step_and_terrain_can_be_rendered(tmp_path) -> None:
    from sb3_plastic.perturbations.render import film

    (tmp_path / "mine.yaml").write_text("- {kind: terrain, value: 0.2}\n- {kind: push, value: 0.2}\n")
    output = tmp_path / "mine.gif"
    argv = ["render", "mine.yaml", "--robot", "Hopper", "--steps", "3", "--width", "64", "--height", "64"]
    assert main([*argv, "--output", str(output)]) == 0
    assert output.read_bytes().startswith(b"GIF8")
    frames, fps = film("Hopper", [], n_steps=3, width=64, height=64)
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 3
    assert fps == 125
    drawn = {"form": "onset", "at": {"uniform": [0, 5]}, "end": {"uniform": [6, 15]}}  # it ends before others begin
    frames, _ = film("Hopper", parse([{"kind": "mass", "value": 2.0, "schedule": drawn}]), n_steps=1)
    assert len(frames) == 1


@pytest.mark.usefixtures("_renderer")
def test_a_robot_of_one_s_own_is_listed_and_filmed_by_its_id(tmp_path, monkeypatch, capsys) -> None:
    swimmer = make_perturbable(SwimmerEnv)
    monkeypatch.setitem(registry, "mine/Swimmer-v0", EnvSpec("mine/Swimmer-v0", entry_point=swimmer))
    assert main(["list", "--suite", "nda-v2", "--robot", "mine/Swimmer-v0", "--tier", "smoke"]) == 0
    assert "mine/Swimmer-v0 nda-v2/novel/reversed/onset" in capsys.readouterr().out
    film = ["render", "nda-v2/novel/reversed/onset", "--steps", "3", "--width", "64", "--height", "64", "--robot"]
    assert main([*film, "mine/Swimmer-v0", "--out", str(tmp_path / "mine.gif")]) == 0
    assert (tmp_path / "mine.gif").read_bytes().startswith(b"GIF8")
    assert main([*film, "Swimmer-v5", "--out", str(tmp_path / "stock.gif")]) == 2
    assert "Swimmer-v5 is not made by make_perturbable" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*film, "Swimer", "--out", str(tmp_path / "none.gif")])
    assert "'Swimer' is none of HalfCheetah, Ant, " in capsys.readouterr().err


def test_a_video_has_the_steps_and_the_seed_that_are_asked_for(monkeypatch) -> None:
    from sb3_plastic.perturbations import render

    asked: dict = {}
    monkeypatch.setattr(render, "film", lambda robot, given, **others: asked.update(others) or ([], 1.0))
    monkeypatch.setattr(render, "save", lambda *arguments: None)
    words = ["--robot", "Ant", "--steps", "7", "--seed", "3", "--width", "8", "--height", "9", "--output", "x.png"]
    assert main(["render", "nda-v1/novel/slope", *words]) == 0
    assert {name: asked[name] for name in ("n_steps", "seed", "width", "height")} == dict(
        n_steps=7, seed=3, width=8, height=9
    )


def test_what_begins_earlier_in_a_video_lasts_as_long_as_ever(monkeypatch) -> None:
    from sb3_plastic.perturbations import render

    monkeypatch.setattr(render, "picture", lambda env: env.perturber.active[0].activation)
    short = {"kind": "mass", "value": 2.0, "schedule": {"form": "onset", "at": 300, "end": 303}}
    acting, _ = render.film("Hopper", parse([short]), n_steps=render.BEFORE + 5)
    assert np.flatnonzero(acting).tolist() == [render.BEFORE, render.BEFORE + 1, render.BEFORE + 2]


def test_the_table_of_kinds_in_the_documentation_is_up_to_date() -> None:
    from sb3_plastic.perturbations.describe import END, START, kinds_table

    text = DOCS.read_text(encoding="utf-8")
    written = text.split(START)[1].split(END)[0].strip()
    assert written == kinds_table(), "run: python -m sb3_plastic.perturbations.describe docs/perturbations.md"
