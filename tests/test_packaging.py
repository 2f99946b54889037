"""What is shipped."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import sb3_plastic
from sb3_plastic.cli import COMMANDS
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


def built(kind, source, **environ):
    """The file that Hatchling builds from a folder, without a network."""
    plain = {name: value for name, value in os.environ.items() if name != "SB3_PLASTIC_REPOSITORY"}
    words = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", source / "dist"]
    subprocess.run(words, cwd=source, env=plain | environ, check=True, capture_output=True)
    (path,) = (source / "dist").iterdir()
    return path


def metadata_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        return message_from_bytes(archive.read(name))


def packaged(clone, folder, **environ):
    """The metadata of a wheel that is built from the sdist of a clone, where there is no git."""
    with tarfile.open(built("sdist", clone, **environ)) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return metadata_of(built("wheel", unpacked))


def links(metadata):
    return re.findall(r"\]\(([^)\s]+)\)", metadata.get_payload(decode=True).decode())


@pytest.fixture
def clone(tmp_path):
    """A clone with what a package is built from, and one commit."""
    folder = tmp_path / "clone"
    for name in ("sb3_plastic", "scripts", "zoo_configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "a")
    return folder


def git(folder, *words):
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_a_package_of_a_clone_with_an_address_leads_there_also_by_way_of_its_sdist(clone, tmp_path):
    git(clone, "remote", "add", "origin", "git@example.org:someone/plastic.git")
    metadata, commit = packaged(clone, tmp_path / "unpacked"), git(clone, "rev-parse", "HEAD")
    address = "https://example.org/someone/plastic"
    assert dict(url.split(", ") for url in metadata.get_all("Project-URL")) == {
        "Source": address,
        "Documentation": f"{address}/blob/{commit}/docs/index.md",
        "Changelog": f"{address}/blob/{commit}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    found = links(metadata)
    assert len(found) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text()))
    assert all(link.startswith("https://") for link in found)
    assert f"{address}/raw/{commit}/docs/media/replugged.gif" in found
    assert f"{address}/tree/{commit}/zoo_configs" in found
    assert f"{address}/blob/{commit}/docs/extending.md#a-critic-that-sees-more-than-the-actor" in found


def test_a_tag_and_the_variable_come_before_commit_and_remote(clone, tmp_path):
    git(clone, "remote", "add", "origin", "https://example.org/someone/plastic")
    git(clone, "tag", "v1")
    metadata = packaged(clone, tmp_path / "unpacked", SB3_PLASTIC_REPOSITORY="https://example.org/another/name")
    assert "https://example.org/another/name/blob/v1/docs/concepts.md" in links(metadata)


def test_a_package_of_a_clone_of_a_folder_has_no_address_and_the_readme_as_it_is(clone, tmp_path):
    git(clone, "remote", "add", "origin", str(ROOT))
    metadata = packaged(clone, tmp_path / "unpacked")
    assert metadata.get_all("Project-URL") is None
    assert metadata.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()


def test_a_word_that_is_no_address_is_refused(clone):
    with pytest.raises(subprocess.CalledProcessError) as error:
        built("wheel", clone, SB3_PLASTIC_REPOSITORY="someone/plastic")
    assert b"SB3_PLASTIC_REPOSITORY is 'someone/plastic', which is no address" in error.value.stderr


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://example.org/someone/plastic.git", "https://example.org/someone/plastic"),
        ("https://name:password@example.org:8443/plastic/", "https://example.org:8443/plastic"),
        ("ssh://git@example.org:22/group/someone/plastic.git", "https://example.org/group/someone/plastic"),
        ("git@example.org:someone/plastic.git", "https://example.org/someone/plastic"),
        *((path, None) for path in ("/srv/plastic.git", "../plastic.git", "file:///srv/plastic", "C:/plastic", "")),
        *((private, None) for private in ("https://127.0.0.1:80/a/b", "https://localhost/a", "work:a/b")),
    ],
)
def test_the_address_of_a_remote_is_a_page_without_a_password(remote, address):
    assert runpy.run_path(str(ROOT / "scripts" / "address.py"))["web_address"](remote) == address


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
    assert len({*listed}) == len(listed)
    assert {*listed} == {*sb3_plastic._HOMES, "__version__"}
    assert {"adaptive", *listed} <= {*dir(sb3_plastic)}
    assert not {"register_envs", "import_module"} & {*dir(sb3_plastic)}
    for name in sb3_plastic._HOMES:
        assert getattr(sb3_plastic, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'PlasticPP0'"):
        sb3_plastic.PlasticPP0  # noqa: B018


def test_a_type_checker_refuses_a_name_that_the_package_does_not_have(tmp_path):
    package = tmp_path / "sb3_plastic"
    package.mkdir()
    shutil.copy(ROOT / "sb3_plastic" / "__init__.py", package)  # alone: its modules would ask for torch's types
    options = ["--no-site-packages", "--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *options, "-c", "from sb3_plastic import PlasticPP0, PlasticPPO"]
    found = subprocess.run(command, cwd=tmp_path, env=os.environ | {"MYPYPATH": "."}, capture_output=True, text=True)
    assert 'has no attribute "PlasticPP0"; maybe "PlasticPPO"?' in found.stdout
    assert "Found 1 error" in found.stdout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """
    Runs a command in a fresh environment with the wheel and without the sources, in an empty folder. Other packages
    are those of this environment: a line of a .pth file brings them, but none of the .pth files among them, which may
    lead back to the sources.
    """
    base = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base / "venv"], check=True)
    python = base / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = (base / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(
        "\n".join({sysconfig.get_path(name) for name in ("purelib", "platlib")}) + "\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ["PATH"] = f"{python.parent}{os.pathsep}{environ['PATH']}"
    (base / "empty").mkdir()

    def run(*command):
        return subprocess.run(command, cwd=base / "empty", env=environ, capture_output=True, text=True)

    where = run("python", "-c", "import sb3_plastic; print(sb3_plastic.__file__)").stdout
    assert Path(where.strip()) == packages / "sb3_plastic" / "__init__.py"
    return run


@pytest.mark.slow
def test_the_wheel_runs_the_ten_lines_of_the_readme(installed):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    done = installed("python", "-c", code)
    assert done.returncode == 0, done.stderr
    before, after = map(float, re.findall(r"return \w+: ([\d.]+)", done.stdout))
    assert after > 3 * before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_of_the_wheel_has_help(installed, command):
    done = installed("sb3-plastic", *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"sb3-plastic {command}".strip() in done.stdout


@pytest.mark.slow
def test_the_wheel_trains_evaluates_reports_and_packages_without_a_stray_line(installed):
    """The last of each command is the line that it ends with."""
    robot = "logs/plastic_ppo/HalfCheetah-v5_1"
    for command, last in {
        "train --env HalfCheetah-v5 -n 512 --seed 1 -params n_envs:2 n_steps:64 batch_size:64": "Saving to logs/",
        f"evaluate --model {robot} --tier smoke --episodes 1 --steps 40 --label plastic --out results": "Wrote",
        "report results --out report": "",
        f"package {robot} --to hub --episodes 1 --video-steps 5": "Wrote hub",
        "enjoy --model hub --no-render --episodes 1": "Mean return of 1 episodes",
        "inspect hub": "asks to run code:     no",
        "perturbations list": "",
        "study temporal --help": "",
    }.items():
        done = installed("sb3-plastic", *shlex.split(command))
        stray = [line for line in done.stderr.splitlines() if not line.startswith("Compiling the fused kernels")]
        assert (done.returncode, stray) == (0, []), command
        assert last in done.stdout.splitlines()[-1], command
    made = {*installed("ls", "-A").stdout.split()} - {"plastic_cartpole.zip"}  # of the ten lines
    assert made == {"hub", "logs", "report", "results"}  # and no MUJOCO_LOG.TXT
