"""Agents have one colour in the figures of all studies, and legends hide no curve."""

import pandas as pd

from sb3_plastic.studies import curves
from sb3_plastic.studies.curves import draw_curves
from sb3_plastic.studies.looks import LINES, looks
from sb3_plastic.studies.meta_figures import relative_figure

RUN = {"steps": [100_000, 200_000], "returns": [1.0, 2.0]}


def curves_of(labels, tmp_path, monkeypatch):
    """The figure of learning curves, and the colour of each thick line."""
    figures = []
    monkeypatch.setattr(curves, "small_png", lambda figure: figures.append(figure) or b"")
    draw_curves({label: [RUN] for label in labels}, tmp_path / "curves.png")
    lines, names = figures[0].axes[0].get_legend_handles_labels()
    return figures[0], {name.split(" (")[0]: line.get_color() for name, line in zip(names, lines, strict=True)}


def test_an_agent_has_its_colour_whoever_stands_beside_it(tmp_path, monkeypatch):
    _, among_two = curves_of(["oja + simple", "MLP"], tmp_path, monkeypatch)
    _, among_others = curves_of(["mine", "MLP", "hebb", "oja + simple"], tmp_path, monkeypatch)
    assert among_two.items() <= among_others.items()
    scores = pd.DataFrame(dict(agent=["MLP", "oja + simple"], split="novel", value=1.0, low=1.0, high=1.0))
    figure = relative_figure(scores.assign(protocol="onset", control="intact", score="relative"))
    points = {bar.get_label(): bar.lines[0].get_color() for bar in figure.axes[0].containers}
    assert points == {name: among_two[name] for name in points}


def test_agents_of_ones_own_are_told_apart_from_those_that_are_known_and_from_each_other():
    labels = ["plastic", "oja + simple", "MLP", *map(str, range(15))]  # the first two are one network
    assert len(set(looks(labels).values())) == len(labels)
    assert len(looks(map(str, range(99)))) == 99
    assert {look.style for look in looks(map(str, range(99))).values()} == set(range(len(LINES)))


def test_a_legend_of_learning_curves_stands_above_them(tmp_path, monkeypatch):
    figure, _ = curves_of(["plastic", "MLP"], tmp_path, monkeypatch)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().y0 >= figure.axes[0].get_window_extent().y1


def test_steps_of_training_are_read_without_a_power_of_ten(tmp_path, monkeypatch):
    figure, _ = curves_of(["plastic"], tmp_path, monkeypatch)
    figure.draw_without_rendering()
    assert "200k" in [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
