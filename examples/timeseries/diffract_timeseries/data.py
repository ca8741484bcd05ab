"""The data modules of series: made ones, and tables of one's own, cut into windows.

Batches are `values` float32 (B, L, C), NaN where a value is missing, and `label` int64 (B,), -1 where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.utils.data import Dataset

from diffract_timeseries.files import SUFFIXES, columns, read_table
from diffract_timeseries.made import CHANNELS, CLASSES, DAY, LENGTH, make
from framework.data.bad_items import BadItem, check_share, write_skipped
from framework.data.parts import Part, split_by_name, turns
from framework.data.two_sets import TwoSets
from framework.errors import DataError

Item = dict[str, Tensor]


class Series(NamedTuple):
    """Series with their classes."""

    values: Float32[Tensor, "n l c"]
    labels: Int64[Tensor, " n"]


class SeriesSet(Dataset[Item]):
    """Series in memory."""

    def __init__(self, values: np.ndarray, labels: np.ndarray) -> None:
        self.series = Series(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels.astype(np.int64)))

    def __len__(self) -> int:
        return len(self.series.values)

    def __getitem__(self, index: int) -> Item:
        return {"values": self.series.values[index], "label": self.series.labels[index]}


class SeriesData(TwoSets[Item]):
    """Two sets of windows of `length` steps of the same channels; a season lasts `season` steps."""

    channels: tuple[str, ...]
    class_names: tuple[str, ...]

    def __init__(
        self,
        train: Callable[[], Dataset[Item]],
        validation: Callable[[], Dataset[Item]],
        *,
        length: int,
        season: int,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(train, validation, batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.length, self.season = length, season

    def prompts(self, n: int, seed: int) -> list[Any]:
        """Classes in equal numbers; None where there are none."""
        names = self.class_names
        return [names[i] for i in turns(len(names), n, seed, "prompts")] if names else [None] * n

    def reference(self, n: int, seed: int) -> Series:
        """`n` different series that were not trained on, chosen by the seed; all if there are fewer."""
        return gather(self.reference_set(), n, seed)

    def training_reference(self, n: int, seed: int) -> Series:
        """The same of the series that were trained on."""
        self.setup()
        return gather(self.train_set, n, seed)


def gather(items: Dataset[Item], n: int, seed: int) -> Series:
    """Some items as one batch."""
    count = len(items)  # type: ignore[arg-type]
    chosen = [items[int(i)] for i in turns(count, min(n, count), seed, "reference")]
    return Series(torch.stack([item["values"] for item in chosen]), torch.stack([item["label"] for item in chosen]))


class MadeData(SeriesData):
    """The made series (see `made`); a share `missing` of them has gaps."""

    channels, class_names = CHANNELS, CLASSES

    def __init__(
        self,
        train_length: int = 6000,
        validation_length: int = 1536,
        missing: float = 0.5,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        def part(name: str, count: int) -> Callable[[], Dataset[Item]]:
            return lambda: SeriesSet(*make(np.arange(count), seed, name, missing))

        super().__init__(
            part("train", train_length),
            part("validation", validation_length),
            length=LENGTH,
            season=DAY,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )


class TableData(SeriesData):
    """Windows of the CSV and Parquet files below `path` (or of one file), one after the other; subfolders are classes.

    Args:
        path: the folder or file.
        channels: the columns to read; None is all columns of numbers of the first file.
        length: steps a window; what is left over at a file's end is not used.
        season: steps a season, for the baseline of forecasts.
        held_out_share: of the windows, by a hash of their names.
        max_bad_share: more bad files are an error.
        skipped_path: where the table of bad files goes.
    """

    def __init__(
        self,
        path: str,
        channels: Sequence[str] | None = None,
        length: int = 96,
        season: int = 24,
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            lambda: self._split()[0],
            lambda: self._split()[1],
            length=length,
            season=season,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.path, self._channels, self.held_out_share = Path(path), channels, held_out_share
        self.max_bad_share, self.skipped_path = max_bad_share, skipped_path
        self._parts: tuple[Part[Item], Part[Item]] | None = None
        self.bad_items: tuple[BadItem, ...] = ()

    def _split(self) -> tuple[Part[Item], Part[Item]]:
        if self._parts is None:
            names, windows, labels = self._windows()
            self._parts = split_by_name(SeriesSet(np.stack(windows), np.array(labels)), names, self.held_out_share)
        return self._parts

    def _windows(self) -> tuple[list[str], list[np.ndarray], list[int]]:
        files = sorted(f for f in self.path.rglob("*") if f.suffix in SUFFIXES) if self.path.is_dir() else [self.path]
        if not all(file.is_file() for file in files) or not files:
            raise DataError(f"data.path={self.path}: there is no {' or '.join(SUFFIXES)} file")
        folders = [file.parent.name if file.parent != self.path and self.path.is_dir() else "" for file in files]
        self.class_names = tuple(sorted(set(folders) - {""}))
        names: list[str] = []
        windows: list[np.ndarray] = []
        labels: list[int] = []
        bad: list[BadItem] = []
        for file, folder in zip(files, folders, strict=True):
            name = str(file.relative_to(self.path)) if self.path.is_dir() else file.name
            try:
                table = read_table(file)
                self.channels = tuple(self._channels or table)
                self._channels = self.channels
                values = columns(table, self.channels, file)
            except DataError as error:
                bad.append(BadItem(name, str(error)))
                continue
            if len(values) < self.length:
                bad.append(BadItem(name, f"{len(values)} rows, less than data.length={self.length}"))
            for begin in range(0, len(values) - self.length + 1, self.length):
                window = values[begin : begin + self.length]
                if np.isfinite(window).any():
                    names.append(f"{name}/{begin}")
                    windows.append(window)
                    labels.append(self.class_names.index(folder) if folder else -1)
        if self.skipped_path is not None:
            write_skipped(bad, self.skipped_path)
        check_share(bad, len(files), self.max_bad_share, str(self.path))
        self.bad_items = tuple(bad)
        return names, windows, labels
