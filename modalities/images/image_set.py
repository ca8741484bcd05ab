"""A listing of encoded images as a data set: all decoded once, what is broken skipped, a part held out.

Every item is decoded at construction, since nothing less finds a truncated file. The pixels are kept when
they fit into memory (CIFAR-10 is 150 MB), else they are decoded again at every access. Whether an item is
held out depends on a hash of its name alone: more data do not move an item from one side to the other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from rich.progress import track
from torch.utils.data import Dataset

from framework.data.bad_items import BadItem, DataError, check_share, write_skipped
from framework.data.parts import Part, split_by_name
from modalities.images.decode import decode
from modalities.images.shapes import Item
from modalities.images.sources import EncodedImage, Listing

CACHE_BYTES = 2**32


class ImageSet(Dataset[Item]):
    """The good items of a listing as uint8 pixels (3, size, size) with caption and label.

    `bad` names the items that were skipped. With `skipped_path` they are written there; more than
    `max_bad_share` of them raise DataError (after they are written).
    """

    def __init__(
        self,
        listing: Listing,
        size: int,
        max_bad_share: float = 0.05,
        skipped_path: str | Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.size = size
        self.class_names = listing.class_names
        total = len(listing.items) + len(listing.bad)
        fits = len(listing.items) * 3 * size**2 <= cache_bytes
        cache = np.empty((len(listing.items) if fits else 0, 3, size, size), np.uint8)
        items: list[EncodedImage] = []
        bad = list(listing.bad)
        steps = track(listing.items, description="decoding images", transient=True, disable=not sys.stderr.isatty())
        for item in steps:
            try:
                pixels = decode_item(item, size)
            except DataError as error:
                bad.append(BadItem(item.name, str(error)))
                continue
            if fits:
                cache[len(items)] = pixels
            items.append(item)
        self.bad = tuple(bad)
        if skipped_path is not None:
            write_skipped(self.bad, skipped_path)
        check_share(self.bad, total, max_bad_share, listing.origin)
        self.items: Sequence[EncodedImage] = items
        self._pixels = torch.from_numpy(cache[: len(items)]) if fits else None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        item = self.items[index]
        if self._pixels is not None:
            pixels = self._pixels[index].clone()
        else:
            pixels = torch.from_numpy(decode_item(item, self.size))
        return Item(image=pixels, caption=item.caption, label=item.label)

    def split(self, held_out_share: float) -> tuple[Part[Item], Part[Item]]:
        """The training part and the held-out part, by a hash of the items' names; neither may be empty."""
        return split_by_name(self, [item.name for item in self.items], held_out_share)


def decode_item(item: EncodedImage, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """The pixels of an item; raises DataError with the reason it cannot be read."""
    try:
        return decode(item.read(), size)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None


class WithMirrored(Dataset[Item]):
    """A set of N items and their mirror images: item i, and item N + i mirrored left to right.

    The mirror image is an item of its own rather than a coin tossed at access: which version a step of the
    training sees is then part of the order of the data, and comes back exactly on resume (Karras et al. 2022
    enlarge data sets in the same way).
    """

    def __init__(self, plain: Dataset[Item]) -> None:
        self.plain = plain
        self._length = len(plain)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return 2 * self._length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        mirrored, index = divmod(index, self._length)
        item = self.plain[index]
        if not mirrored:
            return item
        return Item(image=item["image"].flip(-1), caption=item["caption"], label=item["label"])
