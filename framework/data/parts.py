"""Parts of a data set: what is trained on and what is held out, and items in turn.

Whether an item is held out depends on a hash of its name alone: more data do not move an item from one side to the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from torch.utils.data import Dataset

from framework.data.counter import share, uniforms
from framework.errors import DataError

Item = TypeVar("Item")


class Part(Dataset[Item], Generic[Item]):
    """Some items of a set."""

    def __init__(self, whole: Dataset[Item], indices: Sequence[int] | np.ndarray) -> None:
        self.whole, self.indices = whole, np.asarray(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        return self.whole[int(self.indices[index])]


def split_by_name(whole: Dataset[Item], names: Sequence[str], held_out_share: float) -> tuple[Part[Item], Part[Item]]:
    """The training part and the held-out part.

    Raises:
        DataError: one of them would be empty.
    """
    held_out = np.array([share(name) < held_out_share for name in names], dtype=bool)
    parts = Part(whole, np.flatnonzero(~held_out)), Part(whole, np.flatnonzero(held_out))
    if not all(len(part) for part in parts):
        raise DataError(
            f"holding out {held_out_share:g} of {len(names)} items leaves {len(parts[0])} for training "
            f"and {len(parts[1])} held out; give more data or change data.held_out_share"
        )
    return parts


def turns(count: int, n: int, seed: int, stream: str) -> np.ndarray:
    """`n` of `count` numbers in an order of the seed's: each once before any comes again."""
    order = np.argsort(uniforms(seed, stream, np.arange(count), 1)[:, 0])
    return np.resize(order, n)
