"""A diffusion transformer over tokens that lie on axes: time, or rows and columns, with padding left out exactly.

    tokens (B, N, D_in) -> linear -> blocks -> adaptive norm, linear (zero) -> (B, N, D_out)

Positions enter by rotation alone, so the network is the same wherever its tokens lie; what is absolute (the distance
to an end, the place on a canvas) the caller writes into the tokens. The noise level, labels and the pooled text are
summed to one vector that modulates every block; the words of the text are attended to.

Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv 2212.09748.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from jaxtyping import Bool, Float, Num
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.rotary import turn
from framework.backbones.text import TextModel
from framework.backbones.transformer_blocks import AdaptiveNorm, TransformerBlock
from framework.backbones.unet_blocks import NoiseEmbedding, TextEmbedding, zeroed
from framework.errors import UserError


class DiffusionTransformer(nn.Module):
    """Tokens (B, N, features) with positions (N, axes) -> (B, N, out_features), zero when fresh.

    Args:
        features: features of a token.
        out_features: features of an output token; None is `features`.
        axes: coordinates of a position.
        width: features of a token within.
        layers: blocks.
        heads: attention heads; `width / heads` is a multiple of `2 * axes`.
        expansion: hidden features of the perceptron, in units of `width`.
        labels: reads condition[name] (B,) int64 in [0, n] for each `name: n`, n meaning "none".
        text: reads the condition's `tokens` (B, L) and `text_mask` (B, L) through this encoder.
        dropout: probability within each residual branch.
        base: 1 / the slowest rate of the rotary positions, in positions a radian.

    Raises:
        UserError: heads that do not fit the width, or sizes below 1.
    """

    def __init__(
        self,
        features: int,
        out_features: int | None = None,
        axes: int = 1,
        width: int = 128,
        layers: int = 6,
        heads: int = 4,
        expansion: float = 2.0,
        labels: Mapping[str, int] | None = None,
        text: TextModel | None = None,
        dropout: float = 0.0,
        base: float = 1e4,
    ) -> None:
        super().__init__()
        if min(features, axes, width, layers, heads) < 1:
            raise UserError(
                f"features={features}, axes={axes}, width={width}, layers={layers}, heads={heads}: all >= 1"
            )
        if width % (2 * axes * heads):
            raise UserError(
                f"a transformer of width {width} cannot have {heads} heads over {axes} axes: the width must be a "
                f"multiple of 2 * axes * heads = {2 * axes * heads}"
            )
        self.axes, self.head_features, self.base = axes, width // heads, base
        self.noise = NoiseEmbedding(width, width)
        self.label_names = sorted(labels or {})
        self.labels = nn.ModuleList(nn.Embedding((labels or {})[name] + 1, width) for name in self.label_names)
        self.text = text
        self.pooled = None if text is None else TextEmbedding(text.width, width)
        self.stem = nn.Linear(features, width)
        hidden, text_width = round(expansion * width), None if text is None else text.width
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, hidden, text_width, dropout) for _ in range(layers))
        self.norm, self.modulation = AdaptiveNorm(width), zeroed(nn.Linear(width, 2 * width))
        self.head = zeroed(nn.Linear(width, features if out_features is None else out_features))

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        positions: Num[Tensor, "n a"],
        noise_level: Float[Tensor, " b"],
        condition: TensorDict,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n e"]:
        """The raw output for B sequences; float32 in, float32 out, whatever it computes in.

        Where `mask` is False a token is padding: neither its content nor its presence changes the others, and its
        output is zero.

        Raises:
            ValueError: positions that are not (N, axes).
        """
        if positions.shape != (tokens.shape[1], self.axes):
            raise ValueError(
                f"{tokens.shape[1]} tokens on {self.axes} axes need positions {(tokens.shape[1], self.axes)}, "
                f"got {tuple(positions.shape)}"
            )
        e, words, text_mask = self._conditions(noise_level, condition)
        keys = mask
        if mask is not None:
            tokens = torch.where(mask[..., None], tokens, 0.0)
            keys = mask | ~mask.any(1, keepdim=True)  # a softmax over no key at all is NaN in some kernels
        by = turn(positions, self.head_features, self.base)
        h = self.stem(tokens.to(self.stem.weight.dtype))
        for block in self.blocks:
            h = block(h, e, by, keys, words, text_mask)
        out = self.head(self.norm(h, *self.modulation(e).chunk(2, dim=1))).to(tokens.dtype)
        return out if mask is None else torch.where(mask[..., None], out, 0.0)

    def _conditions(
        self, noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The vector (B, width) that modulates, and the words of the text with their mask."""
        e = self.noise(noise_level)
        for name, embedding in zip(self.label_names, self.labels, strict=True):
            e = e + embedding(condition[name])
        words = text_mask = None
        if self.text is not None and self.pooled is not None:
            text_mask = condition["text_mask"]
            words, pooled = self.text(condition["tokens"], text_mask)
            words = words.to(e.dtype)
            e = e + self.pooled(pooled)
        return functional.silu(e), words, text_mask


@dataclass(frozen=True)
class Size:
    """The numbers of a transformer that set its capacity; the meaning of each is in `DiffusionTransformer`."""

    width: int
    layers: int
    heads: int
    expansion: float


SIZES = {
    "tiny": Size(width=128, layers=6, heads=4, expansion=2.0),
    "small": Size(width=256, layers=8, heads=8, expansion=2.0),
    "base": Size(width=768, layers=12, heads=12, expansion=8 / 3),  # DiT-B: SwiGLU of 8/3 weighs as much as GELU of 4
}


def transformer(
    size: str,
    features: int,
    out_features: int | None = None,
    axes: int = 1,
    labels: Mapping[str, int] | None = None,
    text: TextModel | None = None,
) -> DiffusionTransformer:
    """The transformer of a named size: tiny (1.7 M parameters), small (8.7 M) or base (130 M, as DiT-B).

    The counts are for tokens of 128 features without labels or text.

    Raises:
        UserError: there is no such size; the message names the nearest.
    """
    if size not in SIZES:
        nearest = get_close_matches(size, SIZES, n=1, cutoff=0.0)
        raise UserError(
            f"no transformer of size {size!r}; did you mean {nearest[0]!r}? The sizes are {', '.join(SIZES)}"
        )
    s = SIZES[size]
    return DiffusionTransformer(
        features, out_features, axes, s.width, s.layers, s.heads, s.expansion, labels=labels, text=text
    )  # fmt: skip
