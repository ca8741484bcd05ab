"""A transformer of two streams, the picture's and the text's, as rectified-flow models of text to image have it.

Squares of pixels and words are tokens side by side. Each stream has weights of its own and its own adaptive norm; they
meet in one attention over the tokens of both, so that the words, too, change from layer to layer:

    q, k, v = [picture's; text's] of norm(h) * (1 + s) + b,    h <- h + g * out(softmax(q k') v),    h <- h + g' * mlp

(MMDiT: Esser et al., arXiv 2403.03206, section 4). Queries and keys are normed; those of the picture turn with their
row and column. The vector that modulates is the sum of the embeddings of the noise level, of the pooled text and,
if it is asked for, of the guidance scale that a model was distilled for (Meng et al., arXiv 2210.03142).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.rotary import Turn, rotate, turn
from framework.backbones.squares import cut, joined
from framework.backbones.text import TextModel
from framework.backbones.transformer_blocks import AdaptiveNorm, GatedPerceptron, UnitNorm
from framework.backbones.unet_blocks import NoiseEmbedding, TextEmbedding, zeroed
from framework.errors import UserError
from framework.guidance.embedded import SCALE

SCALE_STEP = 100.0  # guidance scales are told to the network a hundred times as large, as fine as noise levels


class JointTransformer(nn.Module):
    """x_t (B, C, H, W), noise level (B,) in [0, 1000] and a condition -> an image, zero when fresh.

    Args:
        text: reads the condition's `tokens` (B, L) and `text_mask` (B, L).
        channels: colour channels C.
        patch: pixels along the side of a token; divides H and W.
        width: features of a token, of either stream.
        layers: blocks; the last one leaves the words as they are.
        heads: attention heads; `width / heads` is a multiple of 4.
        expansion: hidden features of the perceptrons, in units of `width`.
        dropout: probability inside the perceptrons.
        guidance: read the condition's `guidance_scale` (B,), 1 where it is not there.

    Raises:
        UserError: heads that do not fit the width, or sizes below 1.
    """

    def __init__(
        self,
        text: TextModel,
        channels: int = 3,
        patch: int = 2,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        expansion: float = 2.0,
        dropout: float = 0.0,
        guidance: bool = False,
    ) -> None:
        super().__init__()
        if min(patch, width, layers, heads) < 1 or width % (4 * heads):
            raise UserError(
                f"a joint transformer takes patch, layers and heads of at least 1 and a width that is a multiple of "
                f"4 * heads, not patch={patch}, width={width}, layers={layers}, heads={heads}"
            )
        self.patch, self.head_features = patch, width // heads
        self.text, self.pooled = text, TextEmbedding(text.width, width)
        self.noise = NoiseEmbedding(width, width)
        self.scale = NoiseEmbedding(width, width) if guidance else None
        self.stem = nn.Linear(channels * patch**2, width)
        self.words = nn.Linear(text.width, width)
        hidden = round(expansion * width)
        self.blocks = nn.ModuleList(
            JointBlock(width, heads, hidden, dropout, last=layer == layers - 1) for layer in range(layers)
        )
        self.norm, self.modulation = AdaptiveNorm(width), zeroed(nn.Linear(width, 2 * width))
        self.head = zeroed(nn.Linear(width, channels * patch**2))

    def forward(
        self, x_t: Float[Tensor, "b c h w"], noise_level: Float[Tensor, " b"], condition: TensorDict
    ) -> Float[Tensor, "b c h w"]:
        """The raw output of the network for B pictures.

        Raises:
            UserError: `patch` does not divide the height and the width.
        """
        squares, positions = cut(x_t, self.patch)
        mask = condition["text_mask"]
        sequence, pooled = self.text(condition["tokens"], mask)
        e = self.noise(noise_level) + self.pooled(pooled)
        if self.scale is not None:
            told = condition.get(SCALE, None)
            e = e + self.scale(SCALE_STEP * (torch.ones_like(noise_level) if told is None else told))
        e = functional.silu(e)
        by = turn(positions, self.head_features, base=100.0)
        h, words = self.stem(squares.to(self.stem.weight.dtype)), self.words(sequence.to(self.words.weight.dtype))
        for block in self.blocks:
            h, words = block(h, words, e, by, mask)
        out = self.head(self.norm(h, *self.modulation(e).chunk(2, dim=1))).to(x_t.dtype)
        return joined(out, x_t.shape[-2], self.patch)


class Stream(nn.Module):
    """One stream's part of a block: what goes into the joint attention, and what is made of what comes out of it."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, ends: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = zeroed(nn.Linear(width, (2 if ends else 6) * width))
        self.norm = AdaptiveNorm(width)
        self.key_value, self.key_norm = nn.Linear(width, 2 * width, bias=False), UnitNorm(width // heads, eps=1e-6)
        self.query = None if ends else nn.Linear(width, width, bias=False)
        self.query_norm = None if ends else UnitNorm(width // heads, eps=1e-6)
        self.out = None if ends else nn.Linear(width, width)
        self.perceptron_norm = None if ends else AdaptiveNorm(width)
        self.perceptron = None if ends else GatedPerceptron(width, hidden, dropout)

    def ask(
        self, h: Float[Tensor, "b n c"], modulation: tuple[Tensor, ...], by: Turn | None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Queries (None: nothing is asked), keys and values (B, heads, N, D)."""
        x = self.norm(h, modulation[0], modulation[1])
        key, value = (self._by_head(part) for part in self.key_value(x).chunk(2, dim=-1))
        key = self.key_norm(key)
        query = None
        if self.query is not None and self.query_norm is not None:
            query = self.query_norm(self._by_head(self.query(x)))
        if by is not None:
            key, query = rotate(key, by), None if query is None else rotate(query, by)
        return query, key, value

    def _by_head(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def answer(
        self, h: Float[Tensor, "b n c"], heard: Float[Tensor, "b m c"], modulation: tuple[Tensor, ...]
    ) -> Float[Tensor, "b n c"]:
        """The tokens with what they heard."""
        if self.out is None or self.perceptron is None or self.perceptron_norm is None:
            return h
        _, _, gate, scale, shift, gate_2 = modulation
        h = h + gate[:, None] * self.out(heard)
        return h + gate_2[:, None] * self.perceptron(self.perceptron_norm(h, scale, shift))


class JointBlock(nn.Module):
    """See the module's docstring; in the last block the words only speak."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, last: bool) -> None:
        super().__init__()
        self.picture = Stream(width, heads, hidden, dropout)
        self.text = Stream(width, heads, hidden, dropout, ends=last)

    def forward(
        self,
        h: Float[Tensor, "b n c"],
        words: Float[Tensor, "b l c"],
        e: Float[Tensor, "b c"],
        by: Turn,
        text_mask: Bool[Tensor, "b l"],
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b l c"]]:
        ours = self.picture.modulation(e).chunk(6, dim=1)
        theirs = self.text.modulation(e).chunk(2 if self.text.out is None else 6, dim=1)
        (query, key, value), (asked, *told) = self.picture.ask(h, ours, by), self.text.ask(words, theirs, None)
        assert query is not None
        query = query if asked is None else torch.cat([query, asked], dim=2)
        key, value = torch.cat([key, told[0]], dim=2), torch.cat([value, told[1]], dim=2)
        keys = torch.cat([text_mask.new_ones(h.shape[:2]), text_mask], dim=1)[:, None, None, :]
        heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys).transpose(1, 2).flatten(2)
        at = h.shape[1]
        return self.picture.answer(h, heard[:, :at], ours), self.text.answer(words, heard[:, at:], theirs)
