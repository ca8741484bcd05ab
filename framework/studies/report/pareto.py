"""Quality against cost, with the methods that nothing beats at less cost, and how sure it is that nothing does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from framework.studies.labels import listed, percent
from framework.studies.loaded import Metric
from framework.studies.report.curves import HALO, LABEL, Plot, curves, level, name_ends, wants_logarithm
from framework.studies.report.drawing import FAINT, INK, Drawing, Mark, finish

ARROWS = {"higher": "↑", "lower": "↓"}


def draw(
    points: pd.DataFrame,
    marks: Mapping[str, Mark],
    folder: Path,
    name: str,
    title: str,
    metric: Metric,
    cost: str,
) -> Drawing:
    """The Pareto plot of one run and one metric.

    Arguments:
        points: columns method, x, value, low, high, on_front and probability (of lying on it; NaN where unknown).
        marks: how methods are drawn.
        folder, name: of the study, and of the figure's files.
        title: what the page calls it.
        metric: what is measured, which way is better, and what real data reach.
        cost: what x is, in words.
    """
    better = metric.better
    logarithmic = wants_logarithm(points["value"], better)
    label = f"{metric.label}{f' ({metric.unit})' if metric.unit else ''} {ARROWS[better]}"
    plot = curves(points, marks, title, cost, label, logarithmic)
    front = points[points["on_front"].astype(bool) & np.isfinite(points["value"])].sort_values("x")
    ceiling = level(plot.axes, metric.ceiling) if np.isfinite(metric.ceiling) else False
    if len(front):
        _stairs(plot, front, marks, better)
    name_ends(plot, marks, {"real data": metric.ceiling} if ceiling else {})
    grey = sum(not marks[m].prominent for m in set(plot.points["method"]))
    names = listed([marks[m].label for m in dict.fromkeys(front["method"])])
    return finish(
        plot.figure,
        folder,
        name,
        alt=f"{title}: {metric.label} against {cost}, {better} is better. On the front: {names or 'nothing'}.",
        caption=f"On the front: {names or 'nothing'}." + (f" Grey: {grey} other methods." if grey else ""),
    )


def _stairs(plot: Plot, front: pd.DataFrame, marks: Mapping[str, Mark], better: str) -> None:
    """The front as steps; rings around its points, with the probability on the side where nothing lies."""
    axes, below = plot.axes, better == "lower"
    # Of several that reach one value at one cost the most prominent has the ring.
    front = front.assign(grey=[not marks[m].prominent for m in front["method"]])
    front = front.sort_values(["x", "grey"], kind="stable").drop_duplicates(["x", "value"])
    x, y = front["x"].to_numpy(float), front["value"].to_numpy(float)
    axes.step([*x, axes.get_xlim()[1]], [*y, y[-1]], where="post", color=FAINT, linewidth=0.8, alpha=0.7, zorder=1.5)
    drawn = x * np.array([plot.shift.get(method, 1.0) for method in front["method"]])
    axes.plot(drawn, y, linestyle="", marker="o", markersize=7.5, markerfacecolor="none", markeredgecolor=INK,
              markeredgewidth=0.9, zorder=5)  # fmt: skip
    left, right = axes.get_xlim()
    height = axes.get_window_extent().height * 72 / plot.figure.dpi
    last: tuple[float, float] = (-math.inf, 0.0)
    for at, value, share in zip(drawn, y, front["probability"], strict=True):
        if not np.isfinite(share):
            continue
        place = math.log(at / left) / math.log(right / left)
        point = float(axes.transAxes.inverted().transform(axes.transData.transform((at, value)))[1]) * height
        label = point + (-6 if below else 6)
        # Words of neighbours that would touch are put in a second row.
        if place - last[0] < 0.14 and abs(label - last[1]) < LABEL:
            label = last[1] + (-LABEL if below else LABEL)
        last = (place, label)
        axes.annotate(percent(share), (at, value), xytext=(0, label - point), textcoords="offset points",
                      ha="center", va="top" if below else "bottom", size=LABEL - 0.8,
                      color=INK, zorder=6, bbox=HALO)  # fmt: skip
