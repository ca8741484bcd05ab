"""Latents on disk: an encoder reads each item once, a kill costs one shard, and training cannot tell the difference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tensordict import TensorDict

import framework.data.latent_cache as latent_cache
from framework.data.latent_cache import LatentCache, fill, key_of
from framework.errors import UserError
from framework.noise import BatchKey
from framework.posterior import Posterior

SIZE = 50


class Encoder:
    """Item i as (i, i), uncertain by i / 10, in the class i mod 3; remembers what it was asked for."""

    def __init__(self, limit: int | None = None) -> None:
        self.asked: list[int] = []
        self.limit = limit

    def __call__(self, indices: Sequence[int]) -> Posterior:
        if self.limit is not None and len(self.asked) >= self.limit:
            raise KeyboardInterrupt
        self.asked += list(indices)
        number = torch.tensor(list(indices), dtype=torch.float32)
        condition = TensorDict({"label": number.long() % 3}, batch_size=[len(number)])
        return Posterior(number[:, None].expand(-1, 2), number[:, None].expand(-1, 2) / 10, condition)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_cache, "LARGEST_SHARD", 16)


def filled(folder: Path, encoder: Encoder) -> LatentCache:
    return fill(folder, {"data": "numbers"}, SIZE, encoder, batch_size=4)


def check(cache: LatentCache) -> None:
    chosen = [49, 0, 17, 15, 16, 31]
    batch = cache.__getitems__(chosen)
    assert len(cache) == SIZE and batch.mean[:, 0].tolist() == chosen
    assert batch.deviation is not None
    torch.testing.assert_close(batch.deviation[:, 1], torch.tensor(chosen) / 10)
    assert batch.condition["label"].tolist() == [i % 3 for i in chosen] and batch.condition.batch_size == (6,)
    assert cache[3].mean.tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("resident", [0, 2**30])
def test_each_item_is_encoded_once(tmp_path: Path, resident: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_cache, "RESIDENT", resident)
    encoder = Encoder()
    check(filled(tmp_path, encoder))
    assert encoder.asked == [0, *range(SIZE)]  # the first once more, to learn how large an item is
    again = Encoder()
    check(filled(tmp_path, again))
    assert again.asked == []


def test_a_kill_costs_the_shard_that_was_being_encoded(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, Encoder(limit=1 + 40))
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["00000.safetensors", "00001.safetensors"]
    encoder = Encoder()
    check(filled(tmp_path, encoder))
    assert encoder.asked == list(range(32, SIZE))


@pytest.mark.parametrize("harm", ["cut", "other size", "gone"])
def test_a_damaged_shard_is_encoded_again(tmp_path: Path, harm: str) -> None:
    filled(tmp_path, Encoder())
    shard = tmp_path / "00001.safetensors"
    if harm == "cut":
        shard.write_bytes(shard.read_bytes()[:-20])
    elif harm == "other size":
        save_file({"mean": torch.zeros(3, 2)}, shard)
    else:
        shard.unlink()
    encoder = Encoder()
    check(filled(tmp_path, encoder))
    assert encoder.asked == list(range(16, 32))


def test_the_key_is_that_of_the_record() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})


def test_a_posterior_is_drawn_by_its_key() -> None:
    encoder = Encoder()
    posterior = encoder([0, 10, 20] * 4000)
    assert torch.equal(posterior.draw(None), posterior.mean)
    key = BatchKey(0, 5, 0, 12000)
    drawn = posterior.draw(key)
    assert torch.equal(drawn, posterior.draw(key)) and not torch.equal(drawn, posterior.draw(key.at(6)))
    rest = ((drawn - posterior.mean) / 10).reshape(4000, 3, 2)
    torch.testing.assert_close(rest.std((0, 2)), torch.tensor([0.0, 0.1, 0.2]), atol=0.005, rtol=0)
    certain = Posterior(posterior.mean, None, posterior.condition)
    assert torch.equal(certain.draw(key), posterior.mean)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    def encode(indices: Sequence[int]) -> Posterior:
        nested = TensorDict({"x": TensorDict({}, batch_size=[1])}, batch_size=[1])
        return Posterior(torch.zeros(1, 2), None, nested)

    with pytest.raises(UserError, match="'x' is no tensor"):
        fill(tmp_path, {}, 1, encode, batch_size=1)
    with pytest.raises(UserError, match="no items"):
        fill(tmp_path, {}, 0, encode, batch_size=1)
