"""Parts of a picture in words.

    x=0-0.5                from the left edge to the middle, in shares of the width
    y=0.2-0.8              likewise from the top
    box=0.2,0.1,0.7,0.6    left, top, right, bottom
    mask=FILE.png          what is white in a picture, which is cropped and resized as the input is; it comes last

Several of them hold together. A pixel lies in a region when its centre does. A latent stands for several pixels: it
lies in a region when all of them do, so that nothing beyond the region is held with it; and when a region is to be made
anew, a latent goes with it as soon as one of its pixels does.
"""

from __future__ import annotations

import re

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional

from framework.errors import UserError
from modalities.images.files import read_mask

NUMBER = r"([0-9]*\.?[0-9]+)"
SPAN = re.compile(rf"([xy])={NUMBER}-{NUMBER}")
BOX = re.compile(rf"box={NUMBER},{NUMBER},{NUMBER},{NUMBER}")
MASK = re.compile(r"(?:^|\s)mask=(.+)$")
KNOWN = "regions of images are x=0-0.5, y=0.2-0.8, box=LEFT,TOP,RIGHT,BOTTOM (shares of the sides) and mask=FILE.png"


def pixels_in(text: str, size: int) -> Bool[Tensor, "size size"]:
    """The pixels of a canvas that lie in the region.

    Raises:
        UserError: a word that names no region, or a region without a pixel in it.
        DataError: the mask cannot be read.
    """
    inside = torch.ones(size, size, dtype=torch.bool)
    if found := MASK.search(text):
        inside &= read_mask(found[1].strip(), size)
        text = text[: found.start()]
    centres = (torch.arange(size) + 0.5) / size
    for word in text.split():
        if found := SPAN.fullmatch(word):
            start, end = _span(word, found[2], found[3])
            along = (centres >= start) & (centres < end)
            inside &= along[None, :] if found[1] == "x" else along[:, None]
        elif found := BOX.fullmatch(word):
            (left, right), (top, bottom) = _span(word, found[1], found[3]), _span(word, found[2], found[4])
            across, down = (centres >= left) & (centres < right), (centres >= top) & (centres < bottom)
            inside &= down[:, None] & across[None, :]
        else:
            raise UserError(f"unknown region {word!r}; {KNOWN}")
    if not bool(inside.any()):
        raise UserError(f"no pixel of {size}x{size} lies in the region {text!r}")
    return inside


def latents_within(pixels: Bool[Tensor, "size size"], height: int, width: int) -> Bool[Tensor, "height width"]:
    """The latents on a grid of that size of which all pixels are True."""
    outside = (~pixels).float()[None, None]
    return functional.adaptive_max_pool2d(outside, (height, width))[0, 0] == 0


def _span(word: str, start: str, end: str) -> tuple[float, float]:
    if not 0 <= float(start) < float(end) <= 1:
        raise UserError(f"{word!r} goes from {start} to {end}: shares of a side rise from 0 to 1")
    return float(start), float(end)
