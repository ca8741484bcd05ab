"""`digits`: the 1,797 handwritten digits of scikit-learn, 8x8 in 17 greys, resized to 16x16 (bicubic).

The set is the test part of NIST's optical recognition of handwritten digits (Alpaydin and Kaynak, UCI, 1998):
label 0 to 9, caption "the digit seven", one channel. A fifth is held out, stratified by label, as a function
of the seed.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from modalities.images.shapes import Item

DIGIT_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HELD_OUT_SHARE = 0.2
SPLITS = ("train", "heldout")


class Digits(Dataset[Item]):
    """Handwritten digits as uint8 pixels (1, size, size); splits `train` (1,437) and `heldout` (360)."""

    def __init__(self, split: str = "train", size: int = 16, seed: int = 0) -> None:
        # Imported here: scikit-learn takes a second to load, and only this set needs it.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r} of digits; valid: {', '.join(SPLITS)}")
        strokes, labels = load_digits(return_X_y=True)
        parts = train_test_split(np.arange(len(labels)), test_size=HELD_OUT_SHARE, random_state=seed, stratify=labels)
        chosen = np.sort(parts[SPLITS.index(split)])
        self.size = size
        self.labels = labels[chosen]
        self.images = torch.from_numpy(
            np.stack([_resize(stroke.reshape(8, 8), size)[None] for stroke in strokes[chosen]])
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        label = int(self.labels[index])
        return Item(image=self.images[index].clone(), caption=f"the digit {DIGIT_NAMES[label]}", label=label)


def _resize(strokes: np.ndarray, size: int) -> np.ndarray:
    """Greys 0..16 to 0..255 at `size` pixels; bicubic overshoot is clipped."""
    picture = Image.fromarray((strokes * (255 / 16)).astype(np.float32))
    picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.clip(np.rint(np.asarray(picture)), 0, 255).astype(np.uint8)
