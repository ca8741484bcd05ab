"""Toy data: curves of three shapes, drawn and not downloaded. REPLACE this file by your own data.

A data module is a LightningDataModule whose batches are mappings. What is in them is between it and `encode` in
modality.py; Diffract itself asks for `prompts` and `reference` alone (`framework.judged.JudgeData`). `TwoSets` makes
loaders that go on where an interrupted run was. Let all that is random be a function of the seed and the item's number
(`uniforms`), and two runs of one seed are one run.

Data from files may be damaged: skip such items, name them (`framework.data.bad_items`) and hold some out by the hash
of their names (`framework.data.parts.split_by_name`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from framework.data.counter import uniforms
from framework.data.parts import turns
from framework.data.two_sets import TwoSets
from torch import Tensor
from torch.utils.data import Dataset

SHAPES = ("wave", "ripple", "bump")
WIDTH = 0.12  # of a bump, as a share of the curve
LOWEST = 0.6  # the least height; the greatest is 1


class Item(TypedDict):
    """A curve (N,), float32 in [-1, 1], and the number of its shape."""

    curve: Tensor
    label: int


class Reference(NamedTuple):
    """Real curves (n, N) and their labels (n,), to compare generated ones with."""

    curves: Tensor
    labels: Tensor


def wave(shape: int, phase: np.ndarray) -> np.ndarray:
    """The values of a shape at a phase of its period: between -1 and 1."""
    if SHAPES[shape] == "bump":
        return 2 * np.exp(-(((phase % 1 - 0.5) / WIDTH) ** 2)) - 1
    return np.sin(2 * np.pi * phase * (1 if SHAPES[shape] == "wave" else 2))


class Curves(Dataset[Item]):
    """`length` curves of `points` values; item i is a function of (seed, stream, i) alone."""

    def __init__(self, points: int, length: int, seed: int, stream: str) -> None:
        self.points, self.length, self.seed, self.stream = points, length, seed, stream

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        drawn = uniforms(self.seed, self.stream, np.array([index]), 3)[0]
        label, height = int(drawn[0] * len(SHAPES)), LOWEST + (1 - LOWEST) * drawn[1]
        phase = drawn[2] + np.arange(self.points) / self.points
        return {"curve": torch.from_numpy(height * wave(label, phase)).float(), "label": label}


class MyModalityData(TwoSets[Item]):
    """Curves to train on, and others to validate and judge on. Its arguments are what data/*.yaml may say."""

    def __init__(
        self,
        points: int = 32,
        train_length: int = 4096,
        validation_length: int = 512,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(Curves, points, train_length, seed, "train"),
            partial(Curves, points, validation_length, seed, "validation"),
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )

    def prompts(self, n: int, seed: int) -> Sequence[str]:
        """`n` prompts to judge on: the names of the shapes in turn."""
        return [SHAPES[int(i)] for i in turns(len(SHAPES), n, seed, "prompts")]

    def reference(self, n: int, seed: int) -> Reference:
        """Up to `n` curves that were not trained on."""
        self.setup()
        items = [self.validation_set[int(i)] for i in turns(self._count, min(n, self._count), seed, "reference")]
        return Reference(torch.stack([i["curve"] for i in items]), torch.tensor([i["label"] for i in items]))

    @property
    def _count(self) -> int:
        return len(self.validation_set)  # type: ignore[arg-type]
