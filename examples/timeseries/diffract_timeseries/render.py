"""Series as pictures: for each prompt and channel the quantiles of its samples, or the sample itself if it is alone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROWS, LINES = 6, 2  # prompts on a sheet; samples that are drawn over their quantiles
COLOURS = ("#c1440e", "#1f5a99", "#3d7a33", "#7a3d8a", "#8a6d1f")


def sheet(samples: Float[np.ndarray, "n l c"], prompts: Sequence[Any], channels: Sequence[str], path: Path) -> Path:
    """A row a prompt, a column a channel: median, middle half and nine tenths of its samples, and two of them."""
    groups: dict[Any, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(i)
    shown = list(groups.items())[:ROWS]
    figure = Figure(figsize=(3.3 * len(channels), 1.9 * len(shown) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), len(channels), squeeze=False, sharex=True, sharey="col")
    steps = np.arange(samples.shape[1])
    for row, (prompt, rows) in zip(axes, shown, strict=True):
        for c, axis in enumerate(row):
            colour, drawn = COLOURS[c % len(COLOURS)], samples[rows, :, c]
            if len(rows) >= 4:
                for low, high, alpha in ((0.05, 0.95, 0.2), (0.25, 0.75, 0.35)):
                    axis.fill_between(steps, *np.quantile(drawn, (low, high), axis=0), color=colour, alpha=alpha, lw=0)
                axis.plot(steps, np.median(drawn, 0), color=colour, lw=1.4)
            for line in drawn[: LINES if len(rows) >= 4 else 4]:
                axis.plot(steps, line, color=colour, lw=0.6, alpha=0.6 if len(rows) >= 4 else 1.0)
            axis.tick_params(labelsize=7)
            axis.margins(x=0.01)
        row[0].set_ylabel(f"{'' if prompt is None else prompt}\n{len(rows)} samples", fontsize=8)
    for axis, name in zip(axes[0], channels, strict=True):
        axis.set_title(name, fontsize=9)
    figure.savefig(path, dpi=90)
    return path


def drawing(values: Float[np.ndarray, "l c"], channels: Sequence[str]) -> str:
    """One series as SVG, each channel over its own range."""
    width, height, lines = 200, 90, []
    for c in range(len(channels)):
        good = np.isfinite(values[:, c])
        low, high = (values[good, c].min(), values[good, c].max()) if good.any() else (0.0, 0.0)
        x, y = np.arange(len(values)) * width / max(len(values) - 1, 1), (high - values[:, c]) / max(high - low, 1e-9)
        points = " ".join(f"{a:.1f},{3 + (height - 6) * b:.1f}" for a, b in zip(x[good], y[good], strict=True))
        lines.append(f'<polyline fill="none" stroke="{COLOURS[c % len(COLOURS)]}" points="{points}"/>')
    title = f"<title>{html.escape(', '.join(channels))}</title>"
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">{title}{"".join(lines)}</svg>'
