"""The data modules of clouds: made ones, and PLY and XYZ files of one's own.

Batches are `points` float32 (B, N, 3), zero where `mask` bool (B, N) is False, and `label` int64 (B,), -1: none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from diffract_pointclouds.clouds import Clouds, normalised
from diffract_pointclouds.files import SUFFIXES, read_points
from diffract_pointclouds.shapes import NAMES, make
from framework.data.bad_items import BadItem, check_share, write_skipped
from framework.data.parts import Part, split_by_name, turns
from framework.data.two_sets import TwoSets
from framework.errors import DataError

Item = dict[str, Tensor]


class LabelledClouds(NamedTuple):
    """Clouds with their classes."""

    clouds: Clouds
    labels: Int64[Tensor, " n"]


class CloudSet(Dataset[Item]):
    """Clouds in memory, padded to `size` points."""

    def __init__(self, clouds: list[Float[np.ndarray, "n 3"]], labels: np.ndarray, size: int) -> None:
        self.clouds, self.labels = Clouds.of(clouds, size), torch.from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        clouds = self.clouds
        return {"points": clouds.points[index], "mask": clouds.mask[index], "label": self.labels[index]}


class CloudData(TwoSets[Item]):
    """Two sets of clouds of `least` to `most` points."""

    class_names: tuple[str, ...]

    def __init__(
        self,
        train: Callable[[], Dataset[Item]],
        validation: Callable[[], Dataset[Item]],
        *,
        least: int,
        most: int,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        if not 2 <= least <= most:
            raise DataError(f"clouds have 2 <= data.least <= data.most points, got {least} and {most}")
        super().__init__(train, validation, batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.least, self.most = least, most

    def prompts(self, n: int, seed: int) -> list[Any]:
        """Classes in equal numbers; None where there are none."""
        names = self.class_names
        return [names[i] for i in turns(len(names), n, seed, "prompts")] if names else [None] * n

    def reference(self, n: int, seed: int) -> LabelledClouds:
        """`n` different clouds that were not trained on, chosen by the seed; all if there are fewer."""
        items = self.reference_set()
        count = len(items)  # type: ignore[arg-type]
        chosen = [items[int(i)] for i in turns(count, min(n, count), seed, "reference")]
        points, mask, labels = (torch.stack([item[key] for item in chosen]) for key in ("points", "mask", "label"))
        return LabelledClouds(Clouds(points, mask), labels)


class ShapesData(CloudData):
    """The made shapes (see `shapes`)."""

    class_names = NAMES

    def __init__(
        self,
        train_length: int = 6000,
        validation_length: int = 600,
        least: int = 128,
        most: int = 160,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        def part(name: str, count: int) -> Callable[[], Dataset[Item]]:
            return lambda: CloudSet(*make(np.arange(count), seed, name, least, most), size=most)

        super().__init__(
            part("train", train_length),
            part("validation", validation_length),
            least=least,
            most=most,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )


class FileData(CloudData):
    """The PLY and XYZ files below `path`, whose subfolders are classes: of each up to `most` points, drawn by its name.

    Args:
        path: the folder.
        least: a file with fewer points is bad.
        most: of a larger one so many points are taken.
        held_out_share: of the files, by a hash of their names.
        max_bad_share: more bad files are an error.
        skipped_path: where the table of bad files goes.
    """

    def __init__(
        self,
        path: str,
        least: int = 64,
        most: int = 256,
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            lambda: self._split()[0],
            lambda: self._split()[1],
            least=least,
            most=most,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.path, self.held_out_share = Path(path), held_out_share
        self.max_bad_share, self.skipped_path = max_bad_share, skipped_path
        self._parts: tuple[Part[Item], Part[Item]] | None = None
        self.bad_items: tuple[BadItem, ...] = ()

    def _split(self) -> tuple[Part[Item], Part[Item]]:
        if self._parts is None:
            names, clouds, labels = self._read()
            whole = CloudSet(clouds, np.array(labels), self.most)
            self._parts = split_by_name(whole, names, self.held_out_share)
        return self._parts

    def _read(self) -> tuple[list[str], list[Float[np.ndarray, "n 3"]], list[int]]:
        files = sorted(file for file in self.path.rglob("*") if file.suffix in SUFFIXES)
        if not files:
            raise DataError(f"data.path={self.path}: there is no {' or '.join(SUFFIXES)} file below this folder")
        self.class_names = tuple(sorted({file.parent.name for file in files if file.parent != self.path}))
        names: list[str] = []
        clouds: list[Float[np.ndarray, "n 3"]] = []
        labels: list[int] = []
        bad: list[BadItem] = []
        for file in files:
            name = str(file.relative_to(self.path))
            try:
                points = read_points(file)
            except DataError as error:
                bad.append(BadItem(name, str(error)))
                continue
            if len(points) < self.least:
                bad.append(BadItem(name, f"{len(points)} points, fewer than data.least={self.least}"))
                continue
            names.append(name)
            clouds.append(normalised(points[turns(len(points), min(len(points), self.most), 0, name)]))
            labels.append(self.class_names.index(file.parent.name) if file.parent != self.path else -1)
        if self.skipped_path is not None:
            write_skipped(bad, self.skipped_path)
        check_share(bad, len(files), self.max_bad_share, str(self.path))
        self.bad_items = tuple(bad)
        return names, clouds, labels
