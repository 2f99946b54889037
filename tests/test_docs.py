"""What the documentation shows works: its code runs, its commands and their options exist."""

import inspect
import pkgutil
import re
import runpy
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import answer

import sb3_plastic
from sb3_plastic import cli
from sb3_plastic.adaptive.hypotheses import HYPOTHESES, RIVALS
from sb3_plastic.adaptive.options import LayerOptions
from sb3_plastic.algorithms import ALGORITHMS
from sb3_plastic.callbacks import CHARTS
from sb3_plastic.es.strategies import STRATEGIES
from sb3_plastic.evaluation.fault_kinds import FAULTS
from sb3_plastic.evaluation.measures import MEASURES
from sb3_plastic.evaluation.records import CONTROLS, PROTOCOLS
from sb3_plastic.help import HELP
from sb3_plastic.perturbations import ROBOTS
from sb3_plastic.perturbations.kinds import KINDS
from sb3_plastic.perturbations.spec import FORMS, LAWS
from sb3_plastic.perturbations.suites import suite_names
from sb3_plastic.snn.config import RATES
from sb3_plastic.snn.encoders import ENCODERS
from sb3_plastic.snn.neurons import NEURONS
from sb3_plastic.snn.readouts import READOUTS
from sb3_plastic.snn.rules import MODULATIONS, RULES
from sb3_plastic.snn.surrogate import SURROGATES
from sb3_plastic.studies.agents import ARMS
from sb3_plastic.zoo import config_file

REGISTRIES: tuple[dict[str, Any], ...] = (RULES, NEURONS, ENCODERS, READOUTS, STRATEGIES, HYPOTHESES, KINDS)
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "guides").glob("*.md")),
    *sorted((DOCS / "results").rglob("*.md")),
]


GUIDES = [page for page in PAGES if DOCS / "results" not in page.parents and page.name != "api.md"]


def blocks(language: str) -> list[tuple[Path, str]]:
    return [
        (page, code) for page in PAGES for code in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    ]


def commands() -> list[tuple[Path, list[str]]]:
    """The `sb3-plastic` lines of all shell blocks, and those that stand in the text, as words."""
    lines = [(page, line) for page, code in blocks("bash") for line in code.replace("\\\n", " ").splitlines()]
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        lines += [(page, line) for line in re.findall(r"`(sb3-plastic (?!COMMAND)[^`]+)`", text)]
    words = [(page, shlex.split(line, comments=True)) for page, line in lines if "sb3-plastic" in line]
    return [(page, found[found.index("sb3-plastic") + 1 :]) for page, found in words if "sb3-plastic" in found]


@cache
def help_of(command: str) -> str:
    return answer([*command.split(), "--help"])


def test_the_pages_that_teach_have_examples():
    found = {page.name for page, _ in blocks("python")}
    assert {"README.md", "index.md", "extending.md", "perturbations.md", "evaluation.md", "training.md"} <= found
    assert {"README.md", "install.md", "first_hour.md", "evaluation.md"} <= {page.name for page, _ in blocks("bash")}


LONG = "# takes a minute or two\n"
"""The first line of an example that trains: it runs with the slow tests."""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=f"{page.stem}-{i}", marks=[pytest.mark.slow] * code.startswith(LONG))
        for i, (page, code) in enumerate(blocks("python"))
    ],
)
def test_the_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(DOCS)
    if not code.startswith(LONG):
        code = re.sub(r"\.learn\((\d+_000|\d{4})\)", ".learn(2000)", code)  # whether it learns, slow tests see
        monkeypatch.setattr("sb3_plastic.distillation.distilling.UPDATES", 2)
    before = [dict(registry) for registry in REGISTRIES]
    try:
        exec(compile(code, "example", "exec"), {})
    finally:
        for registry, entries in zip(REGISTRIES, before, strict=True):
            registry.clear()
            registry.update(entries)


@pytest.mark.slow
def test_the_example_of_the_readme_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[0][1], "example", "exec"), names)
    assert names["evaluate_policy"](names["model"], names["env"], 16)[0] > 300


NESTED = ("study", "perturbations")
"""Commands that have commands of their own."""


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{page.stem}-{i}") for i, (page, words) in enumerate(commands())]
)
def test_the_command_and_its_options_exist(words):
    if words[0] == "--import":
        assert words.pop(0) in help_of("")
        del words[0]
    depth = 2 if words[0] in NESTED else 1
    if words[0].startswith("-"):
        depth = 0
    text = help_of(" ".join(words[:depth]))
    for word in words[depth:]:
        if re.fullmatch(r"--?[a-z][\w-]*", word):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text), (
                f"{word} is no option: {shlex.join(words)}"
            )


AT_ONCE = ("list", "describe", "inspect", "export", "convert")
"""Commands that take seconds."""


