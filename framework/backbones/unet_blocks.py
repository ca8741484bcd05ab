"""The pieces of the UNet: the embedding of the noise level, residual blocks with adaptive norm, attention.

Adaptive norm lets the condition speak in every block: with e the sum of the embeddings of noise level, class
and pooled text,

    h <- norm(h) * (1 + scale(e)) + shift(e),

as in ADM (Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233, section 3).
Resampling happens inside a residual block, on both of its branches. The last layer of every residual branch
begins at zero, so that a fresh block is the identity on its input (as in Goyal et al., arXiv 1706.02677,
section 5.1).
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """Set all parameters of `layer` to zero and return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise over at most 32 groups of at least 4 channels: groups of one would cancel the bias before."""
    groups = max(g for g in range(1, min(32, max(channels // 4, 1)) + 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=1e-5)


class NoiseEmbedding(nn.Module):
    """Noise level in [0, 1000] -> vector, by sines and cosines of many frequencies and two layers.

    The frequencies run geometrically from 1 to 1/10000 radians per unit (Vaswani et al., arXiv 1706.03762,
    section 3.5). They meet the noise level in float32: in bfloat16 the levels 999 and 1000 would be one.
    """

    frequencies: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        half = features // 2
        self.register_buffer("frequencies", torch.exp(-math.log(1e4) * torch.arange(half) / half), persistent=False)
        self.first, self.second = nn.Linear(2 * half, width), nn.Linear(width, width)

    def forward(self, noise_level: Float[Tensor, " b"]) -> Float[Tensor, "b width"]:
        phase = noise_level.float()[:, None] * self.frequencies.float()
        waves = torch.cat([phase.cos(), phase.sin()], dim=1)
        return self.second(functional.silu(self.first(waves.to(self.first.weight.dtype))))


class TextEmbedding(nn.Module):
    """The pooled features of a text -> vector of about unit variance, as loud as the embedding of a class.

    The mean over many words is small, and each word's share in it smaller yet: without the norm it takes long
    until the samples obey the rarer words.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(features), nn.Linear(features, width)
        nn.init.normal_(self.linear.weight, std=features**-0.5)

    def forward(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b width"]:
        return self.linear(self.norm(pooled.to(self.linear.weight.dtype)))


class Attention(nn.Module):
    """Multi-head attention of a sequence to a context (itself, unless given) under a mask of valid keys.

    Queries and keys carry no bias: a bias on the keys adds one constant to all scores of a query, and softmax
    ignores it.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"attention of width {width} cannot be split into {heads} heads; choose a divisor of {width}"
            )
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context_width or width, 2 * width, bias=False)
        self.out = zeroed(nn.Linear(width, width))

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "b m d"] | None = None,
        mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        query = self.query(x)
        key, value = self.key_value(x if context is None else context).chunk(2, dim=-1)
        query, key, value = (s.unflatten(-1, (self.heads, -1)).transpose(1, 2) for s in (query, key, value))
        keys_valid = None if mask is None else mask[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys_valid)
        return self.out(mixed.transpose(1, 2).flatten(2))


class ImageAttention(nn.Module):
    """Every position attends to every position and then, where there is text, to its valid tokens."""

    def __init__(self, channels: int, heads: int, text_width: int | None) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attention = Attention(channels, heads)
        self.text_norm = None if text_width is None else group_norm(channels)
        self.text_attention = None if text_width is None else Attention(channels, heads, text_width)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        text: Float[Tensor, "b m d"] | None,
        text_mask: Bool[Tensor, "b m"] | None,
    ) -> Float[Tensor, "b c h w"]:
        size = x.shape[-2:]
        x = x + _as_image(self.attention(_as_sequence(self.norm(x))), size)
        if self.text_norm is not None and self.text_attention is not None:
            queries = _as_sequence(self.text_norm(x))
            x = x + _as_image(self.text_attention(queries, context=text, mask=text_mask), size)
        return x


class ResidualBlock(nn.Module):
    """x + f(x, e): norm, SiLU, [resample], 3x3, adaptive norm, SiLU, dropout, 3x3; x is resampled alike."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding: int,
        dropout: float,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.resample = nn.Identity() if resample is None else resample
        self.first = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * out_channels)
        self.modulated_norm = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.last = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"], e: Float[Tensor, "b width"]) -> Float[Tensor, "b d i j"]:
        h = self.first(self.resample(functional.silu(self.norm(x))))
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        h = self.modulated_norm(h) * (1 + scale) + shift
        h = self.last(self.dropout(functional.silu(h)))
        return self.shortcut(self.resample(x)) + h


def halve() -> nn.Module:
    """Down by two: the mean of each 2x2 square."""
    return nn.AvgPool2d(2)


def double() -> nn.Module:
    """Up by two: each position repeated as a 2x2 square."""
    return nn.Upsample(scale_factor=2, mode="nearest")


def _as_sequence(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    return x.flatten(2).transpose(1, 2)


def _as_image(x: Float[Tensor, "b n c"], size: torch.Size) -> Float[Tensor, "b c h w"]:
    return x.transpose(1, 2).unflatten(2, size)
