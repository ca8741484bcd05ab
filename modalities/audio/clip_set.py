"""A listing of recordings as a data set of clips: all read once, what is broken skipped, levels set, a part held out.

Every file is read to its end at construction, since nothing less finds a truncated one. The samples are kept while
they fit into memory (an hour at 8 kHz is 115 MB), else they are read again at every access. Where a long recording is
cropped and whether one is held out depend on hashes of its name alone, so an item is the same in every epoch, after a
resume and among more data.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from framework.data.bad_items import BadItem, DataError, check_share, write_skipped
from framework.data.counter import share
from framework.data.parts import Part, turns
from framework.errors import UserError
from modalities.audio.levels import SILENCE_DB, TARGETS, is_silent, peak_db, remove_mean, set_level, trim_silence
from modalities.audio.sources import Listing, Recording, labels_of

CACHE_BYTES = 2**32


class Item(TypedDict):
    """One clip, with zeros from `length` on; label -1: unknown."""

    waveform: Float32[Tensor, " t"]
    length: int
    caption: str
    labels: Int64[Tensor, " h"]


@dataclass(frozen=True)
class Preparation:
    """From a recording's samples to those of a clip of at most `seconds`.

    In this order: the mean is removed, silent recordings are refused, silence at the ends is cut off (`trim_db` below
    the peak; None: it is kept), what is longer than `seconds` is cropped, and the level is set.

    Attributes:
        level: peak, rms, loudness or none.
        target_db: dB of full scale, or LUFS for loudness; None: -1, -20 and -23.
        silence_db: a recording whose peak is below this is silent.
        min_seconds: a recording shorter than this is refused.
    """

    rate: int
    seconds: float
    level: str = "peak"
    target_db: float | None = None
    trim_db: float | None = None
    silence_db: float = SILENCE_DB
    min_seconds: float = 0.02

    def __post_init__(self) -> None:
        if self.level not in TARGETS:
            raise UserError(f"data.level={self.level!r} is none of {', '.join(TARGETS)}")
        if self.rate < 1 or self.size < 1:
            raise UserError(f"clips of data.seconds={self.seconds:g} at data.rate={self.rate} Hz hold no samples")

    @property
    def size(self) -> int:
        """Samples of a full clip."""
        return round(self.rate * self.seconds)

    def __call__(self, recording: Recording) -> Float32[Tensor, " t"]:
        """The real samples of a recording's clip; raises DataError with the reason if it has none."""
        samples = recording.read(self.rate)
        if len(samples) < self.min_seconds * self.rate:
            raise DataError(f"too short: {len(samples)} samples at {self.rate} Hz, {self.min_seconds:g} s are wanted")
        samples = remove_mean(samples)
        if is_silent(samples, self.silence_db):
            raise DataError(f"silent: its peak is {peak_db(samples):.0f} dB, below {self.silence_db:g} dB")
        if self.trim_db is not None:
            samples = trim_silence(samples, self.rate, self.trim_db)
        return set_level(self.crop(samples, recording.name), self.rate, self.level, self.target_db)

    def crop(self, samples: Float32[Tensor, " t"], name: str) -> Float32[Tensor, " s"]:
        """At most `size` samples, from a place that the name alone decides; the loudest place if that one is silent."""
        spare = len(samples) - self.size
        if spare <= 0:
            return samples
        start = int(share(f"{name}/crop") * (spare + 1))
        if is_silent(samples[start : start + self.size], self.silence_db):
            start = min(max(int(samples.abs().argmax()) - self.size // 2, 0), spare)
        return samples[start : start + self.size].clone()


class ClipSet(Dataset[Item]):
    """The good recordings of a listing as clips (T,) in [-1, 1], T = `preparation.size`.

    `heads` names the classes of the columns of `labels`. `bad` names the recordings that were skipped. With
    `skipped_path` they are written there; more than `max_bad_share` of them raise DataError (after they are written).
    """

    def __init__(
        self,
        listing: Listing,
        preparation: Preparation,
        max_bad_share: float = 0.05,
        skipped_path: str | Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.preparation, self.heads = preparation, dict(listing.heads)
        items: list[Recording] = []
        lengths: list[int] = []
        kept: list[Tensor] | None = []
        bad = list(listing.bad)
        steps = track(listing.items, description="reading sound", transient=True, disable=not sys.stderr.isatty())
        for item in steps:
            try:
                clip = preparation(item)
            except DataError as error:
                bad.append(BadItem(item.name, str(error)))
                continue
            items.append(item)
            lengths.append(len(clip))
            if kept is not None:
                kept.append(clip)
                if sum(lengths) * clip.element_size() > cache_bytes:
                    kept = None
        self.bad = tuple(bad)
        if skipped_path is not None:
            write_skipped(self.bad, skipped_path)
        check_share(self.bad, len(listing.items) + len(listing.bad), max_bad_share, listing.origin)
        self.items: Sequence[Recording] = items
        self.captions = [item.caption for item in items]
        self.lengths: Int64[Tensor, " n"] = torch.tensor(lengths)
        self.labels: Int64[Tensor, "n h"] = torch.tensor([labels_of(item.classes, self.heads) for item in items])
        self.labels = self.labels.long().reshape(len(items), len(self.heads))
        self._kept = kept

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        clip = self._kept[index] if self._kept is not None else self._read(self.items[index])
        return Item(
            waveform=torch.nn.functional.pad(clip, (0, self.preparation.size - len(clip))),
            length=len(clip),
            caption=self.captions[index],
            labels=self.labels[index],
        )

    def _read(self, item: Recording) -> Tensor:
        try:
            return self.preparation(item)
        except DataError as error:
            raise DataError(f"{item.name} could be read when the run began, and now it cannot: {error}") from None

    def split(self, held_out_share: float) -> tuple[Part[Item], Part[Item]]:
        """The training part and the held-out part: as the source has it, else by a hash of each name or group.

        Raises:
            DataError: one of them would be empty.
        """
        held_out = torch.tensor(
            [
                share(item.name if item.group is None else item.group) < held_out_share
                if item.held_out is None
                else item.held_out
                for item in self.items
            ]
        )
        parts = tuple(Part(self, torch.nonzero(rows)[:, 0].numpy()) for rows in (~held_out, held_out))
        if not all(len(part) for part in parts):
            raise DataError(
                f"of {len(self)} recordings {len(parts[0])} are for training and {len(parts[1])} are held out; give "
                "more data, or change data.held_out_share if the data do not say themselves what is held out"
            )
        return parts[0], parts[1]


class Facts(NamedTuple):
    """What is known of the items of a set without their samples."""

    lengths: Int64[Tensor, " n"]
    labels: Int64[Tensor, "n h"]
    captions: Sequence[str]


@runtime_checkable
class Described(Protocol):
    """A set that knows its items' lengths (N,), labels (N, H) and captions without reading them."""

    lengths: Tensor
    labels: Tensor
    captions: Sequence[str]


def facts(items: Dataset[Item]) -> Facts:
    """What is known of a set's items; reads them all if the set does not know."""
    if isinstance(items, Described):
        return Facts(items.lengths, items.labels, items.captions)
    if isinstance(items, Part):
        whole = facts(items.whole)
        rows = torch.from_numpy(items.indices).long()
        return Facts(whole.lengths[rows], whole.labels[rows], [whole.captions[int(row)] for row in rows])
    read = [items[i] for i in range(len(items))]  # type: ignore[arg-type]
    return Facts(
        torch.tensor([item["length"] for item in read]),
        torch.stack([item["labels"] for item in read]),
        [item["caption"] for item in read],
    )


def balanced(labels: Int64[Tensor, "n h"], n: int, seed: int) -> np.ndarray:
    """The numbers of `n` items, all if there are fewer, in an order of the seed's.

    All combinations of labels take turns in it, as long as each lasts.
    """
    order = turns(len(labels), len(labels), seed, "reference")
    combinations = np.unique(labels.numpy(), axis=0, return_inverse=True)[1].reshape(-1)[order]
    turn = np.zeros(len(order), np.int64)
    for combination in np.unique(combinations):
        mine = combinations == combination
        turn[mine] = np.arange(mine.sum())
    return order[np.argsort(turn, kind="stable")][:n]
