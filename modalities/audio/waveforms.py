"""Clips of sound: samples in [-1, 1] with their lengths and their rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Waveforms:
    """B clips of one channel.

    Attributes:
        samples: float32 (B, T) on the CPU, zero beyond each clip's length.
        lengths: int64 (B,), in samples.
        rate: samples a second, in Hz.

    Raises:
        ValueError: shapes that do not go together, or a length beyond T.
    """

    samples: Tensor
    lengths: Tensor
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.lengths.shape != self.samples.shape[:1]:
            raise ValueError(
                f"clips are samples (B, T) with lengths (B,), got {tuple(self.samples.shape)} "
                f"and {tuple(self.lengths.shape)}"
            )
        if len(self.lengths) and int(self.lengths.max()) > self.samples.shape[1]:
            raise ValueError(f"a clip of {int(self.lengths.max())} samples among {self.samples.shape[1]}")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, rows: int | slice | Tensor) -> Waveforms:
        rows = slice(rows, rows + 1) if isinstance(rows, int) and rows >= 0 else rows
        rows = [rows] if isinstance(rows, int) else rows  # type: ignore[assignment]
        return Waveforms(self.samples[rows], self.lengths[rows], self.rate)

    def __iter__(self) -> Iterator[Tensor]:
        return (self.clip(i) for i in range(len(self)))

    def clip(self, i: int) -> Tensor:
        """The real samples of one clip, (length,)."""
        return self.samples[i, : int(self.lengths[i])]

    @property
    def seconds(self) -> Tensor:
        """How long each clip is, float64 (B,)."""
        return self.lengths.double() / self.rate

    @classmethod
    def of(cls, clips: Sequence[Tensor], rate: int) -> Waveforms:
        """Clips of any lengths (n,), padded to the longest."""
        lengths = torch.tensor([len(clip) for clip in clips], dtype=torch.int64)
        return cls(torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True).float(), lengths, rate)

    @classmethod
    def join(cls, parts: Sequence[Waveforms]) -> Waveforms:
        """Several batches as one.

        Raises:
            ValueError: they differ in rate.
        """
        if len({part.rate for part in parts}) != 1:
            raise ValueError(f"clips of different rates cannot be joined: {sorted({part.rate for part in parts})} Hz")
        return cls.of([clip for part in parts for clip in part], parts[0].rate)
