"""The house rules that docs/development.md states: sizes of files, imports, types, docstrings."""

import ast
import io
import re
import statistics
import tokenize
from pathlib import Path

import pytest

import sb3_plastic

PACKAGE = Path(sb3_plastic.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): tree for path, tree in TREES.items()}
IS_PACKAGE = {module_name(path) for path in FILES if path.name == "__init__.py"}


def statements(body):
    """All statements that run when a module is imported: those of functions and of `if TYPE_CHECKING` do not."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse)
            continue
        yield node
        for block in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, block, []))
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body)


def imported_modules(name, tree):
    """The modules of the package that a module imports when it is imported itself, without its own packages."""
    found = set()
    for node in statements(tree.body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: absolute imports alone"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return {module for module in found if module in MODULES} - {name}


def test_docstrings_name_each_parameter_by_itself_and_say_what_it_is():
    found = [
        f"{path.name}: {line.strip()}"
        for path in FILES
        for line in path.read_text().splitlines()
        if re.search(r":param \w+,|:(param \w+|return):( :|\s*(\"\"\")?$)", line)
    ]
    assert found == []


def test_files_are_short():
    lines = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in lines.items() if n > 400} == {}
    assert statistics.median(lines.values()) <= 110


def test_no_module_imports_itself_in_a_circle():
    graph = {name: imported_modules(name, tree) for name, tree in MODULES.items()}
    while free := {name for name, imports in graph.items() if not imports & graph.keys()}:
        graph = {name: imports for name, imports in graph.items() if name not in free}
    assert sorted(graph) == []


def is_public(name):
    return not name.startswith("_")


def definitions(tree, prefix=""):
    """Public functions, classes and methods of a module, with their names; those of functions are private."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and is_public(node.name):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, f"{node.name}.")


def is_documented(node):
    """By a docstring, or by the law of a kind of perturbation, which `kind` makes the docstring."""
    decorators = [ast.unparse(decorator.func) for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
    return ast.get_docstring(node) is not None or "kind" in decorators


def test_public_names_are_documented():
    named = [(f"{module}:{name}", node) for module, tree in MODULES.items() for name, node in definitions(tree)]
    missing = [name for name, node in named if not is_documented(node)]
    modules = [name for name, tree in MODULES.items() if ast.get_docstring(tree) is None]
    assert modules == []
    assert len(missing) <= 0.02 * len(named), missing


def test_everything_is_typed():
    """Every argument and every result; mypy checks that the types are right."""
    untyped = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                arguments += [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
                named = [a for a in arguments if a.arg not in ("self", "cls")]
                if node.returns is None or any(a.annotation is None for a in named):
                    untyped.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert untyped == []


def comments(path):
    return [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.COMMENT
    ]


def test_few_types_are_ignored():
    ignored = [path.name for path in FILES for comment in comments(path) if "type: ignore" in comment]
    assert len(ignored) <= 25, {name: ignored.count(name) for name in ignored}


@pytest.mark.parametrize("code", ["if TYPE_CHECKING:\n    import a", "def f():\n    import a"])
def test_imports_that_do_not_run_on_import_are_left_out(code):
    assert not [node for node in statements(ast.parse(code).body) if isinstance(node, ast.Import)]
