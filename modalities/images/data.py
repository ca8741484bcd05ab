"""The data modules of images: a training set, a validation set, prompts and real images to judge on.

Making a data module costs nothing; `setup` draws, reads or decodes, once. `ImageData` takes any two data sets
(or what makes them); the concrete modules are made from plain values, as a configuration gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from framework.data.bad_items import BadItem
from framework.data.parts import turns
from framework.data.two_sets import TwoSets
from modalities.images.digits import DIGIT_NAMES, Digits
from modalities.images.image_set import ImageSet, WithMirrored
from modalities.images.scenes import USUAL, find_preset, parse, words
from modalities.images.shapes import KINDS, Item, Shapes, check_size, heldout_prompts
from modalities.images.shapes_rules import caption_accuracy
from modalities.images.sources import Listing, list_hub, list_path

Verdicts = Mapping[str, Mapping[str, np.ndarray]]
Source = Dataset[Item] | Callable[[], Dataset[Item]]


class Reference(NamedTuple):
    """Real images to compare generated ones with."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    captions: list[str]


class ImageData(TwoSets[Item]):
    """Batches of `image` uint8 (B, C, H, W), `caption` list[str] and `label` int64 (B,) from two data sets.

    `train` and `validation` are data sets, or functions without arguments that make them in `setup`. Batches
    come in an order that is a function of the seed and the step. `train_set` and `validation_set` exist after
    `setup`.
    """

    def __init__(
        self,
        train: Source,
        validation: Source,
        *,
        size: int,
        channels: int = 3,
        class_names: Sequence[str] = (),
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(train, validation, batch_size=batch_size, num_workers=num_workers, seed=seed)
        self._class_names = tuple(class_names)
        self.size, self.channels = size, channels

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels 0, 1, ... mean; empty for a set without classes."""
        return self._class_names

    def prompts(self, n: int, seed: int) -> list[str] | list[int]:
        """`n` prompts to judge on, chosen by the seed: classes if the data have them, else held-out captions."""
        return self.classes(n, seed) if self.class_names else self.captions(n, seed)

    def classes(self, n: int, seed: int) -> list[int]:
        """`n` classes in equal numbers, in an order of the seed's."""
        return [int(label) for label in turns(len(self.class_names), n, seed, "prompts")]

    def captions(self, n: int, seed: int) -> list[str]:
        """`n` captions of images that were not trained on, chosen by the seed."""
        items = self.reference_set()
        return [items[int(i)]["caption"] for i in turns(_length(items), n, seed, "prompts")]

    def probes(self, n: int, seed: int) -> list[str]:
        """`n` prompts for what the data do not show, to see how far a model goes beyond them; none by default.

        The first of many probes are those of few.
        """
        return []

    def judge(self, images: UInt8[Tensor, "n c h w"], prompts: Sequence[str | int]) -> Verdicts:
        """0/1 verdicts on images by exact rules, for each group of prompts and attribute; none by default."""
        return {}

    def reference(self, n: int, seed: int) -> Reference:
        """`n` different real images that were not trained on, chosen by the seed; all if there are fewer."""
        items = self.reference_set()
        return gather(items, turns(_length(items), min(n, _length(items)), seed, "reference"))


def gather(items: Dataset[Item], indices: Sequence[int] | np.ndarray) -> Reference:
    """Some items of a set as one batch."""
    chosen = [items[int(index)] for index in indices]
    return Reference(
        torch.stack([item["image"] for item in chosen]),
        torch.tensor([item["label"] for item in chosen]),
        [item["caption"] for item in chosen],
    )


def _length(items: Dataset[Item]) -> int:
    return len(items)  # type: ignore[arg-type]


class ShapesData(ImageData):
    """The drawn set of coloured shapes; see `shapes`. `size` None: the preset's own canvas.

    `colours` and `shapes` are what objects have; None: the four colours and three shapes of the set, which has others
    to be learnt later (teal, diamond).

    Validation shows the training combinations in fresh pictures; prompts and reference are held-out
    combinations.
    """

    def __init__(
        self,
        preset: str = "single",
        size: int | None = None,
        train_length: int = 20_000,
        validation_length: int = 1_024,
        dropout: float = 0.0,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        colours: Sequence[str] | None = None,
        shapes: Sequence[str] | None = None,
    ) -> None:
        canvas = check_size(find_preset(preset), size)
        shown = words(colours, shapes)
        make = partial(Shapes, preset, size=canvas, seed=seed, shown=shown)
        super().__init__(
            partial(make, "train", train_length, dropout=dropout),
            partial(make, "validation", validation_length, dropout=dropout),
            size=canvas,
            class_names=KINDS if preset == "single" and shown == USUAL else (),
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.preset, self.shown = preset, shown

    def prompts(self, n: int, seed: int) -> list[str] | list[int]:
        """Captions: the classes of this set are there for its feature network."""
        return self.captions(n, seed)

    def captions(self, n: int, seed: int) -> list[str]:
        """`n` captions of held-out combinations."""
        return heldout_prompts(self.preset, n, seed, self.shown)

    def probes(self, n: int, seed: int) -> list[str]:
        """Two objects for a set of one, and the reverse: held-out captions that the rules can judge all the same."""
        other = {"single": "double", "double": "single"}.get(self.preset)
        return [] if other is None else heldout_prompts(other, n, seed, self.shown)

    def judge(self, images: UInt8[Tensor, "n c h w"], prompts: Sequence[str | int]) -> Verdicts:
        """Verdicts on the captions with one object (`single`) and with two (`double`)."""
        counts = np.array([len(parse(str(prompt)).things) for prompt in prompts])
        groups = {"single": np.flatnonzero(counts == 1), "double": np.flatnonzero(counts == 2)}
        return {
            name: caption_accuracy(images[torch.from_numpy(rows)], [str(prompts[int(row)]) for row in rows])
            for name, rows in groups.items()
        }

    def reference(self, n: int, seed: int) -> Reference:
        """`n` pictures of held-out combinations, drawn for the seed."""
        return gather(Shapes(self.preset, "heldout", n, self.size, seed, shown=self.shown), range(n))


class DigitsData(ImageData):
    """scikit-learn's handwritten digits, one channel; validation and reference are the held-out fifth."""

    def __init__(self, size: int = 16, batch_size: int = 64, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__(
            partial(Digits, "train", size, seed),
            partial(Digits, "heldout", size, seed),
            size=size,
            channels=1,
            class_names=DIGIT_NAMES,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )


class ListedData(ImageData):
    """Real images from a listing (see `sources`), split by a hash of their names.

    `mirror` adds the mirror images to the training part; `skipped_path` is where the table of bad items goes.
    """

    def __init__(
        self,
        listing: Callable[[], Listing],
        *,
        size: int,
        mirror: bool,
        held_out_share: float,
        max_bad_share: float,
        skipped_path: str | None,
        batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__(
            self._training_part,
            self._held_out_part,
            size=size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self._list = listing
        self.mirror, self.held_out_share = mirror, held_out_share
        self.max_bad_share, self.skipped_path = max_bad_share, skipped_path
        self._images: ImageSet | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels mean, as the data say; reads them at the first call."""
        return self.images.class_names

    @property
    def bad_items(self) -> tuple[BadItem, ...]:
        """The items that were skipped, and why."""
        return self.images.bad

    @property
    def images(self) -> ImageSet:
        """All good items, decoded at the first call."""
        if self._images is None:
            self._images = ImageSet(self._list(), self.size, self.max_bad_share, self.skipped_path)
        return self._images

    def _training_part(self) -> Dataset[Item]:
        part = self.images.split(self.held_out_share)[0]
        return WithMirrored(part) if self.mirror else part

    def _held_out_part(self) -> Dataset[Item]:
        return self.images.split(self.held_out_share)[1]


class Cifar10Data(ListedData):
    """CIFAR-10, or any set laid out like it.

    From `path` (a Parquet file, a folder of them, or a folder of images); without one, by the `name` of a
    Hugging Face data set.
    """

    def __init__(
        self,
        path: str | None = None,
        name: str = "uoft-cs/cifar10",
        size: int = 32,
        mirror: bool = True,
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(list_hub, name) if path is None else partial(list_path, path),
            size=size,
            mirror=mirror,
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.path = path


class ImageFolderData(ListedData):
    """A folder of images: subfolders are classes, captions are in metadata.csv, metadata.jsonl or <name>.txt.

    Mirror images are off unless asked for: captions may say left and right.
    """

    def __init__(
        self,
        path: str,
        size: int = 32,
        mirror: bool = False,
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(list_path, path),
            size=size,
            mirror=mirror,
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.path = path
