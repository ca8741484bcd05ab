"""Pictures of a person's own as samples, masks, and what a sample's PNG says of how it was made.

A picture of any size, format and orientation is brought to the model's canvas: upright, its centre square, resized with
anti-aliasing, transparency over white; grey where the model knows one channel. A mask goes the same way, so that the
mask of a picture fits it: what is white in it is meant.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from framework.errors import DataError, UserError
from modalities.images.decode import BOX, SMOOTH, decode

LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601


def read_image(path: str | Path, size: int, channels: int) -> UInt8[Tensor, "c size size"]:
    """The pixels of a picture.

    Raises:
        DataError: the file cannot be read, or is no picture; the message names it.
    """
    pixels = torch.from_numpy(decode_file(path, size))
    if channels == 3:
        return pixels
    return torch.tensordot(LUMA, pixels.float(), dims=1).round().clamp(0, 255).to(torch.uint8)[None]


def read_mask(path: str | Path, size: int) -> Bool[Tensor, "size size"]:
    """Where a picture is nearer to white than to black.

    Raises:
        DataError: as `read_image`.
    """
    return torch.from_numpy(decode_file(path, size)).float().mean(0) > 127.5


def read_metadata(path: str | Path) -> dict[str, str] | None:
    """The text that a PNG carries; None for a file that is no PNG."""
    try:
        with Image.open(path) as picture:
            if picture.format != "PNG":
                return None
            picture.load()  # text may follow the pixels
            return dict(getattr(picture, "text", {}))
    except (OSError, SyntaxError, ValueError):
        return None


def decode_file(path: str | Path, size: int, exact: bool = False) -> UInt8[np.ndarray, "3 size size"]:
    """A file's centre square in RGB, by means over squares if `exact`; DataError names the file and what is wrong."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, and one picture was asked for")
    try:
        return decode(path.read_bytes(), size, BOX if exact else SMOOTH)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
