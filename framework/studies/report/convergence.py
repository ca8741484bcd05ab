"""The error to the exact solution of the sampling equation against evaluations, with lines of the declared orders.

A method of order p has an error of about C evaluations^-p once its steps are small: a line of slope -p on log-log axes.
The exact solution starts from the same noise, so that the error means the same in every domain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from framework.studies.labels import listed
from framework.studies.report.curves import HALO, LABEL, curves, name_ends
from framework.studies.report.drawing import FAINT, Drawing, Mark, finish

HIGHEST = 6  # order that is drawn: beyond it lines cannot be told from each other
LAST = 3  # budgets that a slope is fitted to: at the small ones an order does not show yet


def draw(points: pd.DataFrame, marks: Mapping[str, Mark], folder: Path, name: str, title: str, cost: str) -> Drawing:
    """The convergence plot of one run.

    Arguments:
        points: columns method, x (evaluations), value, low, high, order (declared, may be missing).
        marks, folder, name, title, cost: as for `pareto.draw`.
    """
    plot = curves(points, marks, title, cost, "error to the exact solution ↓", logarithmic=True)
    shown = points[(points["value"] > 0) & np.isfinite(points["value"])]
    orders = sorted({int(order) for order in points["order"].dropna() if 0 < order <= HIGHEST})
    ends: dict[str, float] = {}
    steep = 0  # guides that have left at the bottom
    for order in reversed(orders if len(shown) else []):
        named = _guide(plot.axes, shown, order, 0.05 + 0.075 * steep)
        steep += not named
        ends |= named
    name_ends(plot, marks, ends)
    best = shown.sort_values("value")["method"].head(1).map(lambda m: marks[m].label if m in marks else m)
    return finish(
        plot.figure,
        folder,
        name,
        alt=f"{title}: error to the exact solution against {cost}, both logarithmic."
        + "".join(f" The smallest error is {name}'s." for name in best),
        caption="Dashed: how " + listed([f"order {p}" for p in orders]) + " would fall." if orders else "",
    )


def slopes(points: pd.DataFrame) -> pd.DataFrame:
    """By method the declared order, the one measured over the last budgets, and the last error.

    Returns columns method, declared, measured (minus the slope of log error over log evaluations), evaluations, error.
    """
    rows = []
    for method, group in points[(points["value"] > 0) & np.isfinite(points["value"])].groupby("method", sort=False):
        group = group.sort_values("x").drop_duplicates("x", keep="last")
        last = group.tail(LAST)
        measured = -np.polyfit(np.log(last["x"]), np.log(last["value"]), 1)[0] if len(last) > 1 else math.nan
        end = group.iloc[-1]
        rows.append((method, end["order"], float(measured), float(end["x"]), float(end["value"])))
    table = pd.DataFrame(rows, columns=["method", "declared", "measured", "evaluations", "error"])
    return table.sort_values("error", ignore_index=True)


def _guide(axes: Axes, points: pd.DataFrame, order: int, height: float) -> dict[str, float]:
    """A line of slope -order from where the methods start to where it leaves the plot.

    One that leaves at the right is to be named there, with the methods: its name and level are returned. One that
    leaves at the bottom is named at its left, at this share of the plot's height.
    """
    right, (bottom, top) = axes.get_xlim()[1], axes.get_ylim()
    start = points["x"].min()
    level = min(float(points[points["x"] <= 1.3 * start]["value"].median()), top)
    end = min(right, start * (level / bottom) ** (1 / order))
    axes.plot([start, end], [level, level * (end / start) ** -order], color=FAINT, linewidth=0.8,
              linestyle=(0, (4, 2.5)), alpha=0.8, zorder=1)  # fmt: skip
    if end == right:
        return {f"order {order}": level * (end / start) ** -order}
    y = bottom * (top / bottom) ** height
    axes.annotate(f"order {order}", (start * (level / y) ** (1 / order), y), xytext=(-3, 0), textcoords="offset points",
                  ha="right", va="center", size=LABEL - 0.6, color=FAINT, style="italic", zorder=1.5,
                  bbox=HALO)  # fmt: skip
    return {}
