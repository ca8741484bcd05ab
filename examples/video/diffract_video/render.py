"""Clips for people: an animated GIF each, MP4 where imageio with ffmpeg is installed, and a sheet of film strips.

Pixels are enlarged by a whole number with nearest neighbours, so that a GIF can be read back to the last pixel.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageSequence, UnidentifiedImageError
from torch import Tensor

from framework.errors import DataError

MILLISECONDS, TILE = 120, 96
MARGIN, FONT, LINE, MOST = 6, 12, 18, 32
PAPER, INK = (255, 255, 255), (30, 30, 30)


def render(
    clips: UInt8[Tensor, "n t c h w"], captions: Sequence[str], folder: Path, metadata: Sequence[Mapping[str, str]]
) -> list[Path]:
    """00000.gif (and .mp4), ..., and sheet.png."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for i, (clip, row) in enumerate(zip(clips, metadata, strict=True)):
        files.append(folder / f"{i:05d}.gif")
        files[-1].write_bytes(gif(np.asarray(clip), row))
        if importlib.util.find_spec("imageio") and importlib.util.find_spec("imageio_ffmpeg"):
            files.append(save_mp4(np.asarray(clip), folder / f"{i:05d}.mp4"))
    sheet(clips[:MOST], captions[:MOST]).save(folder / "sheet.png")
    return [*files, folder / "sheet.png"]


def pictures(clip: UInt8[np.ndarray, "t c h w"], tile: int = TILE) -> list[Image.Image]:
    """The frames, enlarged so that the shorter side has at least `tile` pixels."""
    factor = max(1, math.ceil(tile / min(clip.shape[-2:])))
    frames = np.repeat(clip, 3 // clip.shape[1], axis=1).transpose(0, 2, 3, 1)
    return [Image.fromarray(np.ascontiguousarray(frame.repeat(factor, 0).repeat(factor, 1))) for frame in frames]


def indexed(picture: Image.Image) -> Image.Image:
    """The picture with a palette of its own: exact where it has at most 256 colours."""
    pixels = np.asarray(picture)
    colours, index = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > 256:
        return picture.quantize(256, dither=Image.Dither.NONE)
    exact = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    exact.putpalette(colours.flatten().tolist())
    return exact


def gif(clip: UInt8[np.ndarray, "t c h w"], metadata: Mapping[str, str]) -> bytes:
    """An animated GIF that repeats, with the metadata as its comment."""
    frames = [indexed(picture) for picture in pictures(clip)]
    comment, file = json.dumps({"height": str(clip.shape[-2]), **metadata}), io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, comment=comment.encode()
    )
    return file.getvalue()


def read_gif(path: Path, frames: int, size: int) -> UInt8[np.ndarray, "t 3 h w"]:
    """The first frames of a GIF at that size: pixels at the middles of squares, repeated where it shows one for longer.

    Raises:
        DataError: it is no GIF, is not square, or shows fewer frames.
    """
    try:
        with Image.open(path) as file:
            if file.format != "GIF" or file.width != file.height or file.width < size:
                raise DataError(f"{path} is no square GIF of at least {size} pixels")
            shown = [
                (np.array(f.convert("RGB")), f.info.get("duration", MILLISECONDS)) for f in ImageSequence.Iterator(file)
            ]
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as a GIF: {error}") from error
    least = min(duration for _, duration in shown) or 1
    whole = [frame for frame, duration in shown for _ in range(max(1, round(duration / min(least, MILLISECONDS))))]
    if len(whole) < frames:
        raise DataError(f"{path} shows {len(whole)} frames, and clips here have {frames}")
    middle = ((np.arange(size) + 0.5) * len(whole[0]) / size).astype(int)
    return np.stack(whole[:frames])[:, middle][:, :, middle].transpose(0, 3, 1, 2)


def told(path: Path) -> dict[str, str] | None:
    """The metadata of a GIF that was written here."""
    try:
        with Image.open(path) as file:
            found = json.loads(file.info.get("comment", b"null")) if file.format == "GIF" else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def save_mp4(clip: UInt8[np.ndarray, "t c h w"], path: Path) -> Path:
    """H.264, which shows a clip once; needs the extra `mp4`."""
    import imageio.v2

    frames = [np.asarray(picture) for picture in pictures(clip)]
    imageio.v2.mimwrite(path, frames, fps=1000 / MILLISECONDS, macro_block_size=2)
    return path


def sheet(clips: UInt8[Tensor, "n t c h w"], captions: Sequence[str], tile: int = 48) -> Image.Image:
    """Film strips, one below the other, each under its caption; two beside each other where there are many."""
    strips = [pictures(np.asarray(clip), tile) for clip in clips]
    width, height = strips[0][0].size
    columns = 1 if len(strips) <= 6 else 2
    across, down = len(strips[0]) * (width + 2) + 2 * MARGIN, height + LINE + MARGIN
    rows = -(-len(strips) // columns)
    picture = Image.new("RGB", (columns * across, rows * down + MARGIN), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT)
    for i, (strip, caption) in enumerate(zip(strips, captions, strict=True)):
        x, y = i % columns * across + MARGIN, i // columns * down + MARGIN
        pen.text((x, y), caption, INK, font)
        for k, frame in enumerate(strip):
            picture.paste(frame, (x + k * (width + 2), y + LINE))
    return picture


def embedded(clip: UInt8[Tensor, "t c h w"]) -> str:
    """The GIF as an <img> that needs no file."""
    return f'<img alt="" src="data:image/gif;base64,{base64.b64encode(gif(np.asarray(clip), {})).decode()}">'
