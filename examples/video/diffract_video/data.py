"""The data module of clips: made ones, captioned.

Batches are `video` uint8 (B, T, 3, H, W) and `caption` list[str].
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from diffract_video.clips import HELD_OUT, TRAINED, Subject, draw
from framework.data.counter import uniforms
from framework.data.parts import turns
from framework.data.two_sets import TwoSets

GROUPS = {"held_out": HELD_OUT, "trained": TRAINED}


class Item(TypedDict):
    """A clip and its caption."""

    video: Tensor
    caption: str


class Reference(NamedTuple):
    """Real clips to hold samples against."""

    clips: UInt8[Tensor, "n t 3 h w"]
    captions: list[str]


class Clips(Dataset[Item]):
    """`count` clips of these subjects, each as likely."""

    def __init__(self, subjects: list[Subject], count: int, seed: int, stream: str, frames: int, size: int) -> None:
        chosen = (uniforms(seed, f"subjects/{stream}", np.arange(count), 1)[:, 0] * len(subjects)).astype(int)
        self.shown = [subjects[i] for i in chosen]
        self.clips = torch.from_numpy(draw(self.shown, np.arange(count), seed, stream, frames, size))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Item:
        return {"video": self.clips[index], "caption": str(self.shown[index])}


class MovingShapes(TwoSets[Item]):
    """Clips of one moving shape; of the 72 things that can be said some are never trained on.

    Validation shows the training captions in fresh clips; prompts and reference are held-out captions.

    Raises:
        ValueError: there are too few frames or pixels to tell what is shown, or very many.
    """

    def __init__(
        self,
        frames: int = 8,
        size: int = 16,
        train_length: int = 6000,
        validation_length: int = 256,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        if not 4 <= frames <= 64 or not 12 <= size <= 64:
            raise ValueError(f"clips have 4 to 64 frames of 12 to 64 pixels, not {frames} of {size}")
        super().__init__(
            lambda: Clips(TRAINED, train_length, seed, "train", frames, size),
            lambda: Clips(TRAINED, validation_length, seed, "validation", frames, size),
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.frames, self.size = frames, size

    def prompts(self, n: int, seed: int) -> list[str]:
        """Held-out captions in turn."""
        return self.captions("held_out", n, seed)

    def reference(self, n: int, seed: int) -> Reference:
        """`n` clips of held-out captions."""
        return self.real("held_out", n, seed)

    def captions(self, group: str, n: int, seed: int) -> list[str]:
        """`n` captions of one of GROUPS in turn."""
        subjects = GROUPS[group]
        return [str(subjects[i]) for i in turns(len(subjects), n, seed, f"{group} prompts")]

    def real(self, group: str, n: int, seed: int) -> Reference:
        """`n` fresh clips of one of GROUPS."""
        items = Clips(GROUPS[group], n, seed, f"{group} reference", self.frames, self.size)
        return Reference(items.clips, [str(subject) for subject in items.shown])
