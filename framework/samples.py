"""What comes out of sampling: the samples with what they cost, and the states on the way to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.ledger import Ledger
from framework.modality import Modality
from framework.state import Condition, State


@dataclass
class Samples:
    """What came out: samples in the modality's own form, for which prompts, and what they cost.

    `condition` is that of the last batch, with which the states that a hook kept of it are decoded, and `first` the
    index of the first sample.
    """

    samples: Any
    prompts: list[Any]
    seed: int
    ledger: Ledger
    modality: Modality = field(repr=False)
    condition: Condition = field(repr=False)
    first: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, metadata: Mapping[str, str] | None = None) -> list[dict[str, str]]:
        """What is to be told of each sample: its prompt, its seed and index, and what all share."""
        return [
            {"prompt": str(p), "seed": str(self.seed), "index": str(self.first + i), **(metadata or {})}
            for i, p in enumerate(self.prompts)
        ]

    def save(self, folder: str | Path, metadata: Mapping[str, str] | None = None) -> list[Path]:
        """Write them as the modality does; returns the files, the picture of all of them last."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        return self.modality.render(self.samples, self.prompts, Path(folder), self.rows(metadata))


class Trajectory:
    """A hook that keeps the clean prediction and the state after each step, on the CPU."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.cleans: list[State] = []
        self._step = -1

    def __call__(self, progress: Any) -> None:
        if progress.stage.step == self._step:
            self.states.pop()
            self.cleans.pop()
        self._step = progress.stage.step
        self.states.append(progress.x.cpu())
        self.cleans.append(progress.prediction.clean.cpu())
