"""What a person sees: a table for other programs, and a picture. REPLACE both by the formats of your field.

Put the metadata (prompt, seed, model, ...) into each file, so that a sample says where it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

ACROSS = 8  # curves in a row of the picture


def write_table(curves: Tensor, metadata: Sequence[Mapping[str, str]], file: Path) -> Path:
    """A line a curve, its values separated by commas, below a comment with its metadata."""
    lines = []
    for curve, said in zip(curves.tolist(), metadata, strict=True):
        words = "; ".join(f"{key}={value}" for key, value in said.items()).replace("\n", " ")
        lines += [f"# {words}", ",".join(f"{value:.6g}" for value in curve)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_picture(curves: Tensor, titles: Sequence[str], file: Path) -> Path:
    """All curves on one sheet, each below its title."""
    across = min(ACROSS, len(curves))
    down = -(-len(curves) // across)
    figure = Figure(figsize=(1.6 * across, 1.4 * down), layout="tight")
    FigureCanvasAgg(figure)
    for i, (curve, title) in enumerate(zip(curves, titles, strict=True)):
        axes = figure.add_subplot(down, across, i + 1)
        axes.plot(curve.numpy(), linewidth=1.2)
        axes.set(ylim=(-1.1, 1.1), xticks=[], yticks=[])
        axes.set_title(title, fontsize=8)
    figure.savefig(file, dpi=100)
    return file
