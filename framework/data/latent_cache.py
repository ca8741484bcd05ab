"""Encoded items on disk, so that an encoder reads each of them once in the life of a data set, and not once an epoch.

    <folder>/record.json         what the key hashes: data, encoder, what an item is
    <folder>/00000.safetensors   items 0 ... n - 1: mean, deviation, condition/<name>; then the next n, ...

A shard is written atomically, so that a kill costs the shard that was being encoded and no more; a file that cannot be
read is encoded again. Shards are mapped and not read as long as they do not fit into `RESIDENT` bytes together.

An item and its mirror image, where the data have both, are two items and lie here as two copies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as format_safetensors
from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import Dataset

from framework.errors import UserError
from framework.files import remove_leftovers, write_atomically, write_text
from framework.posterior import Posterior

FORMAT = 1
SHARD_BYTES, LARGEST_SHARD = 2**26, 4096  # bytes and items of a shard, at most
RESIDENT = 2**30  # bytes of encoded items that are kept in memory
RECORD = "record.json"
MEAN, DEVIATION, CONDITION = "mean", "deviation", "condition/"

Progress = Callable[[int], None]


def key_of(record: Mapping[str, Any]) -> str:
    """24 digits that are the same for the same record alone."""
    text = json.dumps({"format": FORMAT, **record}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class LatentCache(Dataset[Posterior]):
    """The encoded items of a folder that `fill` has completed; a batch of indices at a time."""

    def __init__(self, shards: Sequence[Mapping[str, Tensor]]) -> None:
        sizes = [len(shard[MEAN]) for shard in shards]
        self.per_shard, self.size = sizes[0], sum(sizes)
        held = sum(tensor.nbytes for shard in shards for tensor in shard.values())
        if held <= RESIDENT and len(shards) > 1:
            shards = [{name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}]
            self.per_shard = self.size
        self.shards = shards

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Posterior:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Posterior:
        """A batch: what a DataLoader asks for, in one piece."""
        index = torch.as_tensor(indices)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self.size:
            raise IndexError(f"items {list(indices)} of {self.size}")
        rows = {name: self._rows(name, index) for name in self.shards[0]}
        condition = {name.removeprefix(CONDITION): row for name, row in rows.items() if name.startswith(CONDITION)}
        return Posterior(rows[MEAN], rows.get(DEVIATION), TensorDict(condition, batch_size=[len(index)]))

    def _rows(self, name: str, index: Tensor) -> Tensor:
        if len(self.shards) == 1:
            return self.shards[0][name][index]
        shard, within = index // self.per_shard, index % self.per_shard
        out = self.shards[0][name].new_empty(len(index), *self.shards[0][name].shape[1:])
        for number in shard.unique().tolist():
            here = shard == number
            out[here] = self.shards[number][name][within[here]]
        return out


def fill(
    folder: Path,
    record: Mapping[str, Any],
    size: int,
    encode: Callable[[Sequence[int]], Posterior],
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> LatentCache:
    """The encoded items 0 ... size - 1 of a folder: those that are there are read, the others made.

    Args:
        folder: of one record, whose key its name should hold.
        record: what the items depend on; plain JSON values.
        size: how many items there are.
        encode: indices to their encoded rows.
        batch_size: how many are encoded at a time.
        progress: called with the number of items done.

    Raises:
        UserError: states that are no tensors, or there are no items.
    """
    if size < 1:
        raise UserError("there are no items to encode")
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    per_shard = _per_shard(folder, record, encode)
    shards = []
    for number, first in enumerate(range(0, size, per_shard)):
        path, indices = folder / f"{number:05d}.safetensors", range(first, min(first + per_shard, size))
        shard = read_shard(path, len(indices))
        if shard is None:
            batches = (indices[i : i + batch_size] for i in range(0, len(indices), batch_size))
            write_shard(path, _encoded(batches, encode, progress))
            shard = read_shard(path, len(indices))
            if shard is None:
                raise UserError(f"{path} was written and cannot be read: is the disk full?")
        if progress is not None:
            progress(indices.stop)
        shards.append(shard)
    return LatentCache(shards)


def _encoded(
    batches: Iterable[Sequence[int]], encode: Callable[[Sequence[int]], Posterior], progress: Progress | None
) -> dict[str, Tensor]:
    parts = []
    for batch in batches:
        parts.append(_named(encode(batch)))
        if progress is not None:
            progress(batch[-1] + 1)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _named(posterior: Posterior) -> dict[str, Tensor]:
    """A batch as tensors by name, on the CPU."""
    if not isinstance(posterior.mean, Tensor):
        raise UserError("only states that are tensors can be kept encoded")
    named = {MEAN: posterior.mean}
    if posterior.deviation is not None:
        named[DEVIATION] = posterior.deviation
    for name, value in posterior.condition.items():
        if not isinstance(value, Tensor) or "/" in name:
            raise UserError(f"the condition {name!r} is no tensor, and cannot be kept beside encoded items")
        named[CONDITION + name] = value
    return {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}


def _per_shard(folder: Path, record: Mapping[str, Any], encode: Callable[[Sequence[int]], Posterior]) -> int:
    """Items of a shard: as the folder's record says, else as many as `SHARD_BYTES` hold."""
    path = folder / RECORD
    try:
        return int(json.loads(path.read_text())["items_per_shard"])
    except (OSError, ValueError, KeyError, TypeError):
        weight = sum(tensor.nbytes for tensor in _named(encode([0])).values())
        count = max(1, min(LARGEST_SHARD, SHARD_BYTES // max(weight, 1)))
        write_text(path, json.dumps({"format": FORMAT, **record, "items_per_shard": count}, indent=2) + "\n")
        return count


def read_shard(path: Path, size: int) -> dict[str, Tensor] | None:
    """The tensors of a shard, mapped; None where it is not there, damaged or of another size."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return None
    return tensors if MEAN in tensors and all(len(tensor) == size for tensor in tensors.values()) else None


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A shard, atomically."""
    write_atomically(path, lambda file: file.write(format_safetensors(dict(tensors))))
