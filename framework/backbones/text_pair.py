"""Two text encoders as one: each reads the text in its own tokens, and a backbone attends to the words of both.

Their tokens stand one after the other, so that condition, batches and masks are as of one encoder; the features of both
are brought to one width. Models of text to image pair one that knows pictures (CLIP) with one that knows language (T5):
Esser et al., arXiv 2403.03206, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from framework.backbones.text import TextFeatures, TextModel, Tokenizer


class PairTokenizer:
    """The tokens of two tokenizers, side by side: (B, L1 + L2)."""

    def __init__(self, first: Tokenizer, second: Tokenizer) -> None:
        self.first, self.second = first, second

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        both = [tokenizer.tokenize(texts) for tokenizer in (self.first, self.second)]
        return torch.cat([tokens for tokens, _ in both], dim=1), torch.cat([mask for _, mask in both], dim=1)


class TextPair(TextModel):
    """Two encoders; the features of words are `width` of a linear layer's, and so is the sum of the pooled ones.

    Args:
        first, second: the encoders; one that is frozen stays so.
        width: of the features that come out.
    """

    def __init__(self, first: TextModel, second: TextModel, width: int = 64) -> None:
        super().__init__()
        self.first, self.second, self.width = first, second, width
        self.words = nn.ModuleList(nn.Linear(text.width, width) for text in (first, second))
        self.pooled = nn.ModuleList(nn.Linear(text.width, width, bias=False) for text in (first, second))
        self.length = self.first.tokenize([""])[0].shape[1]  # of the first one's tokens

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        return PairTokenizer(self.first, self.second).tokenize(texts)

    def forward(self, tokens: Int[Tensor, "b l"], text_mask: Bool[Tensor, "b l"]) -> TextFeatures:
        at, like = self.length, self.words[0].weight.dtype
        heard = [self.first(tokens[:, :at], text_mask[:, :at]), self.second(tokens[:, at:], text_mask[:, at:])]
        words = [layer(part.sequence.to(like)) for layer, part in zip(self.words, heard, strict=True)]
        pooled = [layer(part.pooled.to(like)) for layer, part in zip(self.pooled, heard, strict=True)]
        return TextFeatures(torch.cat(words, dim=1), pooled[0] + pooled[1])
