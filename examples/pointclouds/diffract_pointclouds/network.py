"""A transformer over points that knows no order of them.

`DiffusionTransformer` turns queries and keys by the positions of tokens. Where all positions are 0, nothing is turned,
attention sees a set, and the network is equivariant to permutations; padding stays out by its mask. A point is told to
it by its coordinates and by waves of them, which it needs to tell near points apart.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.rotary import waves
from framework.backbones.transformer import DiffusionTransformer


class CloudTransformer(nn.Module):
    """Points (B, N, 3), a noise level (B,), a condition -> points (B, N, 3).

    Args:
        classes: reads condition["label"] (B,), in [0, classes]; 0 reads no label.
        waves: features of each coordinate.
        fastest: radians of the fastest wave, a unit of length.
        width, layers, heads, dropout: of the DiffusionTransformer.
    """

    def __init__(
        self,
        classes: int = 0,
        waves: int = 16,
        fastest: float = 12.0,
        width: int = 64,
        layers: int = 5,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.waves, self.fastest = waves, fastest
        labels = {"label": classes} if classes else None
        features = 3 * (1 + waves)
        self.transformer = DiffusionTransformer(
            features, 3, 1, width, layers, heads, labels=labels, dropout=dropout
        )  # fmt: skip

    def forward(
        self, x: Float[Tensor, "b n 3"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b n 3"]:
        places = x.new_zeros(x.shape[1], 1)
        told = waves(self.fastest * x, self.waves, base=50.0).flatten(2).to(x)
        return self.transformer(torch.cat([x, told], 2), places, noise_level, condition, condition["mask"])
