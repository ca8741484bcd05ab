"""A transformer over time that is told which entries of its series are there."""

from __future__ import annotations

import torch
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.functional import pad

from framework.backbones.rotary import waves
from framework.backbones.transformer import DiffusionTransformer

WAVES = 16


class SeriesTransformer(nn.Module):
    """Series (B, L, C), a noise level (B,) and a condition -> series (B, L, C).

    A token is `patch` steps of all channels, with condition["observed"] (B, L, C) beside them, since a missing entry is
    zero and a zero is not always missing, and with its place in the window, since the window begins at midnight.

    Args:
        channels: C.
        classes: reads condition["label"] (B,), in [0, classes]; 0 reads no label.
        patch: steps a token.
        width, layers, heads, dropout: of the DiffusionTransformer.
    """

    def __init__(
        self,
        channels: int,
        classes: int = 0,
        patch: int = 4,
        width: int = 96,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch = patch
        labels = {"label": classes} if classes else None
        self.transformer = DiffusionTransformer(
            2 * patch * channels + WAVES, patch * channels, 1, width, layers, heads, labels=labels, dropout=dropout
        )

    def forward(
        self, x: Float[Tensor, "b l c"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b l c"]:
        both = torch.stack([x, condition["observed"].to(x)], 2)  # (B, L, 2, C)
        both = pad(both, (0, 0, 0, 0, 0, -x.shape[1] % self.patch))
        tokens = both.unflatten(1, (-1, self.patch)).flatten(2)
        place = torch.arange(tokens.shape[1], device=x.device)
        where = waves(place, WAVES).to(x).expand(len(x), -1, -1)
        out = self.transformer(torch.cat([tokens, where], 2), place[:, None], noise_level, condition)
        return out.unflatten(2, (self.patch, -1)).flatten(1, 2)[:, : x.shape[1]]
