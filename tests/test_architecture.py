"""The package is layered: which room may import from which others, in every form that an import takes."""

import ast
from pathlib import Path

import pytest

import sb3_plastic

ROOT = Path(sb3_plastic.__file__).parent

ALLOWED = {
    "errors": "",
    "algorithms": "errors",
    "answers": "errors",
    "extensions": "",
    "files": "",
    "lazy": "",
    "seals": "",
    "versions": "errors",
    "yaml_numbers": "",
    "progress": "",
    "safe": "errors yaml_numbers",
    "export": "copying errors files seals versions safe seeding",
    "observations": "errors",
    "seeding": "",
    "copying": "",
    "wrappers": "errors",
    "snn": "errors",
    "tasks": "errors",
    "simulator": "",
    "perturbations": "errors files progress seeding simulator yaml_numbers",
    "registration": "perturbations",
    "undisturbed": "",
    "adaptive": "errors files seals progress safe export snn undisturbed wrappers",
    "evaluation": "copying extensions seeding errors finite algorithms files lazy seals versions safe export "
    "observations wrappers perturbations adaptive simulator progress undisturbed yaml_numbers",
    "adapt": "adaptive errors evaluation export progress",
    "report": "errors files perturbations evaluation progress",
    "buffers": "errors observations adaptive",
    "finite": "errors observations",
    "stamp": "errors versions",
    "asymmetric": "errors",
    "teacher": "algorithms errors export observations safe",
    "clipping": "errors",
    "stepper": "errors finite snn observations",
    "acting": "adaptive export snn stepper",
    "policies": "acting adaptive teacher errors asymmetric snn buffers stepper",
    "monitor": "adaptive teacher snn observations buffers stepper policies",
    "saving": "errors files finite stamp versions",
    "ppo": "teacher errors finite snn observations buffers clipping stepper policies monitor saving",
    "distillation": "evaluation export errors files observations policies ppo progress safe stepper teacher wrappers",
    "callbacks": "errors snn monitor ppo evaluation",
    "exploration": "errors",
    "learning_rate": "errors",
    "es": "buffers copying seeding errors export versions finite snn observations policies stepper monitor saving",
    "tuning": "journal",
    "journal": "",
    "sampling": "",
    "zoo_callbacks": "files",
    "help": "",
    "zoo": "errors files extensions algorithms evaluation journal safe sampling tuning yaml_numbers zoo_callbacks",
    "studies": "adaptive algorithms extensions wrappers lazy export safe seals seeding errors es snn tasks files "
    "perturbations evaluation report ppo zoo versions undisturbed",
    "interchange": "copying errors files export policies snn",
    "artefacts": "adaptive seeding simulator algorithms errors files versions safe export evaluation interchange "
    "observations progress snn",
    "cli": "answers artefacts adapt distillation errors extensions files help simulator zoo perturbations evaluation "
    "report studies",
    "__main__": "cli",
}
"""Room (a file or folder of the package) -> the rooms that it may import from, beside itself."""

RL_ZOO = ["zoo.py", "cli.py"]
"""The files that import RL Zoo."""


def package_of(path: Path) -> list[str]:
    """The dotted name of the package that a file lies in: sb3_plastic/snn/state.py -> [sb3_plastic, snn]."""
    return ["sb3_plastic", *path.relative_to(ROOT).parts[:-1]]


def imports(tree: ast.AST, package: list[str]) -> set[str]:
    """Dotted names that a file imports: of ``from a import b`` both ``a`` and ``a.b``; relative ones made absolute."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def rooms_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(ast.parse(path.read_text()), package_of(path)))
    return {name[1] for name in names if name[0] == "sb3_plastic" and len(name) > 1} & set(ALLOWED)


def files_of(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py")) or [ROOT / f"{room}.py"]


def test_every_room_has_its_rule():
    found = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_from_those_it_may(room):
    for path in files_of(room):
        assert rooms_imported(path) <= {room, *ALLOWED[room].split()}, path


def test_the_allowed_directions_have_no_circle():
    order: list[str] = []
    while len(order) < len(ALLOWED):
        free = [room for room in ALLOWED if room not in order and set(ALLOWED[room].split()) <= set(order)]
        assert free, f"a circle among {set(ALLOWED) - set(order)}"
        order += free


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import sb3_plastic.ppo", "sb3_plastic.ppo"),
        ("import sb3_plastic.es.algorithm as a", "sb3_plastic.es.algorithm"),
        ("from sb3_plastic import ppo", "sb3_plastic.ppo"),
        ("from sb3_plastic.ppo import PlasticPPO", "sb3_plastic.ppo"),
        ("from .. import ppo", "sb3_plastic.ppo"),
        ("from ..ppo import PlasticPPO", "sb3_plastic.ppo"),
        ("def f():\n    from sb3_plastic import ppo", "sb3_plastic.ppo"),
    ],
)
def test_every_form_of_import_is_seen(line, seen):
    assert seen in imports(ast.parse(line), ["sb3_plastic", "snn"])


def test_only_the_doors_into_rl_zoo_import_it():
    for path in ROOT.rglob("*.py"):
        if path.name not in RL_ZOO:
            names = imports(ast.parse(path.read_text()), package_of(path))
            assert not any(name.split(".")[0] == "rl_zoo3" for name in names), path


def test_only_studies_import_what_windows_has_not():
    for path in set(ROOT.rglob("*.py")) - set(files_of("studies")):
        body = ast.parse(path.read_text()).body  # not what functions import, which may do without it
        needed = ast.Module([node for node in body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        assert not {"fcntl", "pwd", "resource"} & imports(needed, package_of(path)), path
