"""An order of data that is a function of (seed, position), so that a resumed run sees what it would have seen.

A training run reads one endless stream: the permutation of epoch 0, then that of epoch 1, and so on, each a function of
(seed, epoch) alone. Batch b of a world of R processes is the slice [b B R, (b + 1) B R) of the stream, and process r
takes its r-th part. Nothing is dropped at an epoch's end, nothing is repeated within one, and to resume is to start at
an item of the stream: no state but that one number has to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed
from torch.utils.data import DataLoader, Dataset, Sampler


def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `size` items in one epoch, a function of (seed, epoch): int64 (size,)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)


def process_rank() -> tuple[int, int]:
    """(rank, world size) of this process: (0, 1) outside distributed training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class StreamBatches(Sampler[list[int]]):
    """Endless batches of indices from item `start` of the stream on; process r of R takes its part of each."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("the training set is empty: there is nothing to draw batches from")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.start = 0

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = process_rank()
        epoch, order = -1, np.empty(0, dtype=np.int64)
        position = self.start + rank * self.batch_size
        while True:
            batch = []
            for place in range(position, position + self.batch_size):
                if place // self.size != epoch:
                    epoch = place // self.size
                    order = permutation(self.size, self.seed, epoch)
                batch.append(int(order[place % self.size]))
            yield batch
            position += world * self.batch_size


class ShardedBatches(Sampler[list[int]]):
    """Every item once, in order, for validation: each process takes its part of each global batch.

    All processes have the same number of batches, none of them empty, or they would wait for each other for ever: where
    fewer items than processes are left, some of them take the last item again.
    """

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size

    def __len__(self) -> int:
        _, world = process_rank()
        return -(-self.size // (self.batch_size * world))

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = process_rank()
        for first in range(0, self.size, self.batch_size * world):
            together = np.arange(first, min(first + self.batch_size * world, self.size))
            mine = np.array_split(together, world)[rank].tolist()
            yield mine or [int(together[-1])]


class ResumableLoader(DataLoader):  # type: ignore[type-arg]
    """A DataLoader over the endless stream (`shuffle=True`) or once over the set in order (`shuffle=False`).

    The trainer counts the batches that it has used with `consume`, since workers and prefetching draw ahead of it;
    `state_dict` holds the place in the stream, and after `load_state_dict` the next iteration begins there, also with
    another batch size or number of processes. `batches` are other batches of indices than these, endless if `shuffle`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        num_workers: int = 0,
        collate_fn: Any = None,
        batches: Any = None,
    ) -> None:
        size = len(dataset)  # type: ignore[arg-type]
        self.consumed = 0
        if batches is None:
            batches = StreamBatches(size, batch_size, seed) if shuffle else ShardedBatches(size, batch_size)
        self.batches = batches
        super().__init__(
            dataset,
            batch_sampler=self.batches,
            num_workers=num_workers,
            collate_fn=collate_fn,
            persistent_workers=num_workers > 0 and not shuffle,
        )

    def consume(self) -> None:
        """Count one more batch of each process as used."""
        self.consumed += self.batches.batch_size * process_rank()[1]

    def state_dict(self) -> dict[str, int]:
        return {"items": self.consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.consumed = state["items"]
        if isinstance(self.batches, StreamBatches):
            self.batches.start = self.consumed
