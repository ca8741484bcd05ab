"""Texts for people: a line each, the same with how they were made, and a sheet on which what was given is grey."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from diffract_text.units import BLANK, Units

FONT, LINE, MARGIN, WIDTH, MOST = 15, 22, 14, 560, 64
PAPER, INK, GIVEN, NUMBER = (255, 255, 255), (20, 20, 20), (150, 150, 150), (205, 205, 205)


def write(
    texts: Sequence[str], prompts: Sequence[str], folder: Path, metadata: Sequence[Mapping[str, str]], units: Units
) -> list[Path]:
    """samples.txt, samples.jsonl and sheet.png."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text, **row}, ensure_ascii=False) for text, row in zip(texts, metadata, strict=True)]
    for name, rows in (("samples.txt", texts), ("samples.jsonl", lines)):
        (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    sheet(texts, prompts, units).save(folder / "sheet.png")
    return [folder / name for name in ("samples.txt", "samples.jsonl", "sheet.png")]


def sheet(texts: Sequence[str], prompts: Sequence[str], units: Units) -> Image.Image:
    """Up to 64 texts in columns; units that the prompt gave are grey."""
    texts, prompts = texts[:MOST], prompts[:MOST]
    font = ImageFont.load_default(FONT)
    widest = max(math.ceil(font.getlength(text)) for text in texts) + 50
    columns = max(1, min(len(texts), 2 * WIDTH // widest))
    rows = -(-len(texts) // columns)
    picture = Image.new("RGB", (max(WIDTH, columns * widest) + MARGIN, rows * LINE + 2 * MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    for i, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        x, y = MARGIN + i // rows * widest, float(MARGIN + i % rows * LINE)
        pen.text((x, y), f"{i + 1}", NUMBER, font)
        place, given = x + 32.0, units.split(prompt)
        for k, unit in enumerate(units.split(text)):
            said = k < len(given) and given[k] != BLANK
            pen.text((place, y), unit, GIVEN if said else INK, font)
            place += font.getlength(unit + units.separator)
    return picture
