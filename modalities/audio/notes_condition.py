"""Captions of notes as what they say: pitches, timbre, envelope and loudness, each a label.

The little language of `notes_captions` has an exact parser, so that a network need not learn to read before it learns
to play; combinations that it never saw are new sums of embeddings that it knows. `modality=audio/text` has it learn the
words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tensordict import TensorDict

from framework.conditions import Fields
from framework.errors import PromptError
from modalities.audio.notes_captions import ENVELOPES, LOUDNESSES, PITCHES, TIMBRES, note_name, parse_caption

NO_VOICE = "none"
NAMES = tuple(map(note_name, PITCHES))


class Notation:
    """A condition with the keys pitch, second (of a second voice, or that there is none), timbre, envelope, loudness.

    Each is int64 (B,); the index after the last of its classes means "not said".
    """

    def __init__(self) -> None:
        self.fields = Fields({
            "pitch": NAMES,
            "second": (NO_VOICE, *NAMES),
            "timbre": TIMBRES,
            "envelope": ENVELOPES,
            "loudness": LOUDNESSES,
        })  # fmt: skip

    def encode(self, batch: Mapping[str, Any]) -> TensorDict:
        return self.parse(batch["caption"])

    def parse(self, prompts: Sequence[Any]) -> TensorDict:
        """Raises PromptError for what is no caption of notes, naming the nearest word that is."""
        return self.fields.parse([self._said(prompt) for prompt in prompts])

    def null(self, condition: TensorDict) -> TensorDict:
        return self.fields.null(condition)

    def _said(self, prompt: Any) -> dict[str, str]:
        if not isinstance(prompt, str):
            raise PromptError(f"the prompt {prompt!r} is no text; describe a note, as in 'a short bright C4'")
        if not prompt.strip():
            return {}
        piece = parse_caption(prompt)
        pitches = [note_name(pitch) for pitch in piece.pitches] + [NO_VOICE]
        said = {"pitch": pitches[0], "second": pitches[1]}
        others = {"timbre": piece.timbre, "envelope": piece.envelope, "loudness": piece.loudness}
        return said | {name: word for name, word in others.items() if word is not None}
