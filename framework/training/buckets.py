"""Batches of items of like size, in an order that is a function of (seed, position): little padding, nothing dropped.

An epoch's items are permuted and dealt to buckets by size; each bucket is cut into full batches, what is left over of
all buckets is put together by size into batches of its own, and the batches come in a random order. So each item is
seen once an epoch, and a batch holds items whose sizes lie within `width` of each other (left-overs apart). Of the
endless stream process r of R takes every R-th batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from framework.training.loader import ResumableLoader, ShardedBatches, process_rank


def bucketed(sizes: np.ndarray, batch_size: int, width: int, generator: np.random.Generator) -> list[np.ndarray]:
    """One epoch's batches of indices."""
    order = generator.permutation(len(sizes))
    bucket = -(-sizes[order] // width)
    batches: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for value in np.unique(bucket):
        items = order[bucket == value]
        full = len(items) // batch_size * batch_size
        batches += list(items[:full].reshape(-1, batch_size))
        rest.append(items[full:])
    left = np.concatenate(rest)  # by size, since the buckets come in order
    batches += [left[i : i + batch_size] for i in range(0, len(left), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


class BucketedBatches(Sampler[list[int]]):
    """Endless batches from batch `start` of the stream on; process r of R takes every R-th."""

    def __init__(self, sizes: Sequence[int] | np.ndarray, batch_size: int, seed: int, width: int = 2) -> None:
        self.sizes = np.asarray(sizes)
        if len(self.sizes) == 0:
            raise ValueError("the training set is empty: there is nothing to draw batches from")
        self.batch_size, self.seed, self.width = batch_size, seed, width
        self.start = 0
        self.per_epoch = len(self._epoch(0))  # the same in each: buckets do not change

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        return bucketed(self.sizes, self.batch_size, self.width, generator)

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = process_rank()
        epoch, batches = -1, list[np.ndarray]()
        position = self.start + rank
        while True:
            if position // self.per_epoch != epoch:
                epoch = position // self.per_epoch
                batches = self._epoch(epoch)
            yield batches[position % self.per_epoch].tolist()
            position += world


class BySize(ShardedBatches):
    """Every item once, from small to large, for validation."""

    def __init__(self, sizes: Sequence[int] | np.ndarray, batch_size: int) -> None:
        super().__init__(len(sizes), batch_size)
        self.order = np.argsort(np.asarray(sizes), kind="stable")

    def __iter__(self) -> Iterator[list[int]]:
        for places in super().__iter__():
            yield self.order[places].tolist()


class BucketedLoader(ResumableLoader):
    """A ResumableLoader of such batches: endless (`shuffle=True`), or once from small to large (`shuffle=False`).

    Its place in the stream is counted in batches.

    Args:
        dataset: the items.
        sizes: of each item.
        batch_size: items a batch; an epoch's left-overs make smaller ones.
        seed: of the order.
        shuffle: see above.
        width: items of one batch have sizes in (k width, (k + 1) width].
        num_workers, collate_fn: as those of a DataLoader.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sizes: Sequence[int] | np.ndarray,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        width: int = 2,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        if len(sizes) != len(dataset):  # type: ignore[arg-type]
            raise ValueError(f"{len(dataset)} items and {len(sizes)} sizes")  # type: ignore[arg-type]
        batches = BucketedBatches(sizes, batch_size, seed, width) if shuffle else BySize(sizes, batch_size)
        super().__init__(
            dataset,
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            num_workers=num_workers,
            collate_fn=collate_fn,
            batches=batches,
        )

    def consume(self) -> None:
        """Count one more batch of each process as used."""
        self.consumed += process_rank()[1]

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.consumed = state["batches"]
        if isinstance(self.batches, BucketedBatches):
            self.batches.start = self.consumed
