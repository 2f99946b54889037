"""
What MkDocs does not do by itself: the command reference, links to files of the repository that are no pages, and roles
of Sphinx in docstrings.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

TERMS = {
    "STDP": "comparison",
    "three-factor rule": "concepts",
    "fast weights": "concepts",
    "meta-RL": "comparison",
    "asymmetric critic": "extending",
    "MuJoCo": "install",
    "ONNX": "interchange",
    "Ray": "scaling",
    "reversed motors": "perturbations",
    "neuromodulation": "concepts",
    "lifelong learning": "comparison",
    "DAgger": "extending",
    "SAC": "limits",
}
"""What users search for, and a page that the site's search must offer for it."""


def run_help(*command: str) -> str:
    """
    The help of a command, as a terminal of 100 columns shows it.

    :param command: its words; none for `sb3-plastic` itself
    """
    words = [sys.executable, "-m", "sb3_plastic.cli", *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "100"}).stdout


def command_reference() -> str:
    """Markdown with the help of every command."""
    from sb3_plastic.cli import COMMANDS
    from sb3_plastic.studies.cli import STUDIES

    commands: list[tuple[str, ...]] = [(), *((name,) for name in COMMANDS), *(("study", name) for name in STUDIES)]
    sections = [(" ".join(["sb3-plastic", *words]), run_help(*words)) for words in commands]
    return "\n".join(f"## {title}\n\n```text\n{text.strip()}\n```\n" for title, text in sections)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """
    MkDocs calls this with the text of each page.

    :return: the text with the command reference filled in, and links that lead out of docs/ as plain text
    """
    if page.file.src_uri == "commands.md":
        markdown = markdown.replace("<!-- commands -->", command_reference())
    folder = PurePosixPath(page.file.src_uri).parent

    def without_outside_link(match: re.Match[str]) -> str:
        text, target = match.groups()
        outside = "://" not in target and normpath(str(folder / target)).startswith("..")
        return f"{text} (`{normpath(target).removeprefix('../')}`)" if outside else match.group(0)

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", without_outside_link, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """
    MkDocs calls this with the HTML of each page.

    :return: without the roles of Sphinx, which docstrings have for editors: ``:class:`~a.b.C``` is ``C``
    """
    return re.sub(r":(?:class|data|func|meth|mod):<code>(?:~(?:\w+\.)*)?([\w.]+)</code>", r"<code>\1</code>", html)


def not_found(entries: list[dict[str, str]]) -> list[str]:
    """
    The terms whose page the search does not offer.

    :param entries: of the search index: ``location``, ``title`` and ``text`` of each section of the site
    """
    texts: dict[str, str] = {}
    for entry in entries:
        page = entry["location"].partition(".html")[0]
        texts[page] = f"{texts.get(page, '')} {entry['title']} {entry['text']}".lower()
    return [term for term, page in TERMS.items() if term.lower() not in texts.get(page, "")]


def on_post_build(config: Any) -> None:
    """
    MkDocs calls this when the site is built.

    :raises PluginError: if the search does not lead to where it must
    """
    from mkdocs.exceptions import PluginError

    index = json.loads((Path(config["site_dir"]) / "search" / "search_index.json").read_text(encoding="utf-8"))
    if missing := not_found(index["docs"]):
        raise PluginError(f"The site's search does not find these terms on their pages (TERMS): {', '.join(missing)}")
