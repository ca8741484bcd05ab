"""The data module of `notes`: computed clips with captions, judged by exact rules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch.utils.data import Dataset

from framework.metrics.score import Score
from modalities.audio import notes_rules
from modalities.audio.data import AudioData, Verdicts
from modalities.audio.notes import HEADS, Item, Notes, heldout_prompts
from modalities.audio.waveforms import Waveforms

REFERENCE = 4096  # clips of held-out combinations to judge beside


class Kept(Dataset[Item]):
    """A set whose items are computed once, when first asked for: playing one takes as long as learning from it."""

    def __init__(self, items: Notes) -> None:
        self.items: Notes = items
        self._kept: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        if index not in self._kept:
            self._kept[index] = self.items[index]
        return self._kept[index]


class NotesData(AudioData):
    """`train_length` clips of the training combinations; prompts and reference are held-out combinations."""

    def __init__(
        self,
        preset: str = "single",
        rate: int = 8000,
        seconds: float = 1.024,
        train_length: int = 6_000,
        validation_length: int = 1_024,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        make = partial(Notes, preset, rate=rate, seconds=seconds, seed=seed)
        super().__init__(
            lambda: Kept(make("train", train_length)),
            lambda: Kept(make("validation", validation_length)),
            rate=rate,
            seconds=seconds,
            heads=HEADS,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.preset = preset
        self._held_out = make("heldout", REFERENCE)

    @property
    def judged(self) -> tuple[str, ...]:
        """A picture without level does not show loudness, and shifts of the pictures that it learns from hide pitch."""
        return ("timbre", "envelope")

    def prompts(self, n: int, seed: int) -> list[str]:
        """Captions: the classes of this set are there for its feature network."""
        return self.captions(n, seed)

    def captions(self, n: int, seed: int) -> list[str]:
        """`n` captions of held-out combinations."""
        return heldout_prompts(self.preset, n, seed)

    def probes(self, n: int, seed: int) -> list[str]:
        """Two voices for a set of one, and the reverse: held-out captions that the rules can judge all the same."""
        other = {"single": "double", "double": "single"}.get(self.preset)
        return [] if other is None else heldout_prompts(other, n, seed)

    def judge(self, waveforms: Waveforms, prompts: Sequence[Any]) -> Verdicts:
        """Verdicts on captions with one voice (`single`) and with two (`double`)."""
        return notes_rules.judge(waveforms, [str(prompt) for prompt in prompts])

    def scores(self, waveforms: Waveforms, prompts: Sequence[str]) -> dict[str, Score]:
        """The whole caption and each of its attributes, and how far the pitch is off."""
        return notes_rules.scores(waveforms, prompts)

    def reference_set(self) -> Notes:
        """Clips of held-out combinations."""
        return self._held_out
