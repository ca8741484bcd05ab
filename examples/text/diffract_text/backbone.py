"""The framework's transformer over tokens of words: each an embedding beside its place from both ends."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.rotary import waves
from framework.backbones.transformer import DiffusionTransformer

PLACE = 16  # features of each of the two distances


class TextTransformer(nn.Module):
    """x_t (B, N) of classes and the mask token, noise level (B,), condition["mask"] (B, N) -> logits (B, N, classes).

    Zero when fresh: each unit is as likely. The other arguments are those of `DiffusionTransformer`.
    """

    def __init__(
        self,
        classes: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        expansion: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.units = nn.Embedding(classes + 1, width)
        self.transformer = DiffusionTransformer(
            width + 2 * PLACE, classes, 1, width, layers, heads, expansion, dropout=dropout, base=100.0
        )

    def forward(
        self, x_t: Int[Tensor, "b n"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b n classes"]:
        mask = condition["mask"]
        place = torch.arange(x_t.shape[1], device=x_t.device).expand(len(x_t), -1)
        ends = torch.stack([place, mask.sum(1, keepdim=True) - 1 - place], dim=2)
        tokens = torch.cat([self.units(x_t), waves(ends, PLACE, base=100.0).flatten(2)], dim=2)
        return self.transformer(tokens, place[0][:, None], noise_level, condition, mask)
