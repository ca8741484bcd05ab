"""The critical-difference diagram of Demsar (2006, "Statistical comparisons of classifiers over multiple data sets").

Methods lie on an axis of mean ranks. Those that are nearer to each other than the critical difference of Nemenyi's test
are joined by a bar: the data cannot tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from framework.studies.labels import listed, probability
from framework.studies.report.drawing import FAINT, INK, Drawing, Mark, finish, new_figure, put_title, text_width

WIDTH, AXIS = 4.1, 1.6  # inches of the figure, and of the axis at least
SIZE, ROW, STEP = 8.3, 0.17, 0.075  # points; inches between names; inches between bars


def draw(
    ranks: Mapping[str, float],
    difference: float,
    groups: Sequence[Sequence[str]],
    p: float,
    blocks: int,
    marks: Mapping[str, Mark],
    folder: Path,
    name: str,
    title: str,
) -> Drawing:
    """The diagram of one domain.

    Arguments:
        ranks: mean rank by method, 1 the best.
        difference: Nemenyi's critical difference at the level of 5 %.
        groups: the largest sets of methods that lie within it.
        p: of Friedman's test that all methods are alike.
        blocks: how many rankings were averaged.
        marks, folder, name, title: as for `pareto.draw`.
    """
    ordered = sorted(ranks, key=lambda method: ranks[method])
    values = [float(ranks[method]) for method in ordered]
    position = {method: i for i, method in enumerate(ordered)}
    spans = sorted({_span([position[m] for m in group if m in position]) for group in groups} - {(0, 0)})
    spans = spans if p < 0.05 else [(0, len(ordered) - 1)]
    half = math.ceil(len(ordered) / 2)
    levels = _levels(spans, values)
    bars = 0.12 + STEP * (max(levels, default=-1) + 1)
    top = max(math.ceil(values[-1]), 2)
    low = 1 if values[0] - 1 < 0.6 * (top - 1) or top <= 3 else math.floor(values[0])
    bracket = math.isfinite(difference) and difference < top - low
    head = 0.96 if bracket else 0.6  # above the axis of ranks
    height = head + bars + ROW * half + 0.1
    # Names of all methods, so that the diagrams of a study are of one size.
    names = max(text_width(f"{mark.label}  00.0", SIZE) for mark in marks.values())
    margin = names + 0.14
    width = max(WIDTH, 2 * margin + AXIS)
    figure = new_figure(height, width)
    put_title(figure, title)
    # The axes are inches of the figure; y is 0 on the axis of ranks and grows downwards.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height - head, -head)
    axes.axis("off")

    def place(rank: float) -> float:
        return margin + (rank - low) / (top - low) * (width - 2 * margin)

    _axis(axes, place, low, top)
    if bracket:
        _bracket(axes, place(low), place(low + difference), f"critical difference {difference:.2f}")
    for (first, last), level in zip(spans, levels, strict=True):
        y = 0.12 + STEP * level
        axes.plot([place(values[first]) - 0.03, place(values[last]) + 0.03], [y, y], color=INK, linewidth=2.6,
                  solid_capstyle="round", alpha=0.75)  # fmt: skip
    for i, method in enumerate(ordered):
        left = i < half
        row = i if left else len(ordered) - 1 - i
        _name(axes, place(values[i]), bars + ROW * (row + 0.5), left, f"{values[i]:.1f}", marks[method], margin)
    verdict = (
        f"Friedman's test over {blocks} rankings finds a difference (p {_compared(p)})."
        if p < 0.05
        else f"Friedman's test over {blocks} rankings finds no difference (p {_compared(p)}): "
        "these data cannot tell the methods apart."
    )
    wide = not math.isfinite(difference) or difference >= values[-1] - values[0]
    if wide and p < 0.05:
        verdict += (
            f" The critical difference ({difference:.1f}) is wider than all ranks lie apart: no two can be told apart."
        )
    return finish(
        figure,
        folder,
        name,
        alt=f"{title}: mean ranks, best first: "
        + listed([f"{marks[m].label} {ranks[m]:.1f}" for m in ordered], most=40)
        + ".",
        caption=verdict,
    )


def _span(places: Sequence[int]) -> tuple[int, int]:
    """First and last place of a group; (0, 0) for a group of one, which has no bar."""
    return (min(places), max(places)) if len(places) > 1 else (0, 0)


def _levels(spans: Sequence[tuple[int, int]], values: Sequence[float]) -> list[int]:
    """Rows for bars: the first in which a bar does not touch an earlier one."""
    ends: list[float] = []
    levels = []
    for first, last in spans:
        level = next((i for i, end in enumerate(ends) if values[first] > end + 0.25), len(ends))
        ends[level : level + 1] = [values[last]]
        levels.append(level)
    return levels


def _axis(axes: Axes, place: Callable[[float], float], low: int, top: int) -> None:
    axes.plot([place(low), place(top)], [0, 0], color=FAINT, linewidth=0.8)
    axes.text(place(low) - 0.12, 0, "mean rank", ha="right", va="center_baseline", size=SIZE, color=FAINT)
    every = max(1, math.ceil((top - low) / 8))
    for rank in range(low, top + 1, every):
        axes.plot([place(rank)] * 2, [0, -0.06], color=FAINT, linewidth=0.8)
        axes.text(place(rank), -0.09, str(rank), ha="center", va="bottom", size=SIZE)


def _bracket(axes: Axes, left: float, right: float, label: str) -> None:
    y = -0.36
    axes.plot([left, left, left, right, right, right], [y - 0.03, y + 0.03, y, y, y - 0.03, y + 0.03], color=INK,
              linewidth=0.9)  # fmt: skip
    axes.text(left, y - 0.06, label, ha="left", va="bottom", size=SIZE)


def _name(axes: Axes, x: float, y: float, left: bool, rank: str, mark: Mark, margin: float) -> None:
    edge = margin - 0.1 if left else axes.get_xlim()[1] - margin + 0.1
    axes.plot([x, x, edge], [0, y, y], color=mark.colour, linewidth=0.9, zorder=1)
    axes.plot([x], [0], color=mark.colour, marker=mark.marker, markersize=4 if mark.prominent else 5,
              markeredgewidth=0, zorder=3)  # fmt: skip
    text = f"{mark.label}  {rank}" if left else f"{rank}  {mark.label}"
    axes.text(edge - 0.04 if left else edge + 0.04, y, text, ha="right" if left else "left", va="center_baseline",
              size=SIZE, color=INK, weight="bold" if mark.prominent else "normal")  # fmt: skip


def _compared(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"
