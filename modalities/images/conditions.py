"""Conditions of images: from a batch of data, or from a person's words, to the tensors that a backbone reads.

    kind            keys                                        null
    TextCondition   tokens (B, L) int64, text_mask (B, L) bool  the empty text ""
    ClassCondition  label (B,) int64 in [0, num_classes]        label = num_classes
    Unconditional   none                                        itself

The null condition says nothing. Training replaces a share of the conditions by it, so that one network learns the
conditional and the unconditional distribution: Ho & Salimans, "Classifier-Free Diffusion Guidance", arXiv 2207.12598.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.errors import DataError, PromptError
from modalities.images.text import Tokenizer


@runtime_checkable
class ImageCondition(Protocol):
    """What all kinds of condition can do; a condition is a TensorDict with batch_size [B]."""

    def encode(self, batch: Mapping[str, Any]) -> TensorDict:
        """The condition of a collated batch of the data set."""

    def parse(self, prompts: Sequence[str | int]) -> TensorDict:
        """The condition that B prompts ask for; raises ValueError for a prompt that has no meaning here."""

    def null(self, condition: TensorDict) -> TensorDict:
        """The null condition with the keys, shapes and device of `condition`."""


class TextCondition:
    """Captions, tokenized; the null condition is the empty caption, as every text encoder knows it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, batch: Mapping[str, Any]) -> TensorDict:
        return self._condition(batch["caption"])

    def parse(self, prompts: Sequence[str | int]) -> TensorDict:
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise PromptError(f"prompt {prompt!r} is not a text; this model is conditioned on captions in words")
        return self._condition([str(prompt) for prompt in prompts])

    def null(self, condition: TensorDict) -> TensorDict:
        empty = self._condition([""]).to(condition.device or condition["tokens"].device)
        return empty.expand(condition.batch_size).contiguous()

    def _condition(self, texts: Sequence[str]) -> TensorDict:
        tokens, mask = self.tokenizer.tokenize(list(texts))
        return TensorDict({"tokens": tokens, "text_mask": mask}, batch_size=[len(texts)])


class ClassCondition:
    """One of `names` for each image; the index after the last means "no class", as does -1 in the data."""

    def __init__(self, names: Sequence[str]) -> None:
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ from each other: {', '.join(names)}")
        self.names = list(names)

    @property
    def num_classes(self) -> int:
        return len(self.names)

    def encode(self, batch: Mapping[str, Any]) -> TensorDict:
        """Raises ValueError for a label outside [-1, num_classes)."""
        label = torch.as_tensor(batch["label"], dtype=torch.int64)
        if wrong := label[(label < -1) | (label >= self.num_classes)].unique().tolist():
            raise DataError(f"labels {wrong} in the data, but the classes are 0 to {self.num_classes - 1} (-1: none)")
        return self._condition(torch.where(label < 0, self.num_classes, label))

    def parse(self, prompts: Sequence[str | int]) -> TensorDict:
        """Names in any case, or indices (numbers, or digits where no name reads so); "" asks for no class."""
        return self._condition(torch.tensor([self._index(prompt) for prompt in prompts], dtype=torch.int64))

    def null(self, condition: TensorDict) -> TensorDict:
        return self._condition(torch.full_like(condition["label"], self.num_classes))

    def describe(self, condition: TensorDict) -> list[str]:
        """The class name of each sample, "" for no class."""
        return [[*self.names, ""][label] for label in condition["label"].tolist()]

    def _condition(self, label: Tensor) -> TensorDict:
        return TensorDict({"label": label}, batch_size=label.shape)

    def _index(self, prompt: str | int) -> int:
        if isinstance(prompt, str):
            if prompt == "":
                return self.num_classes
            lowered = {name.lower(): index for index, name in enumerate(self.names)}
            if (found := lowered.get(prompt.lower())) is not None:
                return found
            if not prompt.isdecimal():
                nearest = get_close_matches(prompt.lower(), lowered, n=1, cutoff=0.0)
                known = ", ".join(self.names[:20]) + (", ..." if self.num_classes > 20 else "")
                hint = f"did you mean {self.names[lowered[nearest[0]]]!r}? " if nearest else ""
                raise PromptError(f"unknown class {prompt!r}; {hint}The classes are: {known}")
        index = int(prompt)
        if not 0 <= index < self.num_classes:
            raise PromptError(f"class {index} does not exist; the classes are 0 to {self.num_classes - 1}")
        return index


class Unconditional:
    """No condition at all: an empty TensorDict that knows the batch size."""

    def encode(self, batch: Mapping[str, Any]) -> TensorDict:
        return TensorDict({}, batch_size=[len(batch["image"])])

    def parse(self, prompts: Sequence[str | int]) -> TensorDict:
        """Only the empty prompt has a meaning: it asks for one image."""
        if unheard := [prompt for prompt in prompts if prompt != ""]:
            raise PromptError(
                f"this model is unconditional and cannot follow the prompt {unheard[0]!r}; leave it empty"
            )
        return TensorDict({}, batch_size=[len(prompts)])

    def null(self, condition: TensorDict) -> TensorDict:
        return condition
