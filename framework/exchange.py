"""The part of the plugin contract that is about files of others: metadata, watermarks, models of other software.

Every method has a default, which knows of none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from framework.errors import UserError


class Exchanged:
    """What a modality writes for others to read, and reads of what others wrote.

    Attributes:
        name: a word.
    """

    name: ClassVar[str]

    @classmethod
    def told(cls, path: Path) -> Mapping[str, str] | None:
        """The metadata that `render` wrote into a file of a single sample; None where it is not of this field."""
        return None

    def marked(self, samples: Any, text: str) -> Any:
        """Decoded samples with an invisible watermark of which `text` is the key.

        Raises:
            UserError: this modality has none.
        """
        raise UserError(f"{self.name} cannot be watermarked")

    @classmethod
    def detected(cls, path: Path, text: str) -> float | None:
        """The probability that a file without the watermark `text` looks as much as if it had it as this one does; None
        where the file is not of this field.
        """
        return None

    @classmethod
    def foreign(cls, folder: Path) -> Any | None:
        """The `Model` in a folder that other software wrote, if it is one of this modality's field; None where not.

        Raises:
            UserError: it is one, but cannot be read.
        """
        return None

    def export(self, model: Any, folder: Path) -> list[Path]:
        """Write a `Model` of this modality as other software of its field reads it; returns the files.

        Raises:
            UserError: it cannot be said there; what can is named.
        """
        raise UserError(f"{self.name} models are not written in the form of other software")

    def dataset(
        self, samples: Any, prompts: Sequence[Any], folder: Path, metadata: Sequence[Mapping[str, str]]
    ) -> list[Path]:
        """Write samples as a labelled data set, as `data.path=` reads one of this field; returns the files.

        The folder is there, and holds nothing but these files in the end. The arguments are those of `render`.

        Raises:
            UserError: this modality writes none.
        """
        raise UserError(f"{self.name} samples are not written as a data set; leave out dataset=true")
