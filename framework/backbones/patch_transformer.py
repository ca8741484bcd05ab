"""A diffusion transformer for pictures: squares of pixels are its tokens, rows and columns its axes.

A picture (C, H, W) is cut into squares of p x p pixels; each is a token of p^2 C numbers beside its place on the
canvas (distances to all four edges, in squares, as cosines and sines). ViT's patches (Dosovitskiy et al., arXiv
2010.11929) under the diffusion transformer of Peebles & Xie, arXiv 2212.09748. Positions a radian run to 100 and not
to 10,000, since canvases are a few dozen squares wide (Heo et al., arXiv 2403.13298).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.rotary import waves
from framework.backbones.squares import cut, joined
from framework.backbones.text import TextModel
from framework.backbones.transformer import DiffusionTransformer
from framework.errors import UserError

PLACE = 16  # features of each of the four distances


class PatchTransformer(nn.Module):
    """x_t (B, C, H, W), noise level (B,) in [0, 1000] and a condition -> an image, zero when fresh.

    Args:
        channels: colour channels C of the image.
        patch: pixels along the side of a token; divides H and W, which are free otherwise.
        num_classes: reads the condition's `label` (B,) int64 in [0, num_classes], the last meaning "none".

    The others are those of `DiffusionTransformer`; `width / heads` is a multiple of 4.
    """

    def __init__(
        self,
        channels: int = 3,
        patch: int = 2,
        width: int = 128,
        layers: int = 6,
        heads: int = 4,
        expansion: float = 2.0,
        num_classes: int | None = None,
        text: TextModel | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if patch < 1:
            raise UserError(f"patch={patch} must be at least 1")
        self.patch, size = patch, channels * patch**2
        labels = {} if num_classes is None else {"label": num_classes}
        self.transformer = DiffusionTransformer(
            size + 4 * PLACE, size, 2, width, layers, heads, expansion, labels, text, dropout, base=100.0
        )  # fmt: skip

    def forward(
        self, x_t: Float[Tensor, "b c h w"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b c h w"]:
        """The raw output of the network for B pictures.

        Raises:
            UserError: `patch` does not divide the height and the width.
        """
        squares, positions = cut(x_t, self.patch)
        far = positions[-1] - positions
        place = waves(torch.cat([positions, far], dim=1), PLACE).flatten(1).to(x_t.dtype)
        tokens = torch.cat([squares, place.expand(len(x_t), -1, -1)], dim=2)
        return joined(self.transformer(tokens, positions, noise_level, condition), x_t.shape[-2], self.patch)
