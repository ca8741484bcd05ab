"""What a codec is: clips of sound as states of about unit scale, and states as clips.

    analyse:    waveform (B, T)  ->  features (B, L, C, F)          encode:  (features - mean) / std
    synthesise: features         ->  waveform (B, L hop)            decode:  its inverse, silent beyond each clip

Frames come first, L = ceil(T / hop): as many frames as blocks of `hop` samples, the last one filled up with silence.
What lies beyond a clip is silence too, so that a clip's frames do not depend on how far its batch is padded, and a clip
of n samples is decoded from its first ceil(n / hop) frames alone: what a masked state holds in the others is not read.

A codec is a value: plain settings, compared and hashed by them, at home on any device.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from framework.errors import UserError
from modalities.audio.waveforms import Waveforms

BATCH = 64  # clips that are analysed at a time for statistics


class Codec(ABC):
    """A way to write sound as frames of frequency bands; subclasses are frozen dataclasses of plain settings."""

    @property
    @abstractmethod
    def rate(self) -> int:
        """Samples a second, in Hz."""

    @property
    @abstractmethod
    def hop(self) -> int:
        """Samples from one frame to the next."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """C."""

    @property
    @abstractmethod
    def bands(self) -> int:
        """F."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """What `encode` takes away from the features."""

    @property
    @abstractmethod
    def std(self) -> float:
        """What `encode` divides them by."""

    @property
    @abstractmethod
    def frequencies(self) -> Float32[Tensor, " f"]:
        """The centre of each band, in Hz."""

    @abstractmethod
    def analyse(self, waveform: Float[Tensor, "b t"]) -> Float[Tensor, "b l c f"]:
        """Features before they are standardised."""

    @abstractmethod
    def synthesise(self, features: Float[Tensor, "b l c f"], length: Int64[Tensor, " b"]) -> Float[Tensor, "b t"]:
        """The waveform of such features, T = L hop, zero from each clip's length (in samples) on."""

    def frames(self, samples: int) -> int:
        """How many frames a clip of so many samples has."""
        return -(-samples // self.hop)

    def samples(self, frames: int) -> int:
        """The longest clip of so many frames."""
        return frames * self.hop

    def encode(self, waveform: Float[Tensor, "b t"]) -> Float32[Tensor, "b l c f"]:
        """Clips in [-1, 1] as states; frames beyond a clip's own are the caller's to mask."""
        return (self.analyse(waveform.float()) - self.mean) / self.std

    def posterior(
        self, waveform: Float[Tensor, "b t"]
    ) -> tuple[Float32[Tensor, "b l c f"], Float32[Tensor, "b l c f"] | None]:
        """What `encode` gives and its deviation, for codecs that are not certain of it; here there is none."""
        return self.encode(waveform), None

    def decode(self, x: Float[Tensor, "b l c f"], length: Int64[Tensor, " b"]) -> Float32[Tensor, "b t"]:
        """States as clips of `length` samples, padded with zeros to T = L hop; the same input gives the same clip.

        Raises:
            ValueError: states of other bands, or a clip longer than its frames.
        """
        if x.ndim != 4 or x.shape[2:] != (self.channels, self.bands) or length.shape != x.shape[:1]:
            raise ValueError(
                f"this codec decodes states (B, L, {self.channels}, {self.bands}) with lengths (B,), "
                f"got {tuple(x.shape)} and {tuple(length.shape)}"
            )
        if len(x) and int(length.max()) > self.samples(x.shape[1]):
            raise ValueError(
                f"a clip of {int(length.max())} samples needs {self.frames(int(length.max()))} frames, "
                f"the states have {x.shape[1]}"
            )
        return self.synthesise(x.float() * self.std + self.mean, length.to(x.device))

    @torch.no_grad()
    def statistics(self, waveforms: Waveforms) -> tuple[float, float]:
        """Mean and standard deviation of the features of real frames: what `mean` and `std` should be for such data.

        Raises:
            UserError: the clips have another rate, or no samples, or features that do not vary.
        """
        if waveforms.rate != self.rate:
            raise UserError(f"the codec reads clips of {self.rate} Hz, these have {waveforms.rate} Hz")
        count, total, squares = 0, 0.0, 0.0
        for start in range(0, len(waveforms), BATCH):
            part = waveforms[start : start + BATCH]
            features = self.analyse(part.samples)
            real = torch.arange(features.shape[1]) * self.hop < part.lengths[:, None]
            values = features[real].double()
            count += values.numel()
            total += float(values.sum())
            squares += float(values.square().sum())
        if not count:
            raise UserError("the codec's statistics need clips with samples")
        mean = total / count
        std = max(squares / count - mean**2, 0.0) ** 0.5
        if std < 1e-6:
            raise UserError("the codec's features do not vary over these clips: are they all silent?")
        return mean, std

    def settings(self) -> dict[str, Any]:
        """All settings, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """A hash of all settings: codecs of one fingerprint encode and decode alike."""
        numbers = {k: float(v) if isinstance(v, int | float) else v for k, v in self.settings().items()}
        text = json.dumps([type(self).__name__, numbers], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_scale(std: float) -> None:
    """Raise UserError for a standard deviation that cannot be one."""
    if not std > 0:
        raise UserError(f"the codec's std is a standard deviation, above zero; got {std}")
