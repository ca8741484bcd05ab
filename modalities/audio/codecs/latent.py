"""Latents of an autoencoder in place of another codec's frames: what latent diffusion of sound runs in.

    clips  --codec-->  frames (B, L, C, F)  --autoencoder-->  latents (B, L / s, c, F / s)      and back

A latent frame stands for s frames of the codec, so its hop is s times theirs. The autoencoder was trained on clips
under masks, so where a clip ends matters to it. In recordings the end is the last sample that is not zero, since only
padding is (`padded`); computed clips that fill the canvas and may end in silence have no padding to look for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from framework.build import MODEL_FOLDER, build
from framework.errors import UserError
from framework.latents import TrainedAutoencoder
from modalities.audio.codecs.codec import Codec, check_scale
from modalities.audio.waveforms import Waveforms


@dataclass(frozen=True)
class Latent(Codec):
    """Standardised latents.

    Args:
        autoencoder: of frames of `codec`.
        codec: None: the one that the autoencoder was trained on.
        rate: Hz; None: the codec's.
        mean, std: on top of the latents' own standardisation.
        padded: whether zeros at the end of a clip are padding.

    Raises:
        UserError: the autoencoder was trained on pictures of other channels, on another codec, or at another rate.
    """

    autoencoder: TrainedAutoencoder
    codec: Codec | None = None
    rate: int | None = None  # type: ignore[assignment]
    mean: float = 0.0
    std: float = 1.0
    padded: bool = True

    def __post_init__(self) -> None:
        check_scale(self.std)
        trained = self.autoencoder.config["modality"].get("codec")
        if self.codec is None and trained is None:
            raise UserError(f"{self.autoencoder.path} holds an autoencoder of something else than a codec's frames")
        inner = build(trained, MODEL_FOLDER) if trained is not None else None
        if inner is None or (self.codec is not None and self.codec.fingerprint() != inner.fingerprint()):
            raise UserError(
                f"the autoencoder of {self.autoencoder.path} was trained on frames of {inner}, not of {self.codec}; "
                "leave codec open"
            )
        if self.rate is not None and self.rate != inner.rate:
            raise UserError(f"the autoencoder was trained at {inner.rate} Hz, and clips of {self.rate} Hz are given")
        object.__setattr__(self, "rate", inner.rate)
        object.__setattr__(self, "codec", inner)

    @property
    def frames_codec(self) -> Codec:
        """What the autoencoder's frames are written in."""
        assert self.codec is not None  # from __post_init__ on
        return self.codec

    @property
    def stride(self) -> int:
        """s: frames of the codec to a latent frame, and bands to a latent band."""
        return self.autoencoder.network.stride

    @property
    def hop(self) -> int:
        return self.frames_codec.hop * self.stride

    @property
    def channels(self) -> int:
        return self.autoencoder.network.latent_channels

    @property
    def bands(self) -> int:
        return -(-self.frames_codec.bands // self.stride)

    @cached_property
    def frequencies(self) -> Float32[Tensor, " f"]:  # type: ignore[override]
        """The mean over the bands that a latent band stands for, in Hz."""
        return torch.stack([part.mean() for part in self.frames_codec.frequencies.split(self.stride)])

    def settings(self) -> dict[str, Any]:
        parts = {"autoencoder": self.autoencoder.identity, "codec": self.frames_codec.fingerprint()}
        return {**super().settings(), **parts}

    def statistics(self, waveforms: Waveforms) -> tuple[float, float]:
        """0 and 1: the autoencoder knows its latents' statistics, a channel at a time."""
        return 0.0, 1.0

    def analyse(self, waveform: Float[Tensor, "b t"]) -> Float[Tensor, "b l c f"]:
        return self._posterior(waveform)[0]

    def posterior(
        self, waveform: Float[Tensor, "b t"]
    ) -> tuple[Float32[Tensor, "b l c f"], Float32[Tensor, "b l c f"] | None]:
        mean, deviation = self._posterior(waveform.float())
        return (mean - self.mean) / self.std, deviation / self.std

    def _posterior(self, waveform: Float[Tensor, "b t"]) -> tuple[Float[Tensor, "b l c f"], Float[Tensor, "b l c f"]]:
        """Mean and deviation of the latents, frames first."""
        codec, samples = self.frames_codec, waveform.shape[1]
        frames = codec.encode(waveform)
        length = torch.full((len(waveform),), samples, device=waveform.device)
        if self.padded:  # the number of samples up to the last that is not zero
            length = (torch.arange(1, samples + 1, device=waveform.device) * (waveform != 0)).amax(1).clamp(min=1)
        mean, deviation = self.autoencoder.posterior(frames.transpose(1, 2), self._real(length, codec.hop, frames))
        return mean.transpose(1, 2), deviation.transpose(1, 2)

    def synthesise(self, features: Float[Tensor, "b l c f"], length: Int64[Tensor, " b"]) -> Float[Tensor, "b t"]:
        codec = self.frames_codec
        mask = self._real(length, self.hop, features)
        size = (features.shape[1] * self.stride, codec.bands)
        frames = self.autoencoder.decode(features.transpose(1, 2), mask, size).transpose(1, 2)
        return codec.decode(frames, length)

    @staticmethod
    def _real(length: Tensor, hop: int, frames: Float[Tensor, "b l c f"]) -> Bool[Tensor, "b 1 l f"]:
        """Which frames a clip has, as a mask of pictures."""
        real = torch.arange(frames.shape[1], device=frames.device) * hop < length.to(frames.device)[:, None]
        return real[:, None, :, None].expand(-1, 1, -1, frames.shape[3])
