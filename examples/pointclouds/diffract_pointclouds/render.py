"""Clouds as pictures: seen from above at an angle, near points large and dark, far ones small and pale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

TURN, TILT = 0.6, 0.45  # rad: about z, then towards the eye
SHOWN = 36


def sheet(clouds: Sequence[Float[np.ndarray, "n 3"]], texts: Sequence[str], path: Path) -> Path:
    """Up to 36 clouds in rows, with what was asked for below."""
    clouds, count = clouds[:SHOWN], min(len(clouds), SHOWN)
    columns = min(count, max(4, math.ceil(math.sqrt(count))))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(1.5 * columns, 1.65 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, points, text in zip(axes, clouds, texts, strict=False):
        right, up, depth = seen(points).T
        order = np.argsort(depth)
        near = (depth[order] - depth.min()) / max(float(np.ptp(depth)), 1e-9)
        axis.scatter(right[order], up[order], s=4 + 10 * near, c=near, cmap="viridis_r", vmin=-0.3, vmax=1.1, lw=0)
        middle, half = (
            np.array([f(right), f(up)]) for f in (lambda v: (v.min() + v.max()) / 2, lambda v: np.ptp(v) / 2)
        )
        reach = 1.05 * max(float(half.max()), 1e-9)
        axis.set_xlim(middle[0] - reach, middle[0] + reach)
        axis.set_ylim(middle[1] - reach, middle[1] + reach)
        axis.set_aspect("equal")
        axis.set_title(text, fontsize=8, y=-0.08)
    figure.savefig(path, dpi=80)
    return path


def seen(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Coordinates to the right, up, and towards the eye."""
    x, y, z = points.T
    side, away = math.cos(TURN) * x - math.sin(TURN) * y, math.sin(TURN) * x + math.cos(TURN) * y
    up = math.cos(TILT) * z + math.sin(TILT) * away
    return np.stack([side, up, math.sin(TILT) * z - math.cos(TILT) * away], 1)


def drawing(points: Float[np.ndarray, "n 3"]) -> str:
    """One cloud as SVG, far points pale."""
    view = seen(points)
    view = view[np.argsort(view[:, 2])]
    near = (view[:, 2] - view[0, 2]) / max(float(np.ptp(view[:, 2])), 1e-9)
    scale = 55 / max(float(np.abs(view[:, :2]).max()), 1e-9)
    dots = [
        f'<circle cx="{60 + scale * x:.1f}" cy="{60 - scale * y:.1f}" r="{1.2 + d:.1f}" opacity="{0.3 + 0.7 * d:.2f}"/>'
        for (x, y, _), d in zip(view, near, strict=True)
    ]
    return f'<svg viewBox="0 0 120 120" width="120" height="120" fill="#31688e">{"".join(dots)}</svg>'
