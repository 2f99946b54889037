"""Documents: Markdown with figures beside it, and one HTML file that needs nothing else."""

import html.parser
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest

from sb3_plastic.report.document import Document, new_figure, plain, plot_style, small_png


def line_figure(values=(0.0, 1.0, 0.5)):
    with plot_style():
        figure = new_figure()
        axes = figure.subplots()
        axes.plot(values)
        axes.set_xlabel("time (s)")
    return figure


def build(title="Title"):
    document = Document(title)
    document.heading("First part")
    document.paragraph("It is **so**: `a < b & c` and [there](docs/x.md).")
    document.bullets(["one", "two"])
    document.table(
        [{"agent": "a|b", "value": 1.2345, "n": 3}, {"agent": "c", "value": np.nan, "n": 4}], caption="Some."
    )
    document.figure("line", line_figure(), caption="A line & more.")
    with document.details("Appendix"):
        document.code("run --it <now>")
    return document


class Tags(html.parser.HTMLParser):
    """Collects what an HTML file opens, and fails if it is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_markdown_refers_to_the_figures_beside_it(tmp_path):
    build().write(tmp_path)
    text = (tmp_path / "report.md").read_text()
    shown = re.findall(r"\((figures/[^)]+)\)", text)
    assert shown == ["figures/line.svg", "figures/line.png"]
    assert (tmp_path / shown[0]).read_text().lstrip().startswith("<?xml")
    assert (tmp_path / shown[1]).read_bytes().startswith(b"\x89PNG")
    assert "| a\\|b | 1.23 | 3 |\n| c | – | 4 |" in text  # noqa: RUF001
    assert "| --- | ---: | ---: |" in text


def test_html_is_one_file_without_scripts_or_other_files(tmp_path):
    build().write(tmp_path)
    text = (tmp_path / "report.html").read_text()
    seen = Tags(text).seen
    names = {tag for tag, _ in seen}
    assert {"table", "figure", "details", "figcaption", "nav"} <= names
    assert not names & {"script", "link", "iframe"}
    sources = [attrs["src"] for tag, attrs in seen if tag == "img"]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/svg+xml;base64,")
    assert [attrs["href"] for tag, attrs in seen if tag == "a"] == ["#first-part", "docs/x.md"]
    assert "url(" not in text


def test_what_looks_like_markup_is_shown_as_it_is():
    text = build("a < b").html()
    assert "<title>a &lt; b</title>" in text
    assert "<strong>so</strong>: <code>a &lt; b &amp; c</code>" in text
    assert "run --it &lt;now&gt;" in text
    assert 'alt="A line &amp; more."' in text


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        build().write(tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert [str(path) for path in files] == ["figures/line.png", "figures/line.svg", "report.html", "report.md"]
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_named_index_is_a_column():
    document = Document("t")
    document.table(pd.DataFrame({"x": [1.0]}, index=pd.Index(["a"], name="agent")))
    assert "| agent | x |\n| --- | ---: |\n| a | 1.00 |" in document.markdown()


def test_numbers_with_intervals_are_aligned_right():
    document = Document("t")
    document.table([{"agent": "a", "gain": "0.12 [-0.10, 0.30]", "none": None, "n": "97.5%"}])
    assert "| --- | ---: | ---: | ---: |" in document.markdown()


def test_code_that_holds_a_fence_stays_in_its_own():
    document = Document("t")
    document.code("```\nx\n```")
    assert "\n````\n```\nx\n```\n````\n" in document.markdown()


def test_only_what_is_asked_for_is_written(tmp_path):
    assert build().write(tmp_path, ["html"]) == [tmp_path / "report.html"]
    assert not (tmp_path / "report.md").exists()


def test_a_figure_does_not_depend_on_what_others_have_set_for_all_figures():
    def drawn() -> bytes:
        with plot_style():
            figure = new_figure()
            figure.add_subplot().plot([1, 2], [3, 1])
        return small_png(figure)

    plain = drawn()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "figure.dpi": 33}):
        assert drawn() == plain


def test_plotting_leaves_the_users_style_alone():
    before = dict(matplotlib.rcParams)
    build()
    assert dict(matplotlib.rcParams) == before


def test_names_that_mean_something_to_matplotlib_are_shown_as_they_are():
    axes = new_figure().subplots()
    for name in ("_hidden", "$x_1$"):
        axes.plot([0, 1], label=plain(name))
    texts = axes.legend().get_texts()
    assert [text.get_text().strip() for text in texts] == ["_hidden", r"\$x_1\$"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda d: d.heading("x", level=1), "level 2, 3 or 4, not 1"),
        (lambda d: d.figure("line", line_figure(), ""), "two figures 'line'"),
        (lambda d: d.figure("a/b", line_figure(), ""), "'a/b' is no name"),
        (lambda d: d.write("x", ["pdf"]), "md and html, not pdf"),
        (lambda d: d.write("x", []), "not none"),
    ],
)
def test_errors_say_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(build())
