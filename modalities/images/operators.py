"""What can be seen of a picture without seeing it whole, in words: the measurements that `task=restore` undoes.

    pool=4     squares of 4 x 4 pixels as their mean: the picture is known at a quarter of its size
    grey       the mean of the colours
    pool=2 grey

All are means over blocks of the state (B, C, H, W), and so one operator with A A^T = I / block.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from framework.editing.observed import AveragePool
from framework.errors import UserError
from modalities.images.files import decode_file

POOL = re.compile(r"pool=([0-9]+)")


def operator(text: str, size: int, channels: int) -> AveragePool:
    """The operator that words name.

    Raises:
        UserError: they name none, or one that a canvas of this size has not.
    """
    blocks: dict[int, int] = {}
    for word in text.replace(",", " ").split():
        if found := POOL.fullmatch(word):
            block = int(found[1])
            if block < 2 or size % block:
                fits = ", ".join(str(k) for k in range(2, size + 1) if size % k == 0)
                raise UserError(f"{word!r}: blocks divide a side of {size} pixels: {fits}")
            blocks |= {2: block, 3: block}
        elif word in ("grey", "gray"):
            if channels == 1:
                raise UserError(f"{word!r}: this model's pictures are grey, so that no colour can be restored")
            blocks[1] = channels
        else:
            raise UserError(f"unknown measurement {word!r}; those of images are pool=4 (any block) and grey")
    if not blocks:
        raise UserError("name what the input shows of a picture: pool=4 (a small one), grey, or both")
    return AveragePool(blocks)


def seen_in(path: Path, how: AveragePool, size: int, channels: int) -> Tensor:
    """What a file shows under the operator, in [-1, 1]: float32 (1, C or 1, H / block, W / block).

    The file is the small or grey picture itself, or the whole one, which is then measured: resized by means over
    squares it is what the operator makes of it.
    """
    small = size // how.blocks.get(2, 1)
    pixels = torch.from_numpy(decode_file(path, small, exact=True)).float()[None] / 127.5 - 1
    return pixels.mean(1, keepdim=True) if channels == 1 or 1 in how.blocks else pixels
