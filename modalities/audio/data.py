"""The data modules of sound: a training set, a validation set, prompts and real clips to judge on.

Making a data module costs nothing; `setup` computes or reads, once. `AudioData` takes any two data sets (or what makes
them); `ListedData` reads recordings. Sets that are known by name are in `presets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset

from framework.data.bad_items import BadItem
from framework.data.parts import turns
from framework.data.two_sets import TwoSets
from framework.metrics.score import Score
from modalities.audio.clip_set import ClipSet, Facts, Item, Preparation, balanced, facts
from modalities.audio.sources import Listing, list_path
from modalities.audio.waveforms import Waveforms

Verdicts = Mapping[str, Mapping[str, np.ndarray]]
Source = Dataset[Item] | Callable[[], Dataset[Item]]


class Reference(NamedTuple):
    """Real clips to compare generated ones with; one column of labels a head, -1: unknown."""

    waveforms: Waveforms
    labels: Int64[Tensor, "n h"]
    captions: list[str]


class AudioData(TwoSets[Item]):
    """Batches of `waveform` float32 (B, T), `length` int64 (B,), `caption` list[str] and `labels` int64 (B, H).

    `train` and `validation` are data sets, or functions without arguments that make them in `setup`. Clips have `rate`
    samples a second and T = `size` samples, zeros from their length on. Batches come in an order that is a function of
    the seed and the step. `train_set` and `validation_set` exist after `setup`.
    """

    def __init__(
        self,
        train: Source,
        validation: Source,
        *,
        rate: int,
        seconds: float,
        heads: Mapping[str, Sequence[str]] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(train, validation, batch_size=batch_size, num_workers=num_workers, seed=seed)
        self._heads = {head: tuple(names) for head, names in (heads or {}).items()}
        self.rate, self.seconds, self.size = rate, seconds, round(rate * seconds)
        self._facts: Facts | None = None

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """The columns of the labels: head -> names of its classes 0, 1, ...; empty for a set without classes."""
        return self._heads

    @property
    def judged(self) -> tuple[str, ...]:
        """The heads that a classifier of pictures can be asked for."""
        return tuple(self.heads)

    @property
    def lengths(self) -> Int64[Tensor, " n"]:
        """The lengths of the training clips in samples."""
        return self._training_facts().lengths

    def _training_facts(self) -> Facts:
        if self._facts is None:
            self.setup()
            self._facts = facts(self.train_set)
        return self._facts

    @property
    def labels(self) -> Int64[Tensor, "n h"]:
        """The labels of the training clips."""
        return self._training_facts().labels

    def prompts(self, n: int, seed: int) -> list[dict[str, str]] | list[str]:
        """`n` prompts to judge on, chosen by the seed: classes if the data have them, else held-out captions."""
        return self.classes(n, seed) or self.captions(n, seed)

    def classes(self, n: int, seed: int) -> list[dict[str, str]]:
        """`n` prompts like {"digit": "7", "speaker": "theo"}: all combinations of the training data in equal numbers.

        [] if the data have no classes.
        """
        labels = self._training_facts().labels
        labels = labels[(labels >= 0).any(-1)]
        if not len(labels):
            return []
        combinations = torch.unique(labels, dim=0).tolist()
        return [self.named(combinations[row]) for row in turns(len(combinations), n, seed, "prompts")]

    def named(self, labels: Sequence[int]) -> dict[str, str]:
        """One row of labels as a prompt: the names of the classes that are known."""
        return {head: self.heads[head][k] for head, k in zip(self.heads, labels, strict=True) if k >= 0}

    def captions(self, n: int, seed: int) -> list[str]:
        """`n` captions of clips that were not trained on, chosen by the seed."""
        captions = facts(self.reference_set()).captions
        return [captions[int(i)] for i in turns(len(captions), n, seed, "prompts")]

    def probes(self, n: int, seed: int) -> list[str]:
        """`n` prompts for what the data do not show, to see how far a model goes beyond them; none by default.

        The first of many probes are those of few.
        """
        return []

    def judge(self, waveforms: Waveforms, prompts: Sequence[Any]) -> Verdicts:
        """0/1 verdicts on clips by exact rules, for each group of prompts and attribute; none by default."""
        return {}

    def scores(self, waveforms: Waveforms, prompts: Sequence[str]) -> dict[str, Score]:
        """What exact rules say of each clip by itself, the most telling first; none by default."""
        return {}

    def reference(self, n: int, seed: int) -> Reference:
        """`n` different real clips that were not trained on, chosen by the seed; all if there are fewer.

        All combinations of classes in equal numbers, as far as they last: a distance between two sets of clips sees
        how classes are mixed before it sees anything else.
        """
        return self._gather(self.reference_set(), n, seed)

    def training_reference(self, n: int, seed: int) -> Reference:
        """The same from the clips that were trained on."""
        self.setup()
        return self._gather(self.train_set, n, seed)

    def _gather(self, items: Dataset[Item], n: int, seed: int) -> Reference:
        chosen = [items[int(index)] for index in balanced(facts(items).labels, n, seed)]
        lengths = torch.tensor([item["length"] for item in chosen])
        return Reference(
            Waveforms(torch.stack([item["waveform"] for item in chosen]), lengths, self.rate),
            torch.stack([item["labels"] for item in chosen]),
            [item["caption"] for item in chosen],
        )


class ListedData(AudioData):
    """Recordings from a listing (see `sources` and `presets`), prepared alike (see `Preparation`).

    Split as the source has it, else by a hash of their names. `skipped_path` is where the table of bad items goes.
    """

    def __init__(
        self,
        listing: Callable[[], Listing],
        preparation: Preparation,
        *,
        max_bad_share: float,
        skipped_path: str | None,
        batch_size: int,
        num_workers: int,
        seed: int,
        held_out_share: float = 0.0,
    ) -> None:
        super().__init__(
            lambda: self.clips.split(self.held_out_share)[0],
            lambda: self.clips.split(self.held_out_share)[1],
            rate=preparation.rate,
            seconds=preparation.seconds,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self._list, self.preparation, self.held_out_share = listing, preparation, held_out_share
        self.max_bad_share, self.skipped_path = max_bad_share, skipped_path
        self._clips: ClipSet | None = None

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """The columns of the labels, as the data say; reads them at the first call."""
        return self.clips.heads

    @property
    def bad_items(self) -> tuple[BadItem, ...]:
        """The recordings that were skipped, and why."""
        return self.clips.bad

    @property
    def clips(self) -> ClipSet:
        """All good recordings, read at the first call."""
        if self._clips is None:
            self._clips = ClipSet(self._list(), self.preparation, self.max_bad_share, self.skipped_path)
        return self._clips


class AudioFolderData(ListedData):
    """A folder of sound files or a table of them (see `sources`): classes from folders, names or columns; captions."""

    def __init__(
        self,
        path: str,
        pattern: str | None = None,
        heads: Sequence[str] | None = None,
        rate: int = 16_000,
        seconds: float = 1.024,
        level: str = "peak",
        target_db: float | None = None,
        trim_db: float | None = None,
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(list_path, path, pattern, heads),
            Preparation(rate, seconds, level, target_db, trim_db),
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