def from_the_repository_alone() -> list[tuple[Path, list[str]]]:
    """Those commands that need no files but the repository's."""
    found = [(page, words) for page, words in commands() if {*words[:2]} & {*AT_ONCE}]
    return [
        (page, words)
        for page, words in found
        if words[0] == "perturbations" or any(word.startswith("docs/") and (ROOT / word).exists() for word in words)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{page.stem}-{i}") for i, (page, words) in enumerate(from_the_repository_alone())]
)
def test_the_quick_command_runs(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(DOCS)
    assert cli.main(words) in (0, None)


@pytest.mark.slow
def test_the_first_commands_of_the_readme_make_a_film_and_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(DOCS)
    first = blocks("bash")[0][1]
    words = [shlex.split(line, comments=True)[1:] for line in first.splitlines() if line.startswith("sb3-plastic ")]
    assert [command[0] for command in words] == ["record", "evaluate", "report"]
    for command in words:
        assert cli.main(command) == 0
    assert Path("replugged.gif").stat().st_size > 100_000
    assert "HalfCheetah, nothing perturbed" in Path("report/report.html").read_text()


OWN_ARMS = [name for name in ARMS if name not in HYPOTHESES or name in RIVALS]
"""Arms of studies that are not one hypothesis alone."""

LISTS: dict[str, Iterable[str]] = {
    "adaptation.md": [*HYPOTHESES, *(field.name for field in fields(LayerOptions))],
    "concepts.md": [*RULES, *MODULATIONS, *RATES, *SURROGATES, *ENCODERS, *READOUTS],
    "evaluation.md": [*ALGORITHMS, *PROTOCOLS, *CONTROLS, *FAULTS, *MEASURES, *OWN_ARMS, *ROBOTS],
    "perturbations.md": [*KINDS, *FORMS, *LAWS, *suite_names(), *ROBOTS],
    "scaling.md": STRATEGIES,
}
"""Names that a page lists in full."""


@pytest.mark.parametrize("page", LISTS)
def test_the_page_names_all_that_there_is(page):
    text = (DOCS / page).read_text()
    assert [name for name in LISTS[page] if not re.search(rf"(?<![\w-]){name}(?![\w-])", text)] == []


def test_the_reference_has_all_public_names_and_those_that_the_guides_name():
    entries = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert {f"sb3_plastic.{name}" for name in sb3_plastic.__all__} - {"sb3_plastic.__version__"} <= {*entries}
    for entry in entries:
        assert inspect.getdoc(pkgutil.resolve_name(entry)), entry
    found = {id(pkgutil.resolve_name(entry)) for entry in entries}
    for page in GUIDES:
        for name in names_of_ours(page.read_text()):
            value = pkgutil.resolve_name(name)
            of_a_module = any(name.startswith(f"{entry}.") for entry in entries)
            assert inspect.ismodule(value) or id(value) in found or of_a_module, f"{page.name} names {name}"


def names_of_ours(text: str) -> list[str]:
    """The dotted names of ours in a text, and what its examples import."""
    imports = re.findall(r"^from (sb3_plastic\S*) import (.*)$", text, re.MULTILINE)
    imported = [f"{module}.{name}" for module, names in imports for name in names.split(", ")]
    return imported + re.findall(r"sb3_plastic(?:\.\w+)+", text)


def named(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The classes and functions of ours that a configuration names, with their arguments."""
    if isinstance(value, str) and value.startswith("sb3_plastic."):
        yield value, {}
    for part in value.items() if isinstance(value, dict) else ():
        yield from [part] if part[0].startswith("sb3_plastic.") else named(part[1])
    for part in value if isinstance(value, list) else ():
        yield from named(part)


def test_the_guide_explains_each_statistic_of_a_layer():
    text = (DOCS / "guides" / "training.md").read_text()
    assert [name for names in CHARTS.values() for name in names if f"_{name}`" not in text] == []


def test_the_help_of_plot_names_the_files_that_it_writes():
    assert all(f"{function}.png" in HELP["plot"] for function, _, _ in cli.PLOTS.values())


def test_the_recipes_with_a_layer_are_those_without():
    plain, layered = (yaml.safe_load(config_file(name).read_text()) for name in ("plastic_ppo", "plastic_ppo_adaptive"))
    for env_id, recipe in layered.items():
        without = plain.get(env_id, plain["default"])
        adaptive = {"adaptive": recipe["policy_kwargs"]["adaptive"]}
        assert recipe == without | {"policy_kwargs": without["policy_kwargs"] | adaptive}


@pytest.mark.parametrize("code", [pytest.param(code, id=f"{p.stem}-{i}") for i, (p, code) in enumerate(blocks("yaml"))])
def test_what_a_configuration_names_takes_these_arguments(code):
    for name, arguments in named(yaml.safe_load(code)):
        inspect.signature(pkgutil.resolve_name(name)).bind_partial(**arguments)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_files_and_headings_that_are_linked_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", text)):
        path = page.parent / target if target else page
        assert "://" in target or path.exists(), f"{page.name} links to {target}"
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", h.lower())) for h in headings}, anchor


def test_the_site_is_not_built_if_its_search_misses_a_term():
    hooks = runpy.run_path(str(ROOT / "scripts" / "site_hooks.py"))
    entries = [
        {"location": f"{page}.html#a", "title": "", "text": term.upper()} for term, page in hooks["TERMS"].items()
    ]
    assert hooks["not_found"](entries) == []
    assert hooks["not_found"](entries[1:]) == ["STDP"]


def test_the_site_shows_names_without_their_roles():
    hooks = runpy.run_path(str(ROOT / "scripts" / "site_hooks.py"))
    shown = hooks["on_page_content"]("see :class:<code>~a.b.C</code> and :func:<code>a.f</code>", page=None)
    assert shown == "see <code>C</code> and <code>a.f</code>"
