"""The code that the documentation shows runs."""

import re
from pathlib import Path

import pytest

from sb3_plastic.es.strategies import STRATEGIES
from sb3_plastic.snn.neurons import NEURONS
from sb3_plastic.snn.rules import RULES

ROOT = Path(__file__).parents[1]
BLOCKS = [
    pytest.param(code, id=f"{path.name}-{i}")
    for path in (
        ROOT / "README.md",
        *(ROOT / "docs" / f"{name}.md" for name in ("extending", "perturbations", "evaluation", "temporal")),
    )
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]


def test_there_are_examples():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("code", BLOCKS)
def test_the_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(RULES), dict(NEURONS), dict(STRATEGIES)
    try:
        exec(compile(code, "example", "exec"), {})
    finally:
        for registry, entries in zip((RULES, NEURONS, STRATEGIES), before, strict=True):
            registry.clear()
            registry.update(entries)
