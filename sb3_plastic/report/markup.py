"""Text, links and tables as Markdown and as HTML, for a document; names in them cannot inject markup."""

from __future__ import annotations

import html
import re

# A link to an anchor or to a file below the document: no scheme, no other host, nothing that ends an attribute.
_LINK = re.compile(r"\[([^\[\]]+)\]\((#?[\w.-][\w./-]*)\)")


def _parts(text: str) -> list[str]:
    """Text and code in turns. Runs of backticks become one: then all renderers agree on where code ends."""
    return re.split(r"`([^`]+)`", re.sub("`+", "`", text))


def inline(text: str) -> str:
    """
    Text as HTML, with its code, strong words and links.

    :param text: with backticks, ``**`` and links of Markdown; HTML in it is shown, not obeyed
    """
    parts = [html.escape(part) for part in _parts(text)]
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"<code>{part}</code>"
        else:
            linked = _LINK.sub(r'<a href="\2">\1</a>', part)
            parts[i] = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", linked)
    return "".join(parts)


def safe(text: str) -> str:
    """
    Text as Markdown. What a renderer takes for HTML, for a link elsewhere or for an unclosed code is escaped.

    :param text: as for :func:`inline`
    """
    parts = _parts(text)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"`{part}`"
        else:
            pieces = _LINK.split(part)  # text, name of a link, its address, text, ...
            pieces[::3] = [re.sub(r"[\\<`]|\](?=[(:\[])", r"\\\g<0>", piece) for piece in pieces[::3]]
            links = zip(pieces[1::3], pieces[2::3], strict=True)
            ends = [f"[{name}]({address})" for name, address in links]
            parts[i] = "".join(a + b for a, b in zip(pieces[::3], [*ends, ""], strict=True))
    return "".join(parts)


def anchor(text: str) -> str:
    """
    The anchor of a heading, as most renderers of Markdown make it.

    :param text: of the heading
    """
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text.lower()))


def markdown_table(header: list[str], is_number: list[bool], cells: list[list[str]]) -> str:
    """
    A table as Markdown.

    :param header: of C columns
    :param is_number: which columns hold numbers, C
    :param cells: rows of C
    """
    rule = ["---:" if number else "---" for number in is_number]
    rows = [[safe(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in [header, *cells]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def html_table(header: list[str], is_number: list[bool], cells: list[list[str]], caption: str) -> str:
    """
    A table as HTML.

    :param header: of C columns
    :param is_number: which columns hold numbers, C
    :param cells: rows of C
    :param caption: stands above it; empty: none
    """

    def row(tag: str, values: list[str]) -> str:
        kinds = [
            "number" if number else "long" if len(value) > 40 else ""
            for number, value in zip(is_number, values, strict=True)
        ]
        marks = [f' class="{kind}"' if kind else "" for kind in kinds]
        pairs = zip(marks, values, strict=True)
        return f"<tr>{''.join(f'<{tag}{mark}>{inline(value)}</{tag}>' for mark, value in pairs)}</tr>"

    above = f"<figcaption>{inline(caption)}</figcaption>\n" if caption else ""
    head, body = f"<thead>{row('th', header)}</thead>", "\n".join(row("td", values) for values in cells)
    table = f"<table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<figure>\n{above}<div class="wide">{table}</div>\n</figure>'
