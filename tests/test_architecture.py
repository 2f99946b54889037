"""The package is layered: each module imports only from those above it."""

import ast
from pathlib import Path

import sb3_plastic

ROOT = Path(sb3_plastic.__file__).parent
ORDER = [
    "state",
    "surrogate",
    "neurons",
    "plasticity",
    "ops",
    "coding",
    "network",
    "interventions",
    "observations",
    "buffers",
    "policies",
    "monitor",
    "saving",
    "ppo",
    "population",
    "normalization",
    "strategies",
    "es",
]
# These know nothing of spiking networks: they serve and judge any SB3 model.
INDEPENDENT = ["wrappers", "perturbations", "evaluation", "stats", "files", "document", "report", "tasks"]


def imported_modules(path: Path) -> set[str]:
    """Names of the package's own top-level modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sb3_plastic."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("sb3_plastic.")}
    return names


def files_of(module: str) -> list[Path]:
    return sorted((ROOT / module).rglob("*.py")) or [path for path in [ROOT / f"{module}.py"] if path.exists()]


def test_each_module_imports_only_from_those_above_it():
    for i, module in enumerate(ORDER):
        assert files_of(module), module
        for path in files_of(module):
            assert imported_modules(path) <= set(ORDER[: i + 1]), path


def test_what_judges_models_knows_nothing_of_spiking_networks():
    for module in INDEPENDENT:
        for path in files_of(module):
            assert imported_modules(path) <= set(INDEPENDENT), path


def test_studies_stand_on_top():
    for path in files_of("study"):
        assert imported_modules(path) <= {*ORDER, *INDEPENDENT, "study"}, path
    for path in ROOT.rglob("*.py"):
        assert path.parent.name == "study" or "study" not in imported_modules(path), path


def test_only_the_doors_into_rl_zoo_import_it():
    for path in ROOT.rglob("*.py"):
        if path.name not in ("zoo.py", "cli.py"):
            assert "rl_zoo3" not in {name.split(".")[0] for name in third_party_imports(path)}, path


def third_party_imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return names | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
