"""What one call of `sample` has drawn, on one sheet: a plain contact sheet, a table of prompt by seed, or strips.

Which of them it is, the samples' metadata tell: several seeds make a table, with a row a prompt and a column a seed;
interpolations are strips, with a column a frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modalities.images.render import FONT_SIZE, INK, MARGIN, PAPER, Pixels, contact_sheet, enlarge, to_picture, wrap

LABEL = 120  # pixels for the words beside a row


def sheet_of(images: Pixels, texts: Sequence[str], metadata: Sequence[Mapping[str, str]]) -> Image.Image:
    """The sheet of images (N, C, H, W) with such captions and metadata."""
    columns = _frames(metadata) or _seeds(metadata)
    if columns is None or len(images) % len(columns):
        return contact_sheet(images, texts)
    return table(images, texts[:: len(columns)], columns)


def table(images: Pixels, rows: Sequence[str], columns: Sequence[str]) -> Image.Image:
    """Images (rows * columns, C, H, W), row by row, with words beside each row and above each column."""
    if len(images) != len(rows) * len(columns):
        raise ValueError(
            f"{len(rows)} rows of {len(columns)} have {len(rows) * len(columns)} images, not {len(images)}"
        )
    font = ImageFont.load_default(FONT_SIZE)
    line = math.ceil(1.25 * FONT_SIZE)
    tiles = [enlarge(to_picture(image)) for image in images]
    width, height = tiles[0].size
    texts = [wrap(text, font, LABEL) for text in rows]
    heads = [wrap(text, font, width) for text in columns]
    side = LABEL + MARGIN if any(texts) else 0
    head = line * max(len(lines) for lines in heads) + MARGIN
    heights = [max(height, line * len(lines)) + MARGIN for lines in texts]
    size = (side + len(columns) * (width + MARGIN) + MARGIN, head + sum(heights) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, lines in enumerate(heads):
        for number, text in enumerate(lines):
            place = (side + MARGIN + column * (width + MARGIN), MARGIN // 2 + number * line)
            pen.text(place, text, INK, font)
    top = head
    for row, (lines, row_height) in enumerate(zip(texts, heights, strict=True)):
        for number, text in enumerate(lines):
            pen.text((MARGIN, top + number * line), text, INK, font)
        for column in range(len(columns)):
            left = side + MARGIN + column * (width + MARGIN)
            sheet.paste(tiles[row * len(columns) + column], (left, top))
            # White pictures would melt into the paper without an outline.
            pen.rectangle((left - 1, top - 1, left + width, top + height), outline=(200, 200, 200))
        top += row_height
    return sheet


def _frames(metadata: Sequence[Mapping[str, str]]) -> list[str] | None:
    """Shares as the columns of strips; None if these are none."""
    if not metadata or metadata[0].get("task") != "Interpolate":
        return None
    frames = int(metadata[0]["task.frames"])
    return [f"{share:.0%}" for share in np.linspace(0, 1, frames)]


def _seeds(metadata: Sequence[Mapping[str, str]]) -> list[str] | None:
    """The columns of a table of prompt by seed; None if there is one seed, or the rows differ."""
    seeds = [row.get("seed", "") for row in metadata]
    if len(set(seeds)) < 2:
        return None
    drawn = [(row.get("seed", ""), row.get("index", "")) for row in metadata]
    count = drawn.index(drawn[0], 1) if drawn[0] in drawn[1:] else len(drawn)
    if len(drawn) % count or drawn != drawn[:count] * (len(drawn) // count):
        return None
    return [f"seed {seed}" for seed in seeds[:count]]
