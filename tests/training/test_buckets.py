"""Batches of like sizes: each item once an epoch, little padding, and resumed where it stopped."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from torch.utils.data import Dataset

from framework.training.buckets import BucketedBatches, BucketedLoader, BySize

SIZES = np.random.default_rng(0).integers(3, 30, 1003)


class Items(Dataset[int]):
    def __len__(self) -> int:
        return len(SIZES)

    def __getitem__(self, index: int) -> int:
        return index


def epoch(batches: BucketedBatches) -> list[list[int]]:
    return list(itertools.islice(iter(batches), batches.per_epoch))


def test_an_epoch_has_each_item_once_in_batches_of_like_sizes() -> None:
    found = epoch(BucketedBatches(SIZES, 16, seed=1))
    assert sorted(itertools.chain(*found)) == list(range(len(SIZES)))
    like = [batch for batch in found if np.ptp(-(-SIZES[batch] // 2)) == 0]
    assert sum(len(batch) for batch in like) / len(SIZES) > 0.75
    assert sum(len(batch) < 16 for batch in found) <= 1
    padded = sum(len(batch) * SIZES[batch].max() ** 2 for batch in found) / (SIZES.astype(float) ** 2).sum()
    plain = np.random.default_rng(2).permutation(len(SIZES))[: 62 * 16].reshape(62, 16)
    waste = (16 * SIZES[plain].max(1) ** 2).sum() / (SIZES[plain].astype(float) ** 2).sum()
    assert padded < 1.25 < waste


def test_the_order_is_of_the_seed_and_the_epoch() -> None:
    batches = BucketedBatches(SIZES, 16, seed=1)
    twice = list(itertools.islice(iter(batches), 2 * batches.per_epoch))
    assert twice[: batches.per_epoch] == epoch(BucketedBatches(SIZES, 16, seed=1))
    assert twice[: batches.per_epoch] != twice[batches.per_epoch :]
    assert epoch(BucketedBatches(SIZES, 16, seed=2)) != twice[: batches.per_epoch]
    sizes = [int(SIZES[batch].max()) for batch in twice[: batches.per_epoch]]
    assert sizes != sorted(sizes)


def test_two_processes_share_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = epoch(BucketedBatches(SIZES, 16, seed=1))
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr("framework.training.buckets.process_rank", lambda rank=rank: (rank, 2))
        parts.append(list(itertools.islice(iter(BucketedBatches(SIZES, 16, seed=1)), 10)))
    assert [batch for both in zip(*parts, strict=True) for batch in both] == whole[:20]


def test_a_resumed_loader_goes_on_where_it_stopped() -> None:
    def make() -> BucketedLoader:
        return BucketedLoader(Items(), SIZES, batch_size=16, seed=3, shuffle=True, collate_fn=list)

    first, wanted = make(), list(itertools.islice(iter(make()), 9))
    for _ in itertools.islice(iter(first), 4):
        first.consume()
    again = make()
    again.load_state_dict(first.state_dict())
    assert list(itertools.islice(iter(again), 5)) == wanted[4:]


def test_validation_sees_each_item_once_from_small_to_large() -> None:
    found = list(itertools.chain(*BySize(SIZES, 16)))
    assert sorted(found) == list(range(len(SIZES))) and bool((np.diff(SIZES[found]) >= 0).all())


def test_sizes_belong_to_the_items() -> None:
    with pytest.raises(ValueError, match="1003 items and 5 sizes"):
        BucketedLoader(Items(), SIZES[:5], batch_size=4, seed=0, shuffle=True)
