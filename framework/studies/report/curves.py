"""Curves of methods over what they cost: common to the Pareto and the convergence plots.

A method's name stands at the end of its line, so that no legend has to be matched with colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from framework.studies.labels import number, power_of_ten, spread
from framework.studies.report.drawing import FAINT, INK, OTHER, PAPER, WIDTH, Mark, new_figure, put_title, text_width

LABEL = 7.6  # points
LEFT, BOTTOM, TOP, HEIGHT = 0.6, 0.44, 0.34, 2.85  # inches
WIDEST = 1.45  # inches of names that leave enough of the width to the curves
HALO = {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8}  # behind words on lines


@dataclass(frozen=True)
class Plot:
    """A figure with curves of these points. `shift`: the factors of x by which methods were drawn aside."""

    figure: Figure
    axes: Axes
    points: pd.DataFrame
    shift: Mapping[str, float]


def curves(
    points: pd.DataFrame, marks: Mapping[str, Mark], title: str, cost: str, quality: str, logarithmic: bool
) -> Plot:
    """A figure with a line a method.

    Arguments:
        points: columns method, x (cost, > 0), value, low, high; rows without a finite value are left out.
        marks: how each method is drawn.
        title, cost, quality: words for the figure, its x and its y axis.
        logarithmic: the y axis; the x axis always is.
    """
    points = points[np.isfinite(points["value"]) & (points["x"] > 0)].sort_values("x")
    if logarithmic:
        points = points[points["value"] > 0]
    methods = [m for m in _by_end(points) if m in marks]
    right = 0.28 + max((text_width(mark.label, LABEL) for mark in marks.values()), default=0.5)
    figure = new_figure(HEIGHT, WIDTH + max(0.0, right - WIDEST))
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (LEFT / width, BOTTOM / height, (width - LEFT - right) / width, (height - BOTTOM - TOP) / height)
    )
    put_title(figure, title)
    axes.set_xscale("log")
    if logarithmic:
        axes.set_yscale("log")
    axes.grid(axis="y")
    axes.set_xlabel(cost)
    label = axes.set_ylabel(quality)
    long = text_width(quality, label.get_fontsize()) / (height - BOTTOM - TOP)
    label.set_fontsize(label.get_fontsize() / max(1.0, long))  # not beyond the ends of its axis
    if len(points):
        _limits(axes, points, logarithmic)
        _ticks(axes, points["x"], logarithmic)
    shift = _sideways([m for m in methods if marks[m].prominent])
    for method in sorted(methods, key=lambda m: marks[m].prominent):
        _curve(axes, points[points["method"] == method], marks[method], shift.get(method, 1.0))
    return Plot(figure, axes, points, shift)


def wants_logarithm(values: pd.Series, better: str) -> bool:
    """Whether values spread so widely that a linear axis would show only the worst of them."""
    values = values[np.isfinite(values)]
    return bool(len(values)) and better == "lower" and values.min() > 0 and values.max() > 5 * values.min()


def _by_end(points: pd.DataFrame) -> list[str]:
    return list(points.groupby("method")["value"].last().sort_values().index)


def _curve(axes: Axes, points: pd.DataFrame, mark: Mark, shift: float) -> None:
    x = points["x"] * shift
    if not mark.prominent:
        axes.plot(x, points["value"], color=OTHER, linewidth=0.7, marker=".", markersize=2.5, zorder=2)
        return
    axes.vlines(x, points["low"], points["high"], color=mark.colour, linewidth=0.9, alpha=0.75, zorder=3)
    axes.plot(
        x, points["value"], color=mark.colour, marker=mark.marker, linewidth=1.2, markersize=3.8,
        markeredgewidth=0, zorder=4,
    )  # fmt: skip


def _sideways(methods: Sequence[str]) -> dict[str, float]:
    """Factors of x that put intervals beside each other and not on each other; at most 4 % either way."""
    if len(methods) < 2:
        return {}
    return dict(zip(methods, np.exp(np.linspace(-0.04, 0.04, len(methods))), strict=True))


def _limits(axes: Axes, points: pd.DataFrame, logarithmic: bool) -> None:
    """Ranges of what is drawn: the intervals may be cut where they are much wider than the values differ."""
    low, high = points["value"].min(), points["value"].max()
    ends = points[["low", "high"]].to_numpy(float)
    ends = ends[np.isfinite(ends) & ((ends > 0) | (not logarithmic))]
    if logarithmic:
        room = max(math.log(high / low), 0.1)
        low, high = (
            max(ends.min(initial=low), low * math.exp(-room)),
            min(ends.max(initial=high), high * math.exp(room)),
        )
        margin = math.exp(0.05 * math.log(high / low) + 1e-3)
        axes.set_ylim(low / margin, high * margin)
    else:
        room = max(high - low, 1e-9 * abs(high), 1e-12)
        low, high = max(ends.min(initial=low), low - room), min(ends.max(initial=high), high + room)
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)
    left, right = points["x"].min(), points["x"].max()
    margin = max((right / left) ** 0.05, 1.08)
    # The first points have words as wide as themselves to both sides.
    axes.set_xlim(left / margin**3, right * margin)


def _ticks(axes: Axes, x: pd.Series, logarithmic: bool) -> None:
    places = _round_values(*axes.get_xlim(), most=6)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    if logarithmic:
        axes.yaxis.set_major_locator(FixedLocator(_round_values(*axes.get_ylim(), most=7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value, axes)))


def _plain(value: float, axes: Axes) -> str:
    """A linear axis' tick with the places that the distance of ticks needs."""
    ticks = axes.get_yticks()
    distance = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else 1.0
    if distance < 1e-4 or abs(value) >= 1e5:
        return number(value)
    places = max(0, -math.floor(math.log10(distance) + 1e-9))
    places += round(distance * 10**places, 6) != round(distance * 10**places)
    return f"{value + 0.0:.{places}f}".replace("-", "\N{MINUS SIGN}")


