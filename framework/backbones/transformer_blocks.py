"""The pieces of the diffusion transformer: attention with normed queries and keys, a gated perceptron, their block.

With e the sum of the embeddings of the noise level and of the conditions, a block is

    h <- h + g1 * attention(norm(h) * (1 + s1) + b1)
    h <- h + attention to the words of the text(norm(h))
    h <- h + g2 * perceptron(norm(h) * (1 + s2) + b2),       (s1, b1, g1, s2, b2, g2) = linear(e),

and the linear layer begins at zero, as does the last layer of the attention to words: a fresh block is the identity.
This is the adaptive norm "zero" of Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv 2212.09748,
section 3.2. Queries and keys are scaled to unit mean square, so that scores cannot grow without bound: Dehghani et
al., arXiv 2302.05442, section 2. The perceptron is SwiGLU: Shazeer, arXiv 2002.05202.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.rotary import Turn, rotate
from framework.backbones.unet_blocks import zeroed


class UnitNorm(nn.RMSNorm):
    """RMSNorm whose scale takes the type of its input, as one kernel wants it; under autocast they differ."""

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class NormedAttention(nn.Module):
    """Multi-head attention of tokens to a context under a mask of valid keys; `by` turns queries and keys alike."""

    def __init__(self, width: int, heads: int, context_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context_width, 2 * width, bias=False)
        self.query_norm = UnitNorm(width // heads, eps=1e-6)
        self.key_norm = UnitNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "b m d"],
        keys: Bool[Tensor, "b m"] | None,
        by: Turn | None = None,
    ) -> Float[Tensor, "b n c"]:
        query = self.query(x)
        key, value = self.key_value(context).chunk(2, dim=-1)
        query, key, value = (s.unflatten(-1, (self.heads, -1)).transpose(1, 2) for s in (query, key, value))
        query, key = self.query_norm(query), self.key_norm(key)
        if by is not None:
            query, key = rotate(query, by), rotate(key, by)
        allowed = None if keys is None else keys[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.out(mixed.transpose(1, 2).flatten(2))


class GatedPerceptron(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)), each token for itself."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.dropout(functional.silu(gate) * up))


class AdaptiveNorm(nn.Module):
    """norm(h) * (1 + scale) + shift, with scale and shift (B, C) from outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)

    def forward(
        self, h: Float[Tensor, "b n c"], scale: Float[Tensor, "b c"], shift: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b n c"]:
        return self.norm(h) * (1 + scale[:, None]) + shift[:, None]


class TransformerBlock(nn.Module):
    """See the module's docstring; `text_width` None leaves the words out."""

    def __init__(self, width: int, heads: int, hidden: int, text_width: int | None, dropout: float) -> None:
        super().__init__()
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.attention_norm, self.perceptron_norm = AdaptiveNorm(width), AdaptiveNorm(width)
        self.attention = NormedAttention(width, heads, width)
        self.dropout = nn.Dropout(dropout)
        self.perceptron = GatedPerceptron(width, hidden, dropout)
        self.words_norm = self.words = None
        if text_width is not None:
            self.words_norm = nn.LayerNorm(width, eps=1e-6)
            self.words = NormedAttention(width, heads, text_width)
            zeroed(self.words.out)

    def forward(
        self,
        h: Float[Tensor, "b n c"],
        e: Float[Tensor, "b c"],
        by: Turn,
        keys: Bool[Tensor, "b n"] | None,
        words: Float[Tensor, "b l d"] | None,
        text_mask: Bool[Tensor, "b l"] | None,
    ) -> Float[Tensor, "b n c"]:
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(e).chunk(6, dim=1)
        x = self.attention_norm(h, scale, shift)
        h = h + gate[:, None] * self.dropout(self.attention(x, x, keys, by))
        if self.words_norm is not None and self.words is not None and words is not None:
            h = h + self.dropout(self.words(self.words_norm(h), words, text_mask))
        return h + gate_2[:, None] * self.perceptron(self.perceptron_norm(h, scale_2, shift_2))
