"""A UNet in the line of ADM and EDM, for pictures of any channels, conditioned on noise level, classes and text.

Levels l = 0, 1, ... hold width * multipliers[l] channels at 1 / 2^l of the canvas. The way down keeps the
output of every block and the way up concatenates them again; in between, and at the levels named in
`attention`, positions attend to each other and to the words of the text:

    x_t -> pixel-unshuffle -> stem -> down ... middle ... up -> norm, SiLU, 3x3 (zero) -> pixel-shuffle

The condition enters twice: summed with the embedding of the noise level it modulates every block's norm, and
its words are the context of cross-attention. ADM: Dhariwal & Nichol, arXiv 2105.05233. DDPM++ as EDM trains
it: Karras et al., arXiv 2206.00364, appendix F. `patch` = 2 or 4 folds squares of pixels into channels, for
speed (Shi et al., arXiv 1609.05158).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from jaxtyping import Bool, Float
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.text import TextModel
from framework.backbones.unet_blocks import (
    ImageAttention,
    NoiseEmbedding,
    ResidualBlock,
    TextEmbedding,
    double,
    group_norm,
    halve,
    zeroed,
)


class UNet(nn.Module):
    """x_t (B, C, H, W), noise level (B,) in [0, 1000] and a condition -> an image, zero when fresh.

    Args:
        channels: channels C of the picture that is read.
        width: channels of the finest level.
        multipliers: channels of each level, in units of `width`; their number is the number of levels.
        blocks: residual blocks a level (one more on the way up).
        attention: the levels that attend, 0 being the finest; the middle always does.
        heads: attention heads; divides the channels of every level that attends.
        num_classes: reads the condition's `label` (B,) int64 in [0, num_classes], the last meaning "none".
        labels: reads several labels likewise, each by the name and with the number of classes that are given here.
        text: reads the condition's `tokens` (B, L) and `text_mask` (B, L) through this encoder.
        patch: folds squares of patch x patch pixels into channels before the first level and unfolds them
            after the last.
        dropout: probability within each residual block.
        out_channels: channels of the output, where they are not those of the input.
        hint_channels: reads the condition's `hint` (B, hint_channels, H, W) beside the picture (framework.hints).
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (1, 2),
        heads: int = 4,
        num_classes: int | None = None,
        text: TextModel | None = None,
        patch: int = 1,
        dropout: float = 0.0,
        labels: Mapping[str, int] | None = None,
        out_channels: int | None = None,
        hint_channels: int = 0,
    ) -> None:
        super().__init__()
        out_channels = out_channels or channels
        classes = {**({} if num_classes is None else {"label": num_classes}), **(labels or {})}
        if unknown := sorted(set(attention) - set(range(len(multipliers)))):
            raise ValueError(f"attention at levels {unknown}, but the levels are 0 to {len(multipliers) - 1}")
        if patch < 1 or blocks < 1:
            raise ValueError(f"patch={patch} and blocks={blocks} must both be at least 1")
        self.patch, self.stride = patch, patch * 2 ** (len(multipliers) - 1)
        widths = [width * m for m in multipliers]
        embedding = 4 * width
        text_width = None if text is None else text.width

        self.noise = NoiseEmbedding(width, embedding)
        self.labels = nn.ModuleDict({name: nn.Embedding(n + 1, embedding) for name, n in classes.items()})
        self.text = text
        self.pooled = None if text_width is None else TextEmbedding(text_width, embedding)

        def stage(c_in: int, c_out: int, level: int, resample: nn.Module | None = None) -> _Stage:
            attends = resample is None and level in attention
            return _Stage(
                ResidualBlock(c_in, c_out, embedding, dropout, resample),
                ImageAttention(c_out, heads, text_width) if attends else None,
            )

        self.reads_hint = hint_channels > 0
        self.stem = nn.Conv2d((channels + hint_channels) * patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        skips = [c := widths[0]]
        for level, c_level in enumerate(widths):
            if level > 0:
                self.down.append(stage(c, c, level, halve()))
                skips.append(c)
            for _ in range(blocks):
                self.down.append(stage(c, c := c_level, level))
                skips.append(c)

        self.middle = nn.ModuleList([
            _Stage(ResidualBlock(c, c, embedding, dropout), ImageAttention(c, heads, text_width)),
            _Stage(ResidualBlock(c, c, embedding, dropout), None),
        ])  # fmt: skip

        self.up = nn.ModuleList()
        self.joins: list[bool] = []  # which stages of the way up take a skip from the way down
        for level, c_level in reversed(list(enumerate(widths))):
            if level < len(widths) - 1:
                self.up.append(stage(c, c, level, double()))
                self.joins.append(False)
            for _ in range(blocks + 1):
                self.up.append(stage(c + skips.pop(), c := c_level, level))
                self.joins.append(True)

        self.head = nn.Sequential(
            group_norm(c), nn.SiLU(), zeroed(nn.Conv2d(c, out_channels * patch**2, 3, padding=1))
        )  # fmt: skip

    def forward(
        self, x_t: Float[Tensor, "b c h w"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b c h w"]:
        """The raw output of the network for B pictures; float32 in, float32 out, whatever it computes in.

        Raises ValueError when the canvas is not a multiple of `patch * 2^(levels - 1)` pixels.
        """
        check_canvas(x_t, self.stride)
        e = self.noise(noise_level)
        words = mask = None
        for name, embedding in self.labels.items():
            e = e + embedding(condition[name])
        if self.text is not None and self.pooled is not None:
            mask = condition["text_mask"]
            words, pooled = self.text(condition["tokens"], mask)
            e = e + self.pooled(pooled)
        e = functional.silu(e)

        seen = torch.cat([x_t, condition["hint"].to(x_t.dtype)], dim=1) if self.reads_hint else x_t
        h = self.stem(functional.pixel_unshuffle(seen.to(self.stem.weight.dtype), self.patch))
        skips = [h]
        for stage in self.down:
            skips.append(h := stage(h, e, words, mask))
        for stage in self.middle:
            h = stage(h, e, words, mask)
        for stage, joins in zip(self.up, self.joins, strict=True):
            h = stage(torch.cat([h, skips.pop()], dim=1) if joins else h, e, words, mask)
        return functional.pixel_shuffle(self.head(h), self.patch).to(x_t.dtype)


class _Stage(nn.Module):
    """A residual block, followed by attention where its level has it."""

    def __init__(self, block: ResidualBlock, attention: ImageAttention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(
        self,
        h: Float[Tensor, "b c h w"],
        e: Float[Tensor, "b width"],
        words: Float[Tensor, "b l d"] | None,
        mask: Bool[Tensor, "b l"] | None,
    ) -> Float[Tensor, "b d i j"]:
        h = self.block(h, e)
        return h if self.attention is None else self.attention(h, words, mask)


def check_canvas(x_t: Float[Tensor, "b c h w"], stride: int) -> None:
    """Raise ValueError unless height and width are multiples of `stride`."""
    height, width = x_t.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"a canvas of {height}x{width} pixels does not fit this UNet: both sides must be multiples of "
            f"{stride}; resize or crop, or use fewer levels or a smaller patch"
        )


@dataclass(frozen=True)
class Size:
    """The numbers of a UNet that set its capacity; the meaning of each is in `UNet`."""

    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int
    dropout: float = 0.0


SIZES = {
    "tiny": Size(width=32, multipliers=(1, 2, 2), blocks=1, attention=(1, 2), heads=4),
    "small": Size(width=64, multipliers=(1, 2, 2), blocks=1, attention=(1, 2), heads=4),
    "base": Size(width=96, multipliers=(1, 2, 2), blocks=2, attention=(1, 2), heads=4),
    "cifar": Size(width=128, multipliers=(2, 2, 2), blocks=4, attention=(1,), heads=4, dropout=0.13),
}


def unet(
    size: str,
    channels: int = 3,
    num_classes: int | None = None,
    text: TextModel | None = None,
    patch: int = 1,
) -> UNet:
    """The UNet of a named size: tiny (1.4 M parameters), small (5.5 M), base (18 M) or cifar (61 M).

    `cifar` has the shape of EDM's DDPM++ for CIFAR-10 (56 M) with a scale besides the shift in every norm.
    The counts are for three channels without a text encoder. Raises ValueError, naming the nearest size, for
    any other.
    """
    if size not in SIZES:
        nearest = get_close_matches(size, SIZES, n=1, cutoff=0.0)
        raise ValueError(f"no UNet of size {size!r}; did you mean {nearest[0]!r}? The sizes are {', '.join(SIZES)}")
    s = SIZES[size]
    return UNet(
        channels, s.width, s.multipliers, s.blocks, s.attention, s.heads, num_classes, text, patch, s.dropout
    )  # fmt: skip
