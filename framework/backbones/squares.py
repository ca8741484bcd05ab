"""Pictures as rows of tokens, squares of p x p pixels, and back."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from framework.errors import UserError


def cut(x: Float[Tensor, "b c h w"], patch: int) -> tuple[Float[Tensor, "b n d"], Int[Tensor, "n 2"]]:
    """The squares of pictures, row by row (D = C p^2), and the row and column of each.

    Raises:
        UserError: `patch` does not divide the height and the width.
    """
    height, width = x.shape[-2:]
    if height % patch or width % patch:
        raise UserError(
            f"a canvas of {height}x{width} pixels cannot be cut into squares of {patch}; choose a patch that divides "
            "both sides"
        )
    rows, columns = (torch.arange(side // patch, device=x.device) for side in (height, width))
    return functional.pixel_unshuffle(x, patch).flatten(2).transpose(1, 2), torch.cartesian_prod(rows, columns)


def joined(squares: Float[Tensor, "b n d"], height: int, patch: int) -> Float[Tensor, "b c h w"]:
    """The pictures of that height whose squares these are."""
    rows = height // patch
    return functional.pixel_shuffle(squares.transpose(1, 2).unflatten(2, (rows, -1)), patch)
