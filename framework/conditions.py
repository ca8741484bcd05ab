"""Conditions: from a batch of data, or from a person's words, to the tensors that a backbone reads.

    kind            keys                                        null
    TextCondition   tokens (B, L) int64, text_mask (B, L) bool  the empty text ""
    ClassCondition  label (B,) int64 in [0, num_classes]        label = num_classes
    Fields          one such label a field, by its name         each at its last index
    Unconditional   none                                        itself

The null condition says nothing. Training replaces a share of the conditions by it, so that one network learns the
conditional and the unconditional distribution: Ho & Salimans, "Classifier-Free Diffusion Guidance", arXiv 2207.12598.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.backbones.text import Tokenizer
from framework.errors import DataError, PromptError


@runtime_checkable
class ConditionKind(Protocol):
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
    """One of `names` for each sample; the index after the last means "no class", as does -1 in the data."""

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
        if not isinstance(prompt, str | int):
            raise PromptError(f"the prompt {prompt!r} is neither the name of a class nor its number")
        index = int(prompt)
        if not 0 <= index < self.num_classes:
            raise PromptError(f"class {index} does not exist; the classes are 0 to {self.num_classes - 1}")
        return index


class Unconditional:
    """No condition at all: an empty TensorDict that knows the batch size."""

    def encode(self, batch: Mapping[str, Any]) -> TensorDict:
        return TensorDict({}, batch_size=[len(next(iter(batch.values())))])

    def parse(self, prompts: Sequence[str | int]) -> TensorDict:
        """Only the empty prompt has a meaning: it asks for one sample."""
        if unheard := [prompt for prompt in prompts if prompt != ""]:
            raise PromptError(
                f"this model is unconditional and cannot follow the prompt {unheard[0]!r}; leave it empty"
            )
        return TensorDict({}, batch_size=[len(prompts)])

    def null(self, condition: TensorDict) -> TensorDict:
        return condition


class Fields:
    """Several labels a sample, each one of the names of its field: a digit and a speaker, say.

    The condition has a key for each field, int64 (B,), of which the index after the last name means "not said", as does
    -1 in the data, whose `labels` (B, H) have a column for each field in order. A prompt is a mapping, or text such as
    "digit=7 speaker=theo"; what it leaves out is not said.

    Args:
        fields: the names of each field's classes.
    """

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        if not fields:
            raise ValueError("a condition of fields needs at least one field")
        self.fields = {name: ClassCondition(list(names)) for name, names in fields.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """The number of classes of each field."""
        return {name: kind.num_classes for name, kind in self.fields.items()}

    def encode(self, batch: Mapping[str, Any]) -> TensorDict:
        """Raises DataError for a label that its field has not."""
        columns = torch.as_tensor(batch["labels"]).reshape(-1, len(self.fields)).unbind(1)
        return self._gather({
            name: kind.encode({"label": column})
            for (name, kind), column in zip(self.fields.items(), columns, strict=True)
        })  # fmt: skip

    def parse(self, prompts: Sequence[str | Mapping[str, Any]]) -> TensorDict:
        said = [self._said(prompt) for prompt in prompts]
        return self._gather({
            name: kind.parse([row.get(name, "") for row in said]) for name, kind in self.fields.items()
        })  # fmt: skip

    def null(self, condition: TensorDict) -> TensorDict:
        parts = {name: torch.full_like(condition[name], kind.num_classes) for name, kind in self.fields.items()}
        return TensorDict(parts, batch_size=condition.batch_size)

    def describe(self, prompt: str | Mapping[str, Any]) -> str:
        """A prompt in words: "digit 7, speaker theo"."""
        said = self._said(prompt)
        names = {name: said[name] for name in self.fields if said.get(name, "") != ""}
        return ", ".join(
            f"{name} {self.fields[name].names[v] if isinstance(v, int) else v}" for name, v in names.items()
        )

    def _said(self, prompt: str | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(prompt, Mapping):
            said = dict(prompt)
        elif not isinstance(prompt, str):
            raise PromptError(f"the prompt {prompt!r} is no text; name fields and values, as in: {self._example()}")
        else:
            words = [word.partition("=") for word in re.split(r"[\s,]+", prompt.strip()) if word]
            if unclear := [word[0] for word in words if not word[1]]:
                known = " ".join(f"{name}={kind.names[0]}" for name, kind in self.fields.items())
                raise PromptError(
                    f"the prompt {prompt!r} has {unclear[0]!r} where a field=value belongs, as in: {known}"
                )
            said = {name: value for name, _, value in words}
        if unknown := [name for name in said if name not in self.fields]:
            nearest = get_close_matches(unknown[0], self.fields, n=1, cutoff=0.0)[0]
            raise PromptError(
                f"unknown field {unknown[0]!r}; did you mean {nearest!r}? The fields are: {', '.join(self.fields)}"
            )
        return said

    def _example(self) -> str:
        return " ".join(f"{name}={kind.names[0]}" for name, kind in self.fields.items())

    def _gather(self, parts: Mapping[str, TensorDict]) -> TensorDict:
        labels = {name: part["label"] for name, part in parts.items()}
        return TensorDict(labels, batch_size=next(iter(parts.values())).batch_size)
