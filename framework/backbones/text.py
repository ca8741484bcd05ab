"""Text as a condition: words -> tokens -> features that a backbone attends to.

A text model does two things: `tokenize` turns strings into integer tokens with a mask of the valid ones, and
`forward` turns those into one vector a token (`sequence`, for cross-attention) and one a text (`pooled`, for
adaptive norms). Two are here: `TextEncoder`, a small transformer trained jointly with the backbone, and
`PretrainedText`, a frozen CLIP or T5 encoder. The empty text is the null condition of classifier-free
guidance; it always has at least one valid token.

The words of `TextEncoder` are hashed into buckets, so that there is no vocabulary to collect, store or run
out of: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", arXiv 0902.2206.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from types import ModuleType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from framework.backbones.unet_blocks import Attention

PADDING, BEGIN = 0, 1
_WORD = re.compile(r"\w+|[^\w\s]")


class TextFeatures(NamedTuple):
    """What a backbone sees of B texts: D features for each of L tokens, and D for the whole text."""

    sequence: Float[Tensor, "b l d"]
    pooled: Float[Tensor, "b d"]


@runtime_checkable
class Tokenizer(Protocol):
    """Strings -> tokens (B, L) int64 and the mask (B, L) of those that are not padding."""

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]: ...


class TextModel(nn.Module):
    """The role of a text encoder: a tokenizer, and a module from its tokens to features of size `width`."""

    width: int

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Tokens (B, L) int64 and the mask (B, L) of valid ones; L is the same for all texts."""
        raise NotImplementedError(f"{type(self).__name__} must define tokenize(texts) -> (tokens, mask)")

    def forward(self, tokens: Int[Tensor, "b l"], text_mask: Bool[Tensor, "b l"]) -> TextFeatures:
        """Features of the texts; the pooled ones and those of valid tokens never depend on the padding."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(tokens, text_mask) -> TextFeatures")


class WordTokenizer:
    """Lower-cased words and punctuation marks, each hashed into one of `buckets` tokens.

    There is no vocabulary and no state. Token 0 is padding and token 1 begins every text, so "" is that one
    token. A text of `length` words or more loses its end. The hash is BLAKE2 of the word's UTF-8 bytes: the
    same on every machine and in every process.
    """

    def __init__(self, buckets: int = 4096, length: int = 24) -> None:
        if buckets < 3:
            raise ValueError(f"buckets={buckets} leaves no token for words: two are padding and begin; use 3 or more")
        if length < 1:
            raise ValueError(f"length={length} leaves no room for the begin token; use 1 or more")
        self.buckets, self.length = buckets, length

    def bucket(self, word: str) -> int:
        """The token of one word, in [2, buckets)."""
        digest = blake2b(word.lower().encode(), digest_size=8).digest()
        return 2 + int.from_bytes(digest, "big") % (self.buckets - 2)

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        tokens = torch.full((len(texts), self.length), PADDING, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = _WORD.findall(text.lower())[: self.length - 1]
            row[: len(words) + 1] = torch.tensor([BEGIN, *map(self.bucket, words)])
        return tokens, tokens != PADDING


class TextEncoder(TextModel):
    """A small pre-norm transformer over hashed words, trained together with the backbone.

    `pooled` is the mean of the valid tokens' features: with few words every attribute is in it from the first
    step on.
    """

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4, buckets: int = 4096, length: int = 24) -> None:
        super().__init__()
        self.width = width
        self.tokenizer = WordTokenizer(buckets, length)
        self.words = nn.Embedding(buckets, width)
        self.positions = nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.ModuleList(_TransformerBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        return self.tokenizer.tokenize(texts)

    def forward(self, tokens: Int[Tensor, "b l"], text_mask: Bool[Tensor, "b l"]) -> TextFeatures:
        if tokens.shape[1] > len(self.positions):
            raise ValueError(
                f"{tokens.shape[1]} tokens a text, but this TextEncoder was made for "
                f"length={len(self.positions)}; tokenize with the encoder's own tokenize()"
            )
        h = self.words(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            h = block(h, text_mask)
        sequence = self.norm(h)
        return TextFeatures(sequence, masked_mean(sequence, text_mask))


class _TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        h = h + self.attention(self.attention_norm(h), mask=mask)
        return h + self.perceptron(h)


def masked_mean(sequence: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
    """The mean over the valid positions of each row; zeros for a row that has none."""
    weight = mask.to(sequence.dtype)[..., None]
    return (sequence * weight).sum(1) / weight.sum(1).clamp(min=1)


class PretrainedTokenizer:
    """The tokenizer of a transformers folder or hub id, padding every text to `length` tokens."""

    def __init__(self, path: str, length: int = 77) -> None:
        transformers = _transformers(path)
        self.length = length
        self.pretrained = _load(transformers.AutoTokenizer, path)
        if self.pretrained.pad_token is None:
            self.pretrained.pad_token = self.pretrained.eos_token

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        out = self.pretrained(
            list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return out["input_ids"], out["attention_mask"].bool()


class PretrainedText(TextModel):
    """A frozen encoder in the place of `TextEncoder`: `kind` "clip" (CLIPTextModel) or "t5" (T5EncoderModel).

    Args:
        path: a folder made by `save_pretrained`, or a hub id such as "openai/clip-vit-base-patch32" or
            "google/t5-v1_1-base". Only safetensors weights are read, and no code that comes with them is run.
        kind: "clip" pools at the end-of-text token, as CLIP was trained; "t5" by the mean of valid tokens.
        length: tokens that every text is padded or cut to.
        tokenizer: where its tokenizer lies, if not at `path`.
        keep_weights: whether `state_dict()` holds the encoder's weights. Without them a trained model stays
            small and is completed from `path` when it is loaded.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: `path` holds no such model and none can be downloaded.
    """

    def __init__(
        self, path: str, kind: str = "clip", length: int = 77, keep_weights: bool = False, tokenizer: str | None = None
    ) -> None:
        super().__init__()
        classes = {"clip": "CLIPTextModel", "t5": "T5EncoderModel"}
        if kind not in classes:
            raise ValueError(f"unknown kind of text encoder {kind!r}; the kinds are {' and '.join(classes)}")
        self.kind, self.keep_weights = kind, keep_weights
        self.tokenizer = PretrainedTokenizer(tokenizer or path, length)
        self.encoder = _load(getattr(_transformers(path), classes[kind]), path, use_safetensors=True)
        self.encoder.requires_grad_(False)
        self.width = int(self.encoder.config.hidden_size)
        positions = getattr(self.encoder.config, "max_position_embeddings", length)
        if length > positions:
            raise ValueError(f"length={length}, but the encoder at {path} has only {positions} positions")
        if not keep_weights:
            self.register_state_dict_post_hook(_leave_out_weights)
            self.register_load_state_dict_pre_hook(_stand_in_for_absent_weights)
        self.train()

    def train(self, mode: bool = True) -> PretrainedText:
        """Stays in eval mode: its dropout would blur what it was trained to say."""
        super().train(False)
        return self

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        return self.tokenizer.tokenize(texts)

    @torch.no_grad()
    def forward(self, tokens: Int[Tensor, "b l"], text_mask: Bool[Tensor, "b l"]) -> TextFeatures:
        out = self.encoder(input_ids=tokens, attention_mask=text_mask.long())
        sequence = out.last_hidden_state
        pooled = out.pooler_output if self.kind == "clip" else masked_mean(sequence, text_mask)
        return TextFeatures(sequence, pooled)


def _leave_out_weights(module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: object) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}encoder.")]:
        del state[name]


def _stand_in_for_absent_weights(module: PretrainedText, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """What a checkpoint leaves out is what the module holds; strict loading stays strict elsewhere."""
    for name, value in module.encoder.state_dict().items():
        state.setdefault(f"{prefix}encoder.{name}", value)


def _transformers(path: str) -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"the text encoder {path!r} needs the package transformers: pip install 'diffract[text]'"
        ) from error
    return transformers


def _load(kind: Any, path: str, **options: bool) -> Any:
    try:
        return kind.from_pretrained(path, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no {kind.__name__} at {path!r}. Give the path of a folder with config.json, the tokenizer's "
            f"files and model.safetensors, or a hub id while online. The cause: {error}"
        ) from error
