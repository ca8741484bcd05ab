"""A diffusion transformer over time: a few frames with all their bands are a token, and clips may differ in length.

A state (L, C, F) is cut into pieces of p frames; each is a token of p C F numbers beside its place in the clip (the
distances to the first and the last real frame, as cosines and sines). Time enters attention by rotation, so that
nothing depends on where in the batch's canvas a clip lies, nor on how much padding follows it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.rotary import waves
from framework.backbones.text import TextModel
from framework.backbones.transformer import DiffusionTransformer
from framework.errors import UserError

PLACE = 32  # features of each of the two distances


class TimeTransformer(nn.Module):
    """x_t (B, L, C, F), noise level (B,) in [0, 1000] and a condition -> a state, zero when fresh and where masked.

    Args:
        channels, bands: C and F of the state.
        patch: frames a token; L is padded up to a multiple inside.

    The others are those of `framework.backbones.transformer.DiffusionTransformer`; `labels` are named as the
    condition names them. The condition's `mask` (B, L) bool says which frames are real.
    """

    def __init__(
        self,
        channels: int,
        bands: int,
        patch: int = 2,
        width: int = 128,
        layers: int = 6,
        heads: int = 4,
        expansion: float = 2.0,
        labels: Mapping[str, int] | None = None,
        text: TextModel | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if patch < 1:
            raise UserError(f"patch={patch} frames must be at least 1")
        self.patch, size = patch, patch * channels * bands
        self.transformer = DiffusionTransformer(
            size + 2 * PLACE, size, 1, width, layers, heads, expansion, labels, text, dropout
        )

    def forward(
        self, x_t: Float[Tensor, "b l c f"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b l c f"]:
        """The raw output of the network for B clips of up to L frames."""
        mask: Bool[Tensor, "b l"] = condition["mask"]
        real = mask[:, :, None, None]
        frames = x_t.shape[1]
        more = -frames % self.patch
        x = functional.pad(torch.where(real, x_t, 0.0).flatten(2), (0, 0, 0, more))
        pieces = x.unflatten(1, (-1, self.patch)).flatten(2)
        valid = functional.pad(mask, (0, more)).unflatten(1, (-1, self.patch)).any(2)
        place = self._place(mask, pieces.shape[1]).to(x_t.dtype)
        positions = torch.arange(pieces.shape[1], device=x_t.device)[:, None]
        out = self.transformer(torch.cat([pieces, place], dim=2), positions, noise_level, condition, valid)
        out = out.unflatten(2, (self.patch, *x_t.shape[2:])).flatten(1, 2)[:, :frames]
        return torch.where(real, out, 0.0)

    def _place(self, mask: Bool[Tensor, "b l"], tokens: int) -> Float[Tensor, "b n e"]:
        """How far each token begins behind the first real frame and before the end of the last, in tokens."""
        first = mask.int().argmax(1)
        end = mask.shape[1] - mask.flip(1).int().argmax(1)
        begin = torch.arange(tokens, device=mask.device) * self.patch
        distances = torch.stack([begin - first[:, None], end[:, None] - begin], dim=2) / self.patch
        return waves(distances, PLACE).flatten(2)
