"""Ranks of all methods in all domains at one glance: does what is best in one domain stay best in another?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from framework.studies.labels import listed
from framework.studies.report.drawing import FAINT, INK, Drawing, Mark, finish, new_figure, put_title, text_width

ROW, CELL, GAP, SIZE = 0.2, 0.42, 0.1, 8.0  # inches, the last points
SLANT = math.sin(math.pi / 4)
MAP = "cividis"  # of one hue order and even steps for all kinds of colour vision


def draw(ranks: pd.DataFrame, marks: Mapping[str, Mark], folder: Path, name: str, title: str) -> Drawing:
    """The heat map.

    Arguments:
        ranks: mean rank, 1 the best; a row a method, a column a (domain, metric); NaN where there is none.
        marks, folder, name, title: as for `pareto.draw`.
    """
    ranks = ranks.loc[ranks.mean(axis=1).sort_values(kind="stable").index]
    mean = ranks.mean(axis=1)
    columns = [*ranks.columns, ("", "mean")] if ranks.shape[1] > 1 else list(ranks.columns)
    values = np.column_stack([ranks.to_numpy(float), mean])[:, : len(columns)]
    slanted = max(text_width(metric, SIZE) for _, metric in columns) * SLANT
    head = 0.36 + 0.2 + slanted + 0.12
    left = max(text_width(marks[m].label, SIZE) for m in ranks.index) + 0.3
    # The mean and the domains stand apart from each other.
    domains = [domain for domain, _ in columns]
    gaps = np.cumsum([0, *(GAP if a != b else 0 for a, b in pairwise(domains))])
    places = left + CELL * np.arange(len(columns)) + gaps
    width = max(places[-1] + CELL + slanted + 0.05, text_width(title, 9) + 0.3)
    height = head + ROW * len(ranks) + 0.08
    figure = new_figure(height, width)
    put_title(figure, title)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    colours = matplotlib.colormaps[MAP].reversed()
    low, high = np.nanmin(values), np.nanmax(values)
    for x, (domain, metric), before in zip(places, columns, ["", *domains], strict=False):
        if domain != before:
            axes.text(x, 0.42, domain, va="center_baseline", size=SIZE, weight="bold", color=INK)
        axes.text(x + CELL / 2 - 0.03, head - 0.05, metric, rotation=45, rotation_mode="anchor", size=SIZE, color=INK)
    for i, method in enumerate(ranks.index):
        y, mark = head + ROW * i, marks[method]
        axes.plot([0.1], [y + ROW / 2], color=mark.colour, marker=mark.marker, markersize=4, markeredgewidth=0)
        axes.text(0.2, y + ROW / 2, mark.label, va="center_baseline", size=SIZE, color=INK,
                  weight="bold" if mark.prominent else "normal")  # fmt: skip
        for x, value in zip(places, values[i], strict=True):
            if np.isnan(value):
                axes.text(x + CELL / 2, y + ROW / 2, "–", ha="center", va="center_baseline", size=SIZE, color=FAINT)
                continue
            share = (value - low) / (high - low) if high > low else 0.0
            colour = colours(share)
            axes.fill([x + 0.01, x + CELL - 0.01, x + CELL - 0.01, x + 0.01],
                      [y + 0.01, y + 0.01, y + ROW - 0.01, y + ROW - 0.01], color=colour, linewidth=0)  # fmt: skip
            axes.text(x + CELL / 2, y + ROW / 2, f"{value:.1f}", ha="center", va="center_baseline", size=SIZE,
                      color="#ffffff" if _luminance(colour) < 0.18 else "#111111")  # fmt: skip
    first = {" ".join(column): marks[ranks[column].idxmin()].label for column in ranks if ranks[column].notna().any()}
    return finish(
        figure,
        folder,
        name,
        alt=f"{title}. Best by mean rank: {listed([f'{method} in {column}' for column, method in first.items()])}.",
        caption="Mean ranks over budgets; 1 is the best of the methods measured. Sorted by the mean of the columns. "
        "Near ranks need not differ: see the critical-difference diagrams.",
    )


def _luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
