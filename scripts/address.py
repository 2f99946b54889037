"""
The project's address, found out when a package is built: no file names it, so that a fork or a move needs no edit.

Hatchling calls this hook (pyproject.toml). It knows the address from ``SB3_PLASTIC_REPOSITORY``, or from the remote
``origin`` of the clone. With it, the package has project URLs, and the links of its README lead to the commit that it
was built from. Without one it has no URLs, and the README is as it is. An sdist keeps what it was built with.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "SB3_PLASTIC_REPOSITORY"
PICTURES = (".gif", ".png", ".svg")


class AddressHook(MetadataHookInterface):
    """Fills in ``readme`` and ``urls`` of ``[project]``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """
        Hatchling calls this with the metadata.

        :param metadata: of the project, changed in place
        :raises ValueError: if the variable holds no address
        """
        root = Path(self.root)
        address = address_of(root)
        text = (root / "README.md").read_text(encoding="utf-8")
        if address is not None:
            commit = _git(root, "describe", "--tags", "--exact-match") or _git(root, "rev-parse", "HEAD") or "HEAD"
            text = with_absolute_links(text, root, address, commit)
            metadata["urls"] = {
                "Source": address,
                "Documentation": f"{address}/blob/{commit}/docs/index.md",
                "Changelog": f"{address}/blob/{commit}/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
        else:
            metadata["urls"] = {}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def address_of(root: Path) -> str | None:
    """
    Where a browser finds the repository.

    :param root: of the source tree
    :return: an ``https`` address; None: there is none, or a path or a host of a private network
    :raises ValueError: if the variable holds no address
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        return web_address(_git(root, "remote", "get-url", "origin"))
    found = web_address(named)
    if named and found is None:
        raise ValueError(f"{VARIABLE} is {named!r}, which is no address such as https://example.org/owner/name.")
    return found


def web_address(remote: str) -> str | None:
    """
    The page of a repository, without name or password.

    :param remote: as git has it: ``https://host/owner/name.git``, ``ssh://git@host/owner/name``,
        ``git@host:owner/name.git``
    :return: ``https://host/owner/name``; None: the remote is something else
    """
    name, port = r"(?P<host>[\w.-]+\.[a-z]{2,})", r"(:\d+)?"
    forms = (
        rf"https://([^/@]*@)?(?P<host>[\w.-]+\.[a-z]{{2,}}{port})/",
        rf"ssh://([^/@]*@)?{name}{port}/",
        rf"([\w.-]+@)?{name}:",
    )
    for form in forms:
        if match := re.fullmatch(rf"{form}(?P<path>[\w./~-]+?)(\.git)?/?", remote):
            return f"https://{match['host']}/{match['path'].strip('/')}"
    return None


def with_absolute_links(markdown: str, root: Path, address: str, commit: str) -> str:
    """
    A page of which each link and picture is found from anywhere.

    :param markdown: of a page at the root
    :param root: of the source tree
    :param address: of the repository
    :param commit: or tag
    """

    def absolute(match: re.Match[str]) -> str:
        path, mark, anchor = match[0].partition("#")
        kind = "raw" if path.endswith(PICTURES) else "tree" if (root / path).is_dir() and path else "blob"
        return f"{address}/{kind}/{commit}/{path or 'README.md'}{mark}{anchor}"

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [re.sub(r"(?<=\]\()(?![a-z]+:)[^)\s]+", absolute, part) for part in parts[::2]]
    return "".join(parts)


def _git(root: Path, *words: str) -> str:
    """What git says of this very folder; nothing, if it is no clone, or there is no git."""
    if not (root / ".git").exists():
        return ""  # a folder above may be the clone of something else
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
