"""What is shipped."""

import inspect
import os
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import sb3_plastic
from sb3_plastic.perturbations import suite_names

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_contains_configurations_and_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith("sb3_plastic-")}
    sources = {f"sb3_plastic/{path.relative_to(ROOT / 'sb3_plastic')}" for path in ROOT.glob("sb3_plastic/**/*.py")}
    configurations = {f"sb3_plastic/zoo_configs/{path.name}" for path in ROOT.glob("zoo_configs/*.yml")}
    assert "sb3_plastic/zoo_configs/plastic_ppo.yml" in configurations
    suites = {f"sb3_plastic/perturbations/data/{name}.yaml" for name in suite_names()}
    assert suites
    assert names == sources | configurations | suites | {"sb3_plastic/py.typed"}


def test_wheel_finds_its_own_configurations(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from sb3_plastic.zoo import config_file; print(config_file('plastic_ppo'))"
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    found = Path(result.stdout.splitlines()[-1])
    assert found == tmp_path / "sb3_plastic" / "zoo_configs" / "plastic_ppo.yml"
    assert found.read_text() == (ROOT / "zoo_configs" / "plastic_ppo.yml").read_text()


def test_version_stands_in_one_place(wheel):
    assert wheel.name.split("-")[1] == sb3_plastic.__version__
    text = (ROOT / "pyproject.toml").read_text()
    assert sb3_plastic.__version__ not in [
        line.split('"')[1] for line in text.splitlines() if line.startswith("version")
    ]


def test_console_command_is_the_command_line(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        lines = archive.read(name).decode().split("\n")
    command = lines[lines.index("[console_scripts]") + 1]
    assert command.startswith("sb3-plastic = ")
    from sb3_plastic.cli import main

    assert EntryPoint("sb3-plastic", command.split(" = ")[1], "console_scripts").load() is main


def test_public_names_are_those_in_all():
    listed = sb3_plastic.__all__
    assert sorted(set(listed)) == sorted(listed)
    public = {
        name
        for name, value in vars(sb3_plastic).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public == {*listed} - {"__version__"}
