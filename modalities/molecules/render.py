"""Molecules for people: files, a sheet with the graph above the shape, and how they came out of the noise."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from framework.files import write_atomically
from modalities.molecules.depict import BAD, Verdict, drawing, formula, symbol, verdict, wrap
from modalities.molecules.files import write_sdf, write_smiles, write_xyz
from modalities.molecules.molecule import Molecule
from modalities.molecules.page import write_page
from modalities.molecules.picture3d import colour_of, paint, view_of

SINGLE_FILES, ON_SHEET = 64, 24
ROWS, STEPS, FRAMES = 8, 10, 80  # of a trajectory: samples, columns of the strip, pictures of the film
TILE, FLAT, DEEP, MARGIN, PAD, LINE = 224, 150, 170, 12, 8, 16
FONT_SIZE = 12
INK, FAINT, GOOD, RULE = (30, 30, 34), (112, 112, 120), (62, 142, 84), (226, 226, 232)


def render(
    samples: Sequence[Molecule], prompts: Sequence[str], folder: Path, metadata: Sequence[Mapping[str, str]]
) -> list[Path]:
    """Write samples.sdf, samples.xyz, samples.smi, 00000.sdf ... of the first 64, page.html and sheet.png.

    Returns:
        All files, sheet.png last.
    """
    if not len(samples) == len(prompts) == len(metadata):
        raise ValueError(f"{len(samples)} molecules have {len(prompts)} prompts and {len(metadata)} rows of metadata")
    found = [verdict(molecule) for molecule in samples]
    rows = [{**({"prompt": prompt} if prompt else {}), **row} for prompt, row in zip(prompts, metadata, strict=True)]
    files = [
        write_sdf(folder / f"{i:05d}.sdf", samples[i : i + 1], rows[i : i + 1], found[i : i + 1])
        for i in range(min(len(samples), SINGLE_FILES))
    ]
    files += [
        write_sdf(folder / "samples.sdf", samples, rows, found),
        write_xyz(folder / "samples.xyz", samples, rows),
        write_smiles(folder / "samples.smi", samples, found),
        write_page(folder / "page.html", samples, prompts, metadata, verdicts=found),
    ]
    return [*files, _save(contact_sheet(samples, prompts, found), folder / "sheet.png")]


def render_trajectory(states: Sequence[Sequence[Molecule]], prompts: Sequence[str], folder: Path) -> list[Path]:
    """Write how samples came out of the noise: molecules by time, then by sample.

    trajectory.png has a row a sample (at most 8) and a column a time (at most 10); trajectory.gif all of them (at most
    80 times); trajectory.xyz the first sample at all times. The view of a sample is that of its last time.
    """
    if not states or not states[0] or any(len(state) != len(prompts) for state in states):
        raise ValueError(f"a trajectory has a molecule a prompt at each time; got {[len(state) for state in states]}")
    steps = [{"step": str(i + 1)} for i in range(len(states))]
    files = [write_xyz(folder / "trajectory.xyz", [state[0] for state in states], steps)]
    count = min(len(prompts), ROWS)
    film = _spread(len(states), FRAMES)
    strip = _spread(len(states), STEPS)
    # One view for all times of a sample: what moves is the molecule, and not the eye.
    views = [view_of([states[i][k].positions for i in film], TILE, DEEP, states[-1][k].positions) for k in range(count)]
    painted = {
        i: [Image.fromarray(paint(states[i][k], TILE, DEEP, views[k])) for k in range(count)]
        for i in sorted({*film, *strip})
    }
    labels = [f"step {i + 1}" for i in strip]
    picture = _strip([painted[i] for i in strip], labels, prompts[:count])
    files.append(_save(picture, folder / "trajectory.png"))
    return [*files, _save_film([painted[i] for i in film], folder / "trajectory.gif")]


def contact_sheet(
    samples: Sequence[Molecule], prompts: Sequence[str], verdicts: Sequence[Verdict] | None = None
) -> Image.Image:
    """The first 24: the 2-D drawing above the 3-D picture, then prompt, SMILES and verdict; green or red framed.

    What cannot be sanitised has its formula in place of the SMILES. Atoms at fault are marked in both pictures.
    """
    found = verdicts if verdicts is not None else [verdict(molecule) for molecule in samples]
    shown = min(len(samples), ON_SHEET)
    columns = min(max(shown, 2), 6 if shown > 12 else 4)
    font, head = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(17)
    captions = [_caption(samples[i], prompts[i], found[i], font) for i in range(shown)]
    rows = [range(start, min(start + columns, shown)) for start in range(0, shown, columns)]
    heights = [FLAT + DEEP + LINE * max(len(captions[i]) for i in row) + 3 * PAD for row in rows]
    top = 3 * MARGIN + 36
    width = columns * (TILE + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN * len(rows) + LINE + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    valid = sum(v.valid for v in found)
    title = f"{valid} of {len(samples)} molecules valid" if samples else "no molecules"
    pen.text((MARGIN, MARGIN), title, INK, head)
    rest = len(samples) - shown
    more = f"  ·  the first {shown} are shown; {rest} more are in samples.sdf" if rest else ""
    words = f"valid: sanitised as generated, no hydrogen added, no radical, one fragment{more}"
    for number, line in enumerate(wrap(words, font, width - 2 * MARGIN, 2)):
        pen.text((MARGIN, MARGIN + 24 + LINE * number), line, FAINT, font)
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            tile = _tile(samples[i], found[i], captions[i], height, font)
            sheet.paste(tile, (MARGIN + column * (TILE + MARGIN), top))
        top += height + MARGIN
    _legend(pen, samples[:shown], top, font)
    return sheet


def _caption(
    molecule: Molecule, prompt: str, found: Verdict, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[tuple[str, tuple[int, int, int]]]:
    """Lines and their colours."""
    width = TILE - 2 * PAD
    lines = [(line, FAINT) for line in wrap(prompt, font, width, 2)]
    lines += [(line, INK) for line in wrap(found.smiles or formula(molecule), font, width, 2)]
    return lines + [(line, GOOD if found.valid else BAD) for line in wrap(found.words, font, width, 3)]


def _tile(
    molecule: Molecule,
    found: Verdict,
    caption: list[tuple[str, tuple[int, int, int]]],
    height: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> Image.Image:
    tile = Image.new("RGB", (TILE, height), "white")
    pen = ImageDraw.Draw(tile)
    inner = TILE - 2 * PAD
    tile.paste(drawing(molecule, inner, FLAT - PAD, found), (PAD, PAD))
    pen.line((3 * PAD, FLAT + PAD // 2, TILE - 3 * PAD, FLAT + PAD // 2), RULE)
    tile.paste(Image.fromarray(paint(molecule, inner, DEEP - PAD, marked=found.atoms)), (PAD, FLAT + PAD))
    for number, (line, colour) in enumerate(caption):
        pen.text((PAD + 2, FLAT + DEEP + PAD + LINE * number), line, colour, font)
    pen.rounded_rectangle((0, 0, TILE - 1, height - 1), 7, outline=GOOD if found.valid else BAD, width=2)
    return tile


def _legend(
    pen: ImageDraw.ImageDraw,
    samples: Sequence[Molecule],
    top: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """The colours of the elements that are there."""
    left = float(MARGIN)
    for element in sorted({element for molecule in samples for element in molecule.elements.tolist()}):
        pen.ellipse((left, top, left + 11, top + 11), fill=colour_of(element), outline=(90, 90, 96))
        pen.text((left + 16, top - 1), symbol(element), INK, font)
        left += 28 + font.getlength(symbol(element))


def _strip(columns: Sequence[Sequence[Image.Image]], labels: Sequence[str], prompts: Sequence[str]) -> Image.Image:
    font = ImageFont.load_default(FONT_SIZE)
    named = any(prompts)
    height = DEEP + (LINE + 4 if named else 4)
    strip = Image.new("RGB", (len(columns) * TILE + 2 * MARGIN, 2 * MARGIN + 2 * LINE + height * len(prompts)), "white")
    pen = ImageDraw.Draw(strip)
    for column, (pictures, label) in enumerate(zip(columns, labels, strict=True)):
        left = MARGIN + column * TILE
        pen.text((left + TILE / 2, MARGIN), label, FAINT, font, anchor="ma")
        for row, picture in enumerate(pictures):
            strip.paste(picture, (left, MARGIN + 2 * LINE + row * height + (LINE if named else 0)))
    for row, prompt in enumerate(prompts):
        top = MARGIN + 2 * LINE + row * height
        for line in wrap(prompt, font, strip.width - 2 * MARGIN, 1):
            pen.text((MARGIN, top), line, INK, font)
        if row:
            pen.line((MARGIN, top - 3, strip.width - MARGIN, top - 3), RULE)
    return strip


def _save_film(times: Sequence[Sequence[Image.Image]], path: Path, milliseconds: int = 80) -> Path:
    """A GIF of samples beside each other, repeated, resting on the last time."""
    columns = math.ceil(math.sqrt(len(times[0])))
    rows = math.ceil(len(times[0]) / columns)
    film = []
    for pictures in times:
        frame = Image.new("RGB", (columns * TILE, rows * DEEP), "white")
        for i, picture in enumerate(pictures):
            frame.paste(picture, ((i % columns) * TILE, (i // columns) * DEEP))
        film.append(frame)
    # One palette for all times, or colours would flicker.
    both = Image.new("RGB", (columns * TILE, 2 * rows * DEEP))
    both.paste(film[0], (0, 0))
    both.paste(film[-1], (0, rows * DEEP))
    palette = both.quantize(128, dither=Image.Dither.NONE)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in film]
    durations = [milliseconds] * (len(drawn) - 1) + [1800]
    buffer = io.BytesIO()
    drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=durations, loop=0, optimize=False)
    return _write(path, buffer)


def _spread(count: int, most: int) -> list[int]:
    """At most so many of 0 to count - 1, evenly, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _save(picture: Image.Image, path: Path) -> Path:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _write(path, buffer)


def _write(path: Path, buffer: io.BytesIO) -> Path:
    write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return path