def _round_values(low: float, high: float, most: int) -> list[float]:
    """Values of a logarithmic range that one would choose by hand: 1, 2, 5 a decade, or fewer, at most `most`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 4, 6), (1, 2, 5), (1, 3), (1,)):
        found = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(found) <= most:
            return found
    every = math.ceil(len(found) / most)
    return [value for value in found if round(math.log10(value)) % every == 0]


def name_ends(plot: Plot, marks: Mapping[str, Mark], levels: Mapping[str, float] | None = None) -> None:
    """The names at the right, as near to their lines' ends as they fit; those that stand out come first.

    `levels` are horizontal lines with names. The axes' limits must be final.
    """
    axes, pixels = plot.axes, 72 / plot.figure.dpi
    ends = plot.points[plot.points["method"].isin(marks)].groupby("method")[["x", "value"]].last()
    known = {name: marks[name] for name in ends.index} | {name: Mark(name, FAINT) for name in levels or {}}
    for name, value in (levels or {}).items():
        ends.loc[name] = (axes.get_xlim()[1], value)
    height = axes.get_window_extent().height * pixels  # points
    gap = LABEL * 1.22
    order = sorted(ends.index, key=lambda name: (not known[name].prominent, name not in (levels or {})))
    named = order[: int(height // gap) + 1]
    if not named:
        return
    at = axes.transData.transform(ends.loc[named].to_numpy(float))
    wanted = (at[:, 1] - axes.get_window_extent().y0) * pixels
    for name, place in zip(named, spread(list(wanted), gap, 0.0, height), strict=True):
        mark, (x, value) = known[name], ends.loc[name]
        leader = {"arrowstyle": "-", "color": mark.colour, "linewidth": 0.6, "alpha": 0.8, "relpos": (0.0, 0.5)}
        axes.annotate(
            mark.label, (x * plot.shift.get(name, 1.0), value), xytext=(1.055, place / height),
            textcoords="axes fraction", va="center_baseline", size=LABEL, color=INK if mark.prominent else FAINT,
            weight="bold" if mark.prominent else "normal", style="italic" if name in (levels or {}) else "normal",
            annotation_clip=False, arrowprops=leader | {"shrinkA": 0, "shrinkB": 2.5},
        )  # fmt: skip
        if mark.prominent:
            axes.plot([1.03], [place / height], transform=axes.transAxes, color=mark.colour, marker=mark.marker,
                      markersize=3.6, markeredgewidth=0, clip_on=False)  # fmt: skip


def level(axes: Axes, value: float) -> bool:
    """Draw a level to compare with, as what real data reach; not if it is far from all that is drawn (False)."""
    low, high = axes.get_ylim()
    logarithmic = axes.get_yscale() == "log"
    if logarithmic and value <= 0:
        return False
    size, place = (math.log(high / low), math.log(value / low)) if logarithmic else (high - low, value - low)
    # Room for the line, but not at the cost of most of the plot.
    if not -0.35 < place / size < 1.35:
        return False
    bottom, top = min(0.0, place / size - 0.04), max(1.0, place / size + 0.04)
    if logarithmic:
        axes.set_ylim(low * math.exp(bottom * size), low * math.exp(top * size))
        axes.yaxis.set_major_locator(FixedLocator(_round_values(*axes.get_ylim(), most=7)))
    else:
        axes.set_ylim(low + bottom * size, low + top * size)
    axes.axhline(value, color=FAINT, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1)
    return True
