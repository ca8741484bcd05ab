"""A data module of two data sets: one to train on, one to validate and judge on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import lightning as L
from torch.utils.data import Dataset

from framework.training.loader import ResumableLoader

Item = TypeVar("Item")


class TwoSets(L.LightningDataModule, Generic[Item]):
    """Batches of two sets, in an order that is a function of the seed and the step.

    `train` and `validation` are data sets, or functions without arguments that make them in `setup`; `train_set` and
    `validation_set` exist after it. Making the module costs nothing.
    """

    train_set: Dataset[Item]
    validation_set: Dataset[Item]

    def __init__(
        self,
        train: Dataset[Item] | Callable[[], Dataset[Item]],
        validation: Dataset[Item] | Callable[[], Dataset[Item]],
        *,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._sources = train, validation
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Make both data sets, whatever the stage; a second call does nothing."""
        if self._ready:
            return
        self.train_set, self.validation_set = (
            source if isinstance(source, Dataset) else source() for source in self._sources
        )
        self._ready = True

    def train_dataloader(self) -> ResumableLoader:
        self.setup()
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        self.setup()
        return self._loader(self.validation_set, shuffle=False)

    def _loader(self, items: Dataset[Item], shuffle: bool) -> ResumableLoader:
        return ResumableLoader(
            items, batch_size=self.batch_size, seed=self.seed, shuffle=shuffle, num_workers=self.num_workers
        )

    def reference_set(self) -> Dataset[Item]:
        """The set of real items that were not trained on, to judge beside."""
        self.setup()
        return self.validation_set
