"""The part of the plugin contract by which samples of a person's own are edited; every method has a default.

file   --read-->    a batch of one for `encode`
words  --region-->  part of its states, to be kept or made anew
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from framework.errors import UserError
from framework.state import Condition, State, map_state

if TYPE_CHECKING:
    from framework.editing.known import Given
    from framework.editing.observed import Operator
    from framework.editing.task import Task


class Editable:
    """How samples that are there already are read, and which part of them is meant.

    Attributes:
        name: a word.
    """

    name: ClassVar[str]

    def read(self, path: Path) -> Mapping[str, Any]:
        """A file of the field as a batch of one for `encode`, which says nothing of what guidance may drop.

        Raises:
            UserError: this modality reads no files.
            DataError: the file cannot be read, or is not of this field.
        """
        raise UserError(f"{self.name} cannot be edited: this modality reads no files")

    def region(self, text: str, state: State, condition: Condition) -> State:
        """Which part of encoded states a person's words name: bool, of a shape that broadcasts to the state's.

        The words are the modality's own, as "time=0.2-0.6" or "x=0-0.5". No words name all that is real. Of a
        TensorDict state it is a TensorDict, in which a component that no word is about may be missing.

        Raises:
            UserError: this modality knows no regions, or not this one; the message says which it knows.
        """
        if not text.strip():
            return map_state(lambda part: torch.ones_like(part, dtype=torch.bool), state)
        raise UserError(f"{self.name} knows no regions, so that no part can be named, as in {text!r}")

    def touched(self, text: str, state: State, condition: Condition) -> State:
        """As `region`, with all that the words so much as touch, where an element of a state stands for several of a
        sample: what goes when the region is made anew. Here the region itself.
        """
        return self.region(text, state, condition)

    def pasted(self, samples: Any, original: Mapping[str, Any], keep: str | None, redo: str | None) -> Any:
        """Decoded samples with the region `keep` of `original` (as `read` gave it), or all of it but the region `redo`,
        exactly as it was, beyond what states keep. Here they are as states have them.
        """
        return samples

    def resized(self, condition: Condition, like: Condition) -> Condition:
        """`condition` with what says how large states are (masks, sizes, lengths) from `like`; its words stay.

        An edited sample has the size of the one that was given. Both have B rows. `condition` itself is right where all
        states are of one size.
        """
        return condition

    def given(self, prompts: Sequence[Any], condition: Condition) -> Given | None:
        """What complete prompts fix of the samples' own states, beside the condition; None where they fix nothing.

        Raises:
            PromptError: it is nothing that a sample can have.
        """
        return None

    def restored(self, samples: Any, prompts: Sequence[Any]) -> Any:
        """Decoded samples of such prompts, with what was fixed exactly as it was given, beyond what a state keeps."""
        return samples

    def observed(self, path: Path, text: str) -> tuple[Operator, Tensor]:
        """What a file shows of a sample, by the measurement that the words name: the operator A, and y (1, ...) = A x
        of the clean state x.

        Raises:
            UserError: this modality knows no measurements, or not this one; the message says which it knows.
            DataError: the file cannot be read.
        """
        raise UserError(f"{self.name} cannot be restored: this modality knows no measurements, as in {text!r}")

    def windows(self, overlap: float) -> Task:
        """What samples longer states than the network was trained on, in windows that share `overlap` (0 to 1).

        Raises:
            UserError: states have one size.
        """
        raise UserError(f"{self.name} of any length cannot be sampled: states of this modality have one size")
