"""What RL Zoo does with a trained agent: it plays it, films it, and plots how it learned."""

import os
import re
import shutil
import subprocess
from ctypes.util import find_library

import numpy as np
import pytest
from command_line import answer
from zoo_commands import ENV, ROOT, RUN, zoo


def test_enjoy_prints_returns(trained):
    output = zoo("enjoy", "--env", ENV, "--no-render", "-n", "1000", cwd=trained)
    assert f"Loading {RUN / ENV}.zip" in output
    assert "Episode Length 1000" in output
    assert re.search(r"Mean reward: -?\d+\.\d+ \+/- 0\.00", output)


@pytest.mark.parametrize(("env", "steps", "least"), [("HalfCheetah-v5", 1000, 3000), ("Ant-v5", 3000, 1500)])
def test_the_agents_in_the_repository_walk(env, steps, least, monkeypatch):
    monkeypatch.chdir(ROOT)
    agents = ROOT / "docs" / "results" / "learning" / "agents"
    assert sum(file.stat().st_size for file in agents.rglob("*") if file.is_file()) < 3e6
    output = answer(["enjoy", "--env", env, "-f", agents, "--no-render", "-n", steps])
    # An agent that stands still gets 0 and 1000. An Ant may fall: in which episode hangs on the processor's rounding.
    assert max(map(float, re.findall(r"Episode Reward: (-?[\d.]+)", output))) > least


def test_enjoy_loads_the_best_model(trained, monkeypatch):
    monkeypatch.chdir(trained)
    output = answer(["enjoy", "--env", ENV, "--no-render", "--load-best", "-n", "10"])
    assert f"Loading {RUN / 'best_model.zip'}" in output


@pytest.mark.skipif(
    not (find_library("EGL") and find_library("OpenGL")) and "CI" not in os.environ,
    reason="MuJoCo needs libegl1 and libopengl0 to draw without a display",
)
def test_record_shows_the_robot(trained):
    from imageio_ffmpeg import get_ffmpeg_exe

    zoo("record", "--env", ENV, "-n", "25", cwd=trained)
    (video,) = (trained / RUN / "videos").glob(f"final-model-plastic_ppo-{ENV}-*.mp4")
    decode = [get_ffmpeg_exe(), "-v", "error", "-i", video, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(decode, capture_output=True, check=True).stdout
    frames = np.frombuffer(pixels, np.uint8).reshape(-1, 480, 480, 3).astype(int)
    assert len(frames) >= 20
    assert frames[0].std() > 10  # a scene, not a blank
    moved = abs(frames[-1] - frames[0]).max(axis=2) > 60
    assert 0.001 < moved.mean() < 0.5  # something moves before a background that mostly stays


def test_plots_are_written_without_a_display(trained, tmp_path, monkeypatch):
    for i in (1, 2):  # RL Zoo's plot_from_file wants two runs
        shutil.copytree(trained / RUN, tmp_path / RUN.with_name(f"{ENV}_{i}"))
    monkeypatch.chdir(tmp_path)
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    answer(["plot", "train", "-e", ENV, "-w", "2", "--save", "curve.png"])
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    answer(["plot", "all", "-e", ENV, "--save", "evaluations.svg", "-o", "evaluations"])
    assert "<svg" in (tmp_path / "evaluations.svg").read_text()
    answer(["plot", "file", "-i", "evaluations"])
    assert (tmp_path / "plot_from_file.png").read_bytes().startswith(b"\x89PNG")


def test_where_nothing_can_be_plotted_it_is_said_and_no_file_is_left(trained, monkeypatch):
    monkeypatch.chdir(trained)
    assert "--save takes a file that ends in ." in answer(["plot", "train", "-e", ENV, "--save", "curve"], code=2)
    output = answer(["plot", "train", "-e", ENV, "-w", "500", "--save", "empty.png"], code=2)
    assert "fewer episodes than the window" in output
    output = answer(["plot", "all", "-e", "Ant-v5", "--save", "empty.png"], code=2)  # was not trained
    assert "sb3-plastic plot: error: There is nothing to plot" in output
    assert not (trained / "empty.png").exists()


def test_missing_model_names_those_there_are(trained, monkeypatch):
    monkeypatch.chdir(trained)
    output = answer(["enjoy", "--env", "Hopper-v5", "--no-render"], code=2)
    assert "No model found for plastic_ppo on Hopper-v5" in output
    assert f"--algo plastic_ppo --env {ENV} --exp-id 1" in output
