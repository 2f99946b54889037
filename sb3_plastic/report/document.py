"""A document of headings, paragraphs, tables and figures, written as Markdown and as one HTML file.

    document = Document("What was found")
    document.heading("Results")
    document.paragraph("The network **learned** it: see `scripts/study.sh`.")
    document.table(frame, caption="Returns, three seeds.")
    with plot_style():
        figure = new_figure()
        figure.subplots().plot(returns)
    document.figure("returns", figure, caption="Return per episode. Band: 95 % interval over seeds.")
    document.write("out")

It writes ``report.md``, the figures it shows under ``figures/`` as SVG and PNG, and ``report.html``, which holds all of
it in one file: no script, no other file, no host. The same content gives the same bytes.
``Document(title, small=True)`` draws figures as small PNGs alone, which a repository can keep.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from sb3_plastic.errors import UserError
from sb3_plastic.files import replace_file
from sb3_plastic.report.markup import anchor, html_table, inline, markdown_table, safe
from sb3_plastic.report.template import CSS
from sb3_plastic.report.template import PAGE as PAGE_HTML

FORMATS = ("md", "html")

# Colours that all kinds of colour vision tell apart (Okabe and Ito, 2008), without their yellow, too pale for a line.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
COLUMN, PAGE = 3.5, 7.2  # widths of a figure in inches: one column of a paper, and both
SMALL_DPI = 150  # pixels per inch of a small figure

STYLE: Any = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "font.size": 8,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "savefig.dpi": 300,
    "savefig.facecolor": "white",
    "svg.hashsalt": "sb3_plastic",  # the same figure gives the same file
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@dataclass
class Document:
    """
    What to write, in order.

    Text may hold ``**strong**``, ```code``` and ``[links](address)`` to a place in the document or a file beside it.
    Nothing else is markup, so names that come from results cannot bring scripts, attributes or foreign links into it.

    :param title: stands on top
    :param small: draw figures as small PNGs alone, not as SVG and PNG of the quality of print
    """

    title: str
    small: bool = False
    _blocks: list[_Block] = field(default_factory=list, init=False)

    def heading(self, text: str, level: int = 2) -> None:
        """
        Begin a section.

        :param text: its title; those of level 2 are listed on top of the HTML file
        :param level: 2 to 4
        """
        if level not in (2, 3, 4):
            raise UserError(f"A heading has level 2, 3 or 4, not {level}: level 1 is the title.")
        self._add(f"{'#' * level} {safe(text)}", f'<h{level} id="{anchor(text)}">{inline(text)}</h{level}>')

    def paragraph(self, text: str) -> None:
        """
        Add a paragraph.

        :param text: of one or more lines
        """
        self._add(safe(text), f"<p>{inline(text)}</p>")

    def bullets(self, items: Sequence[str]) -> None:
        """
        Add a list.

        :param items: texts
        """
        lines = "\n".join(f"<li>{inline(item)}</li>" for item in items)
        self._add("\n".join(f"- {safe(item)}" for item in items), f"<ul>\n{lines}\n</ul>")

    def code(self, text: str) -> None:
        """
        Add lines as they are: commands, configurations.

        :param text: without markup
        """
        fence = "`" * (1 + max([2, *(len(run) for run in re.findall("`+", text))]))
        self._add(f"{fence}\n{text}\n{fence}", f"<pre><code>{html.escape(text)}</code></pre>")

    def table(self, rows: pd.DataFrame | Sequence[Mapping[str, Any]], caption: str = "") -> None:
        """
        Add a table.

        :param rows: a frame, whose index is shown if it has a name, or one mapping per row; see :func:`formatted`
        :param caption: stands above it
        """
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
        cells = [[formatted(value) for value in row] for row in frame.itertuples(index=False, name=None)]
        is_number = [all(_NUMBER.fullmatch(row[i]) for row in cells) for i in range(len(frame.columns))]
        header = [str(name) for name in frame.columns]
        above = f"{safe(caption)}\n\n" if caption else ""
        self._add(above + markdown_table(header, is_number, cells), html_table(header, is_number, cells, caption))

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """
        Add a figure, which is drawn at once.

        :param name: of its files, without suffix
        :param figure: draw it within `plot_style`
        :param caption: what is seen, with units, and what an interval is
        :raises UserError: if another figure has this name, or if it is no name of a file
        """
        self._check_name(name)
        suffix, kind, note = ("png", "png", "") if self.small else ("svg", "svg+xml", f" ([PNG](figures/{name}.png))")
        files = {f"{name}.png": small_png(figure)} if self.small else _drawn(figure, name)
        data = base64.b64encode(files[f"{name}.{suffix}"]).decode()
        alt = html.escape(re.sub(r"[*`]", "", caption))
        inches = figure.get_figwidth()
        page = ' class="page"' if inches > COLUMN else ""
        width = round(inches * 151)  # pixels: a figure as wide as a page of paper is as wide as the page on a screen
        self._add(
            f"![{name}](figures/{name}.{suffix})\n\n*{safe(caption.replace('*', ''))}*{note}",
            f'<figure>\n<div class="wide"><img{page} alt="{alt}" width="{width}" '
            f'src="data:image/{kind};base64,{data}"></div>\n'
            f"<figcaption>{inline(caption)}</figcaption>\n</figure>",
            files,
        )

    def pictures(self, name: str, pictures: Mapping[str, NDArray[np.uint8]], caption: str) -> None:
        """
        Add photographs in a row, as small PNGs. Dark paper leaves them as they are.

        :param name: of their files, which are numbered, without suffix
        :param pictures: what is written below each -> the picture [H, W, 3]
        :param caption: what they show
        :raises UserError: if a figure has such a name, or if it is no name of a file
        """
        self._check_name(f"{name}-0")
        files = {f"{name}-{i}.png": _photo(pixels) for i, pixels in enumerate(pictures.values())}
        shown = zip(pictures, files.items(), strict=True)
        photos = [
            f'<figure><img class="photo" alt="{html.escape(below)}" '
            f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
            f"<figcaption>{inline(below)}</figcaption></figure>"
            for below, (_, content) in shown
        ]
        row = "\n".join(photos)
        links = " ".join(f"![{file.removesuffix('.png')}](figures/{file})" for file in files)
        below = "; ".join(map(safe, pictures))
        self._add(
            f"{links}\n\n*{safe(caption.replace('*', ''))} From left to right: {below}.*",
            f'<figure>\n<div class="pictures">\n{row}\n</div>\n<figcaption>{inline(caption)}</figcaption>\n</figure>',
            files,
        )

    def free_name(self, name: str) -> str:
        """A name that no figure has: this one, or with a number. :param name: asked for"""
        taken = {file for block in self._blocks for file in block.files}
        return next(free for free in (name, *(f"{name}-{i}" for i in range(2, 99))) if f"{free}.png" not in taken)

    def _check_name(self, name: str) -> None:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(f"{name!r} is no name of a figure: letters, digits, '_', '-' and '.' are.")
        if any(f"{name}.png" in block.files for block in self._blocks):
            raise UserError(f"There are two figures {name!r}: give each a name of its own.")

    @contextmanager
    def details(self, summary: str) -> Iterator[None]:
        """
        Fold up what is added within, until the reader opens it.

        :param summary: what is seen of it
        """
        opening = f"<details>\n<summary>{html.escape(summary)}</summary>"
        self._add(opening, opening)
        yield
        self._add("</details>", "</details>")

    def markdown(self) -> str:
        """As Markdown, which refers to its figures as ``figures/*``."""
        return "\n\n".join([f"# {safe(self.title)}", *(block.markdown for block in self._blocks)]) + "\n"

    def html(self) -> str:
        """As one HTML file."""
        body = "\n".join(block.html for block in self._blocks)
        contents = re.findall(r'^<h2 id="(.*?)">(.*?)</h2>$', body, re.MULTILINE)
        links = "\n".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in contents)
        title = html.escape(self.title)
        return PAGE_HTML.format(title=title, css=CSS, contents=f"<nav>\n{links}\n</nav>" if links else "", body=body)

    def write(self, folder: str | Path, formats: str | Collection[str] = FORMATS) -> list[Path]:
        """
        Write ``report.md`` with ``figures/``, and ``report.html``, which holds its figures.

        :param folder: made if it is not there; files of the same names are replaced
        :param formats: ``"md"``, ``"html"``, or both
        :return: the documents written, without the figures
        :raises UserError: on an unknown format
        """
        formats = checked_formats(formats)
        folder = Path(folder)
        for block in self._blocks if "md" in formats else ():  # the page holds its figures
            for name, content in block.files.items():
                replace_file(folder / "figures" / name, content)
        texts = {"md": self.markdown, "html": self.html}
        written = [folder / f"report.{suffix}" for suffix in FORMATS if suffix in formats]
        for path in written:
            replace_file(path, texts[path.suffix[1:]]())
        return written

    def _add(self, markdown: str, html: str, files: Mapping[str, bytes] | None = None) -> None:
        self._blocks.append(_Block(markdown, html, dict(files or {})))


def checked_formats(formats: str | Collection[str]) -> Collection[str]:
    """Those of ``FORMATS`` that are named, one or several. :raises UserError: on none, or another"""
    named = [formats] if isinstance(formats, str) else list(formats)
    if not named or set(named) - set(FORMATS):
        raise UserError(f"Formats of a document are {' and '.join(FORMATS)}, not {', '.join(named) or 'none'}.")
    return named


@dataclass(frozen=True)
class _Block:
    """A part of a document in both forms, and the files that it shows."""

    markdown: str
    html: str
    files: dict[str, bytes]


def plot_style() -> AbstractContextManager[None]:
    """
    Within it, figures look as a paper wants them: small, colour-blind safe, legible at the width of a column, whatever
    other libraries have set for all figures.
    """
    return mpl.style.context(["default", STYLE])


def new_figure(width: float = COLUMN, height: float = 2.4) -> Figure:
    """
    An empty figure, which no window shows and nothing needs to close.

    :param width: inches, `COLUMN` or `PAGE`
    :param height: inches
    """
    return Figure(figsize=(width, height), layout="constrained")


def legend_of(panels: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """Handles and labels for one legend of several panels, each label once. :param panels: drawn"""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)


def legend_above(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend above all panels, where it hides nothing. :param figure: what it stands in :param panels: drawn"""
    handles, labels = legend_of(panels)
    figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels, figure.get_figwidth()))


def legend_columns(labels: Collection[str], width: float) -> int:
    """How many entries of a legend fit side by side. :param labels: of it :param width: of the figure, inches"""
    room = 18 * width  # characters
    sizes = [len(label) + 8 for label in labels]
    return len(sizes) if sum(sizes) <= room else max(1, int(room // max(sizes)))


def small_png(figure: Figure) -> bytes:
    """
    A figure as a PNG with a palette of 256 colours, about a fifth of the size of the full one.

    :param figure: drawn
    """
    with io.BytesIO() as full, io.BytesIO() as small, plot_style():
        _lay_out(figure, SMALL_DPI)
        figure.savefig(full, format="png", dpi=SMALL_DPI)
        Image.open(full).convert("RGB").quantize(256).save(small, format="png", optimize=True)
        return small.getvalue()


def draw(path: Path, make: Callable[[], Figure | None]) -> list[Path]:
    """
    Draw a figure into a small PNG, if there is something to draw.

    :param path: of the file
    :param make: draws it
    :return: the path, if there is one
    """
    with plot_style():
        figure = make()
    if figure is None:
        return []
    replace_file(path, small_png(figure))
    return [path]


def _photo(pixels: NDArray[np.uint8]) -> bytes:
    with io.BytesIO() as file:  # the smallest parts keep their colours
        small = Image.fromarray(pixels).quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small.save(file, format="png", optimize=True)
        return file.getvalue()


def plain(name: str) -> str:
    """A name for a figure: ``$`` begins no formula, ``_`` hides no legend. :param name: of an agent or a scenario"""
    return (" " * name.startswith("_") + name).replace("$", r"\$")


def formatted(value: object) -> str:
    """
    A value for a reader: 0.12, 12.3, 1234, and a dash for what there is not.

    :param value: a floating-point number, or anything else, which is shown as it is
    """
    if value is None or value is pd.NA or value != value:
        return "–"  # noqa: RUF001
    if not isinstance(value, float | np.floating):
        return str(value)
    decimals = max(3 - len(f"{abs(value):.0f}"), 0)
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}"  # + 0.0: without -0.00


# Helpers

# A number, also with its interval, with a unit in front or behind, or with how many there are; or nothing.
_NUMBER = re.compile(r"(-?[\d.,]+ ?%?( [\[(][-\d., ]+[\])])?|[–-]|)")  # noqa: RUF001


def _drawn(figure: Figure, name: str) -> dict[str, bytes]:
    with io.BytesIO() as png, io.BytesIO() as svg, plot_style():
        _lay_out(figure, mpl.rcParams["savefig.dpi"])
        figure.savefig(png, format="png")
        figure.savefig(svg, format="svg", metadata={"Date": None})
        return {f"{name}.png": png.getvalue(), f"{name}.svg": svg.getvalue()}


def _lay_out(figure: Figure, dpi: float) -> None:
    """Put all in its place, once: `savefig` would draw the whole figure for it, each time."""
    engine = figure.get_layout_engine()
    if figure.axes and engine is not None:
        figure.set_dpi(dpi)
        engine.execute(figure)
        figure.set_layout_engine(None)
