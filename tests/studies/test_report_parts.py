"""Parts of the report whose right answers are known: places of labels, digits, tables, orders, bars."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from framework.studies.labels import listed, number, percent, probability, short_names, spread, triple
from framework.studies.loaded import Metric
from framework.studies.report import convergence, critical, curves, heat, pareto
from framework.studies.report.drawing import MARKERS, OTHER, PALETTE, SERIES, finish, marks, new_figure, styled
from framework.studies.report.tables import LATEX, Cell, Table, latex, markdown

NAMES = [f"method {i}" for i in range(12)]


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_apart_in_order_and_within(seed):
    wanted = list(np.random.default_rng(seed).uniform(-2, 12, size=9))
    places = spread(wanted, 1.1, 0.0, 10.0)
    order = np.argsort(wanted)
    assert np.all(np.diff(np.array(places)[order]) >= 1.1 - 1e-9)
    assert min(places) >= -1e-9 and max(places) <= 10 + 1e-9


def test_labels_that_do_not_touch_stay_and_others_move_least():
    assert spread([1.0, 5.0, 9.0], 1.0, 0.0, 10.0) == [1.0, 5.0, 9.0]
    # Two at one place move half of the gap each: the least sum of squares.
    assert spread([5.0, 5.0], 1.0, 0.0, 10.0) == [4.5, 5.5]


def test_digits_follow_the_width_of_the_interval():
    assert triple(0.81234, 0.794, 0.831) == ("0.812", "0.794", "0.831")
    assert triple(12345.678, 12000, 12700) == ("12,346", "12,000", "12,700")
    assert triple(-1.5, -2.0, -1.0) == ("−1.50", "−2.00", "−1.00")
    small = triple(1.23e-6, 1.1e-6, 1.4e-6)
    assert [text.split("\u2009")[0] for text in small] == ["1.23", "1.10", "1.40"]
    assert all(text.endswith("10⁻⁶") for text in small)
    assert triple(float("nan"), float("nan"), float("nan")) == ("–", "–", "–")


def test_numbers_never_claim_certainty():
    assert [percent(share) for share in (0.999, 0.001)] == [">\u200999\u2009%", "<\u20091\u2009%"]
    assert [percent(share) for share in (0.0, 0.5, 1.0)] == ["0\u2009%", "50\u2009%", "100\u2009%"]
    assert probability(1e-12) == "< 0.001"
    assert (number(0.0123456), number(45.123), number(1.2e-7, 2)) == ("0.0123", "45.1", "1.2\u2009×\u200910⁻⁷")


def test_short_names_drop_only_what_all_share():
    assert short_names(["a · x", "b · x"]) == {"a · x": "a", "b · x": "b"}
    assert short_names(["a · x", "a · y"]) == {"a · x": "x", "a · y": "y"}
    assert short_names(["a · x", "b · y"]) == {"a · x": "a · x", "b · y": "b · y"}
    assert short_names(["a · x", "a · x · x"]) == {"a · x": "a · x", "a · x · x": "a · x · x"}
    assert short_names(["a · x"]) == {"a · x": "a · x"}
    assert listed(["a", "b", "c"]) == "a, b and c" and listed(["a"]) == "a" and listed([]) == ""


def test_few_methods_stand_out_and_each_in_its_own_way():
    found = marks({name: name for name in NAMES}, NAMES)
    prominent = [mark for mark in found.values() if mark.prominent]
    assert len(prominent) == 7
    assert len({mark.colour for mark in prominent}) == len({mark.marker for mark in prominent}) == 7
    assert all(mark.colour == OTHER for mark in found.values() if not mark.prominent)
    assert len(set(SERIES)) == len(set(MARKERS)) == 7
    assert len({light for light, _ in PALETTE.values()}) == len(PALETTE), "a colour must say which variable it is"


def _points(**values: list[float]) -> pd.DataFrame:
    rows = [
        {"method": method, "x": x, "value": y, "low": 0.9 * y, "high": 1.1 * y, "on_front": False, "probability": 0.5}
        for method, ys in values.items()
        for x, y in zip((4.0, 8.0, 16.0, 32.0), ys, strict=True)
    ]
    return pd.DataFrame(rows)


def test_slopes_are_the_orders_of_power_laws():
    x = np.array([4.0, 8.0, 16.0, 32.0])
    points = _points(one=list(3 / x), three=list(7 / x**3)).assign(order=[1] * 4 + [3] * 4)
    found = convergence.slopes(points).set_index("method")
    assert found["measured"].to_dict() == pytest.approx({"one": 1.0, "three": 3.0})
    assert found.index[0] == "three" and found.loc["three", "error"] == pytest.approx(7 / 32**3)


@pytest.mark.parametrize("best", [0.5, 1e-3])
def test_a_plot_shows_every_value_and_names_every_end(tmp_path, best):
    values = {name: [0.9, 0.8, 0.7 - i / 100, best] for i, name in enumerate(NAMES)}
    points = _points(**values)
    points.loc[[3, 7], "on_front"] = True
    found = marks({name: name for name in NAMES}, NAMES)
    with styled():
        plot = curves.curves(points, found, "t", "cost", "quality", curves.wants_logarithm(points["value"], "lower"))
        low, high = plot.axes.get_ylim()
        assert low < best and high > 0.9
        metric = Metric("m", "quality", "lower", "value")
        drawing = pareto.draw(points, found, tmp_path, "name", "title", metric, "cost")
    assert all(f">{name}<" in drawing.svg for name in NAMES)
    # Two methods at one point share a ring and a probability.
    assert drawing.svg.count("50\u2009%") == 1
    assert "Grey: 5 other methods" in drawing.caption


def test_a_level_is_shown_only_where_it_does_not_flatten_the_curves():
    found = marks({"a": "a"}, ["a"])
    with styled():
        plot = curves.curves(_points(a=[0.5, 0.6, 0.7, 0.8]), found, "t", "x", "y", False)
        before = plot.axes.get_ylim()
        assert not curves.level(plot.axes, 50.0) and plot.axes.get_ylim() == before
        assert curves.level(plot.axes, 0.9)
        assert plot.axes.get_ylim()[1] > 0.9


@pytest.mark.parametrize(("low", "high"), [(4, 100), (4, 8), (1e-6, 3.0), (0.9, 1.1), (3e-5, 3e-4)])
def test_ticks_of_a_logarithmic_axis_are_few_and_within(low, high):
    ticks = curves._round_values(low, high, most=7)
    assert len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)


def test_bars_of_groups_do_not_touch():
    values = [1.0, 1.5, 3.0, 3.2, 5.0, 5.5]
    spans = [(0, 1), (1, 3), (2, 3), (4, 5)]
    levels = critical._levels(spans, values)
    for (a, first), (b, second) in itertools.combinations(zip(spans, levels, strict=True), 2):
        if first == second:
            assert values[b[0]] > values[a[1]] or values[a[0]] > values[b[1]]
    assert critical._span([3, 1, 2]) == (1, 3) and critical._span([2]) == (0, 0)


@pytest.mark.parametrize(("p", "bars"), [(0.001, 2), (0.4, 1)])
def test_without_a_difference_one_bar_joins_all(tmp_path, p, bars):
    ranks = {"a": 1.0, "b": 1.8, "c": 3.0, "d": 3.9}
    found = marks({name: name for name in ranks}, list(ranks))
    with styled():
        drawing = critical.draw(ranks, 1.1, [("a", "b"), ("c", "d"), ("b",)], p, 9, found, tmp_path, "n", "title")
    assert drawing.svg.count("stroke-width: 2.6") == bars
    assert ("finds no difference" in drawing.caption) == (p > 0.05)


def test_a_heat_map_has_a_number_for_each_rank_and_a_dash_for_none(tmp_path):
    columns = pd.MultiIndex.from_tuples([("first", "m"), ("second", "m")])
    ranks = pd.DataFrame([[1.25, 2.0], [3.5, np.nan]], index=["a", "b"], columns=columns)
    with styled():
        drawing = heat.draw(ranks, marks({"a": "a", "b": "b"}, ["a", "b"]), tmp_path, "n", "title")
    texts = re.findall(r">([^<>]+)</text>", drawing.svg)
    assert {"1.2", "2.0", "3.5", "–", "1.6", "first", "second", "mean"} <= set(texts)
    assert drawing.alt.count("a in") == 2


def test_a_drawing_for_the_page_takes_the_pages_colours_and_nothing_of_the_web(tmp_path):
    with styled():
        figures = [finish(_line(), tmp_path, name, "alt", "caption") for name in ("one", "two")]
    ids = [set(re.findall(r'id="([^"]*)"', drawing.svg)) for drawing in figures]
    assert ids[0] and not ids[0] & ids[1]
    for drawing in figures:
        assert "http" not in drawing.svg and "font-family" not in drawing.svg
        assert "var(--series-0)" in drawing.svg and SERIES[0] not in drawing.svg
    assert SERIES[0] in (tmp_path / "figures" / "one.svg").read_text()
    pdf = (tmp_path / "figures" / "one.pdf").read_bytes()
    # Journals take embedded TrueType (type 42), not letters that are drawings (type 3).
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf and b"/Type3" not in pdf


def _line():
    figure = new_figure(2.0)
    axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    axes.plot([1, 2], [1, 3], color=SERIES[0], marker="o")
    return figure


TABLE = Table(
    "some_table",
    "50 % of A_B",
    ["method", "4", "8"],
    [
        [Cell("a_b | c"), Cell("0.12", "[0.10, 0.14]", best=True), Cell("1.2\u2009×\u200910⁻⁵", tied=True)],
        [Cell("[x]"), Cell("–"), Cell("<b>")],
    ],
    "A & B",
)


def test_latex_is_well_formed():
    text = latex(TABLE)
    assert text.count("{") == text.count("}")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 2 for row in rows) and len(rows) == 3
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\textbf{0.12} {\scriptsize [0.10, 0.14]}" in text
    assert r"\underline{1.2\,$\times$\,10$^{-5}$}" in text
    assert r"50 \% of A\_B. A \& B" in text
    # A line break followed by a bracket would take it as an option.
    assert not re.search(r"\\\\\s*\[", text)
    assert all(ord(letter) < 128 for letter in text)
    assert all(latex(Table("t", letter, ["a"], [])).isascii() for letter in LATEX)


def test_markdown_is_one_table():
    text = markdown(TABLE)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines)
    assert "**0.12** \\[0.10, 0.14\\]" in text
    assert "<u>1.2" in text and "\\<b\\>" in text
