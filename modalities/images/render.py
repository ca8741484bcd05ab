"""Pictures for people: PNG files that say how they were made, contact sheets, denoising as a strip or GIF.

Small pictures are enlarged by a whole number with nearest neighbours: a pixel stays a square, and nothing is
made to look smoother than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

TILE, MARGIN, FONT_SIZE = 96, 8, 12
PAPER, INK = (255, 255, 255), (30, 30, 30)

Pixels = UInt8[np.ndarray, "..."] | UInt8[Tensor, "..."]


def to_picture(image: Pixels) -> Image.Image:
    """One image (C, H, W), uint8, C = 1 or 3, as a Pillow image."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise ValueError(f"a picture is uint8 of shape (1 or 3, H, W); got {pixels.dtype} {pixels.shape}")
    rows = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(rows))


def save_png(image: Pixels | Image.Image, path: str | Path, metadata: Mapping[str, str]) -> Path:
    """Write an image (C, H, W) or a sheet as PNG, with text chunks such as prompt and seed."""
    picture = image if isinstance(image, Image.Image) else to_picture(image)
    chunks = PngInfo()
    for key, value in metadata.items():
        chunks.add_text(key, value)  # as tEXt if it is Latin-1, else as iTXt
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="PNG", pnginfo=chunks)
    return path


def save_pngs(
    images: Pixels,
    folder: str | Path,
    prompts: Sequence[str],
    seeds: Sequence[int],
    metadata: Mapping[str, str],
) -> list[Path]:
    """Write images (N, C, H, W) as 00000.png, ...: each holds its prompt, its seed and what all share."""
    return [
        save_png(image, Path(folder) / f"{i:05d}.png", {"prompt": prompt, "seed": str(seed), **metadata})
        for i, (image, prompt, seed) in enumerate(zip(images, prompts, seeds, strict=True))
    ]


def enlarge(picture: Image.Image, tile: int = TILE) -> Image.Image:
    """The picture in RGB, each pixel repeated so often that the shorter side has at least `tile` pixels."""
    factor = max(1, math.ceil(tile / min(picture.size)))
    return picture.convert("RGB").resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def contact_sheet(images: Pixels, captions: Sequence[str], columns: int | None = None, tile: int = TILE) -> Image.Image:
    """Images (N, C, H, W) in rows of `columns` (None: about as many as rows), captions below."""
    if len(images) != len(captions) or len(images) == 0:
        raise ValueError(f"a contact sheet has a caption an image; got {len(images)} and {len(captions)}")
    columns = columns or math.ceil(math.sqrt(len(images)))
    tiles = [enlarge(to_picture(image), tile) for image in images]
    width, height = tiles[0].size
    font = ImageFont.load_default(FONT_SIZE)
    texts = [wrap(caption, font, width) for caption in captions]
    line = math.ceil(1.25 * FONT_SIZE)
    rows = [range(start, min(start + columns, len(tiles))) for start in range(0, len(tiles), columns)]
    heights = [height + line * max(len(texts[i]) for i in row) + 2 * MARGIN for row in rows]
    columns = min(columns, len(tiles))
    sheet = Image.new("RGB", (columns * (width + MARGIN) + MARGIN, sum(heights) + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, row_height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = MARGIN + column * (width + MARGIN)
            sheet.paste(tiles[i], (left, top))
            # White pictures would melt into the paper without an outline.
            pen.rectangle((left - 1, top - 1, left + width, top + height), outline=(200, 200, 200))
            for number, text in enumerate(texts[i]):
                pen.text((left, top + height + 3 + number * line), text, INK, font)
        top += row_height
    return sheet


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, broken at spaces, within a word only if it is wider."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        while font.getlength(word) > width and len(word) > 1:
            fit = max(1, max((k for k in range(1, len(word)) if font.getlength(word[:k]) <= width), default=1))
            lines.append(word[:fit])
            word = word[fit:]
        lines.append(word)
    return lines


def trajectory_strip(frames: Pixels, labels: Sequence[str], tile: int = TILE) -> Image.Image:
    """Denoising at a glance: frames (T, N, C, H, W) as N rows of T columns, each under its label."""
    steps, samples = _check_frames(frames)
    if len(labels) != steps:
        raise ValueError(f"a strip has a label a step; got {steps} steps and {len(labels)} labels")
    font = ImageFont.load_default(FONT_SIZE)
    head = math.ceil(1.25 * FONT_SIZE) + MARGIN
    width, height = enlarge(to_picture(frames[0][0]), tile).size
    strip = Image.new("RGB", (steps * (width + 2) + 2 * MARGIN, head + samples * (height + 2) + MARGIN), PAPER)
    pen = ImageDraw.Draw(strip)
    for step in range(steps):
        left = MARGIN + step * (width + 2)
        text = (wrap(labels[step], font, width) or [""])[0]
        pen.text((left, MARGIN // 2), text, INK, font)
        for sample in range(samples):
            strip.paste(enlarge(to_picture(frames[step][sample]), tile), (left, head + sample * (height + 2)))
    return strip


def save_gif(frames: Pixels, path: str | Path, tile: int = TILE, milliseconds: int = 120) -> Path:
    """Denoising as a film: frames (T, N, C, H, W) side by side, repeated, resting on the last frame."""
    steps, samples = _check_frames(frames)
    columns = math.ceil(math.sqrt(samples))
    film = []
    for step in range(steps):
        tiles = [enlarge(to_picture(image), tile) for image in frames[step]]
        width, height = tiles[0].size
        rows = math.ceil(samples / columns)
        picture = Image.new("RGB", (columns * (width + 2) + 2, rows * (height + 2) + 2), PAPER)
        for i, item in enumerate(tiles):
            picture.paste(item, (2 + (i % columns) * (width + 2), 2 + (i // columns) * (height + 2)))
        film.append(picture)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    durations = [milliseconds] * (steps - 1) + [10 * milliseconds]
    film[0].save(path, format="GIF", save_all=True, append_images=film[1:], duration=durations, loop=0)
    return path


def _check_frames(frames: Pixels) -> tuple[int, int]:
    if frames.ndim != 5 or 0 in frames.shape:
        raise ValueError(f"a trajectory has shape (steps, samples, C, H, W); got {tuple(frames.shape)}")
    return frames.shape[0], frames.shape[1]
