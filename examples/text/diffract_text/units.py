"""What a text is made of: words, or characters, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

BLANK, OTHER = "_", "<other>"


@dataclass(frozen=True)
class Units:
    """Words between separators, or the characters of a text where the separator is "".

    Attributes:
        separator: what stands between units.
        known: the vocabulary; token i is known[i].
    """

    separator: str = " "
    known: tuple[str, ...] = ()

    def split(self, text: str) -> list[str]:
        return [unit for unit in text.split(self.separator) if unit] if self.separator else list(text)

    def join(self, units: Sequence[str]) -> str:
        return self.separator.join(units)

    @cached_property
    def index(self) -> dict[str, int]:
        """The token of each unit."""
        return {unit: i for i, unit in enumerate(self.known)}

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text; a unit that is not known is OTHER, if that is one.

        Raises:
            KeyError: a unit is not known, and there is no OTHER.
        """
        other = self.index.get(OTHER)
        return [self.index.get(unit, other) if other is not None else self.index[unit] for unit in self.split(text)]

    def text(self, tokens: Sequence[int]) -> str:
        """The way back; a token that is no unit, as a mask, is a BLANK."""
        return self.join([self.known[token] if token < len(self.known) else BLANK for token in tokens])
