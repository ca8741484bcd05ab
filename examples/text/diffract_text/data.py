"""The data modules of text: a made language, and lines of a file of one's own.

Batches are `tokens` int64 (B, L), zeros behind the end, `size` int64 (B,), and `text` list[str].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from diffract_text.grammar import judge, operands, sentences
from diffract_text.units import BLANK, OTHER, Units
from framework.data.parts import Part, split_by_name, turns
from framework.data.two_sets import TwoSets
from framework.errors import DataError


class Item(TypedDict):
    """A text, its units as tokens, and how many there are."""

    tokens: Tensor
    size: int
    text: str


class Texts(Dataset[Item]):
    """Texts of at most `length` units; what the vocabulary has not is OTHER."""

    def __init__(self, texts: Sequence[str], units: Units, length: int) -> None:
        self.texts, self.units, self.length = list(texts), units, length

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Item:
        return self.item(self.texts[index])

    def item(self, text: str) -> Item:
        """Any text as an item."""
        tokens = self.units.tokens(text)
        padded = torch.zeros(self.length, dtype=torch.int64)
        padded[: len(tokens)] = torch.tensor(tokens)
        return {"tokens": padded, "size": len(tokens), "text": text}


class TextData(TwoSets[Item]):
    """Texts, of which those are held out whose hash says so.

    Args:
        separator: what stands between units: " " for words, "" for characters.
        vocabulary: the most units that are told apart; rarer ones are OTHER.
        held_out_share: of the texts.
        train_length, validation_length: the most texts of either part; None is all.
    """

    def __init__(
        self,
        separator: str = " ",
        vocabulary: int = 4096,
        held_out_share: float = 0.1,
        train_length: int | None = None,
        validation_length: int | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            lambda: self._split()[0],
            lambda: self._split()[1],
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.separator, self.vocabulary, self.held_out_share = separator, vocabulary, held_out_share
        self.most = train_length, validation_length
        self._parts: tuple[Part[Item], Part[Item]] | None = None

    def texts(self) -> list[str]:
        """All texts, none of them empty."""
        raise NotImplementedError(f"{type(self).__name__} must say which texts there are")

    @property
    def entropy(self) -> float | None:
        """Nats of a text, where that is known: the least that a model can be surprised by."""
        return None

    def judge(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Verdicts on texts by exact rules, bool (N,) each by a name; none where there are no rules."""
        return {}

    def infills(self, n: int, seed: int) -> list[str]:
        """Up to `n` held-out texts with a part left blank that the rest determines; none where that is not known."""
        return []

    def prompts(self, n: int, seed: int) -> list[str]:
        """Nothing is said."""
        return [""] * n

    def reference(self, n: int, seed: int) -> list[str]:
        """`n` different texts that were not trained on, chosen by the seed; all if there are fewer."""
        held_out = self._split()[1]
        return [
            self.all.texts[int(held_out.indices[i])]
            for i in turns(len(held_out), min(n, len(held_out)), seed, "reference")
        ]

    def trained_on(self) -> set[str]:
        """The texts of the training part."""
        return {self.all.texts[int(i)] for i in self._split()[0].indices}

    def sizes(self) -> np.ndarray:
        """How many texts of the training part have 0, 1, 2, ... units."""
        counts = [len(self.all.units.split(self.all.texts[int(i)])) for i in self._split()[0].indices]
        return np.bincount(counts, minlength=self.all.length + 1)

    @property
    def all(self) -> Texts:
        """All texts, held out or not."""
        return self._split()[0].whole  # type: ignore[return-value]

    def _split(self) -> tuple[Part[Item], Part[Item]]:
        if self._parts is None:
            texts = self.texts()
            split = [Units(self.separator).split(text) for text in texts]
            counts = Counter(unit for units in split for unit in units)
            common = sorted(counts, key=lambda unit: (-counts[unit], unit))
            known = common if len(common) <= self.vocabulary else [OTHER, *common[: self.vocabulary - 1]]
            items = Texts(texts, Units(self.separator, tuple(known)), max(map(len, split)))
            parts = split_by_name(items, texts, self.held_out_share)
            train, held_out = (self._some(part, most) for part, most in zip(parts, self.most, strict=True))
            self._parts = train, held_out
        return self._parts

    def _some(self, part: Part[Item], most: int | None) -> Part[Item]:
        few = turns(len(part), len(part) if most is None else min(most, len(part)), self.seed, "parts")
        return Part(part.whole, part.indices[few])


class SumsData(TextData):
    """All true sentences of the made language about the numbers up to `largest`."""

    def __init__(
        self,
        largest: int = 20,
        separator: str = " ",
        held_out_share: float = 0.1,
        train_length: int | None = None,
        validation_length: int | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            separator,
            held_out_share=held_out_share,
            train_length=train_length,
            validation_length=validation_length,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.largest = largest

    def texts(self) -> list[str]:
        return sentences(self.largest)

    @property
    def entropy(self) -> float:
        return float(np.log(len(self.all)))

    def judge(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        verdicts = np.array([judge(text) for text in texts], dtype=bool).reshape(-1, 2)
        return {"true": verdicts[:, 1], "grammatical": verdicts[:, 0]}

    def infills(self, n: int, seed: int) -> list[str]:
        """Held-out sums with one of their three numbers left blank, each of them in turn."""
        units = Units(self.separator)
        sums = [text for text in self.reference(len(self._split()[1]), seed) if operands(text)]
        return [_blanked(text, place, units) for place in range(3) for text in sums][:n]


def _blanked(text: str, place: int, units: Units) -> str:
    numbers = operands(text)
    begin = [0, len(numbers[0]) + len(" plus "), len(text) - len(numbers[2])][place]
    begin += place == 1 and " minus " in text
    end = begin + len(numbers[place])
    blanks = units.join([BLANK] * len(units.split(numbers[place])))
    return text[:begin] + blanks + text[end:]


class LinesData(TextData):
    """The lines of the text file `path`; longer ones than `length` units are cut into pieces."""

    def __init__(
        self,
        path: str,
        length: int = 64,
        separator: str = " ",
        vocabulary: int = 4096,
        held_out_share: float = 0.1,
        train_length: int | None = None,
        validation_length: int | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            separator, vocabulary, held_out_share, train_length, validation_length, batch_size, num_workers, seed
        )
        self.path, self.length = Path(path), length

    def texts(self) -> list[str]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"data.path={self.path} cannot be read as text in UTF-8: {error}") from error
        units = Units(self.separator)
        split = [units.split(line.strip()) for line in lines]
        pieces = [row[i : i + self.length] for row in split for i in range(0, len(row), self.length)]
        if not pieces:
            raise DataError(f"data.path={self.path} has no text in it; write one a line")
        return [units.join(piece) for piece in pieces]
