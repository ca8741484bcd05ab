"""How the report's figures look, and how one drawing becomes a PDF, an SVG file and a part of a page.

Colours are those of Okabe and Ito (2008, "Color Universal Design"), which people of all kinds of colour vision tell
apart; their yellow is left out, since it cannot be read on white. Colour is never alone: a method has a marker too.
In the page each colour becomes a CSS variable, so that one drawing is legible on light and on dark ground.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, FAINT, LINE, PAPER, OTHER = "#1d1d23", "#5f5f68", "#dcdce2", "#fefefe", "#a3a3ad"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000001")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 3.7  # inches: a column of a paper, and nearly a phone's width

READABLE = 0.82  # of its size: as small as a figure may get on a screen

# Light and dark values of what the drawings use; the page declares them.
PALETTE = {
    "ink": (INK, "#ececf1"),
    "faint": (FAINT, "#a8a8b4"),
    "line": (LINE, "#383842"),
    "card": (PAPER, "#1b1b21"),
    "other": (OTHER, "#6d6d79"),
    **{
        f"series-{i}": pair
        for i, pair in enumerate(
            zip(SERIES, ("#4da3e0", "#ff8345", "#2cc79b", "#e3a1c6", "#f2b632", "#a3d9f7", "#ffffff"), strict=True)
        )
    },
}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 8.5,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text that can be searched, copied and read aloud
    "pdf.fonttype": 42,
    "mathtext.default": "regular",
    "text.parse_math": False,  # names of methods are not formulas
}


@dataclass(frozen=True)
class Mark:
    """How one method is drawn everywhere: what stands out has a colour and a marker, all others are grey."""

    label: str
    colour: str = OTHER
    marker: str = "."
    prominent: bool = False


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: of its files, without ending.
        svg: for a page, with CSS variables for colours.
        alt: what it shows, for people who do not see it.
        caption: what a reader needs to read it.
    """

    name: str
    svg: str
    alt: str
    caption: str


def marks(labels: Mapping[str, str], best_first: Sequence[str]) -> dict[str, Mark]:
    """A mark for each method; the first seven of `best_first` stand out. `labels` are short names by method."""
    found = {method: Mark(label) for method, label in labels.items()}
    for method, colour, marker in zip(best_first, SERIES, MARKERS, strict=False):
        found[method] = Mark(labels[method], colour, marker, prominent=True)
    return found


@contextmanager
def styled() -> Iterator[None]:
    """The report's style, whatever the user's matplotlibrc says; it is put back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches, with a renderer to measure text with."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Inches that a bold text of `size` points takes."""
    figure = new_figure(1.0)
    return float(figure.text(0, 0, text, size=size, weight="bold").get_window_extent().width / figure.dpi)


def put_title(figure: Figure, title: str) -> None:
    """A title in the upper left corner, smaller where it would not fit."""
    width, height = figure.get_size_inches()
    size = min(9.0, 9.0 * (width - 0.08) / text_width(title, 9.0))
    figure.text(0.04 / width, 1 - 0.08 / height, title, size=size, weight="bold", va="top")


def finish(figure: Figure, folder: Path, name: str, alt: str, caption: str) -> Drawing:
    """Write `folder`/figures/`name`.svg and .pdf, and keep the drawing for the page."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # ids that are the same each time, and differ between figures
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    place = folder / "figures"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.svg").write_text(text, encoding="utf-8")
    figure.savefig(place / f"{name}.pdf", format="pdf", metadata={"CreationDate": None, "Title": alt})
    return Drawing(name, _for_page(text), alt, caption)


def _for_page(text: str) -> str:
    """The SVG element alone, without addresses of the web, names of fonts and ids that other drawings have too."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style .*?</style>\s*|<g/>\s*", "", text, flags=re.S)
    # Clip paths (p...) and marks (m...) are referred to; the salt of `finish` makes their ids the figure's own.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r" ?font-family: [^;\"]*;?| transform=\"rotate\(-0 [^\"]*\"", "", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    for variable, (light, _) in PALETTE.items():
        text = text.replace(light, f"var(--{variable})")
    head, _, rest = text.partition(">")
    width = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    assert width is not None, "matplotlib writes a view box"
    # Narrower than this its words could not be read; then its box scrolls.
    least = round(float(width[1]) * 96 / 72 * READABLE)
    # The figure has a text of its own for who does not see it; nobody wants each tick read out.
    return f'<svg style="min-width: {least}px" {width[0]} aria-hidden="true" focusable="false">{rest}'
