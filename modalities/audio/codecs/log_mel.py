"""The logarithmic mel spectrogram as a codec: what small models learn best.

    level = 20 log10(max(A |X|, floor) / reference)   in dB,      feature = 1 + 2 level / floor_db   in [-1, 1]

The reference is fixed: a sine of full scale reads at most 0 dB, whatever the clip holds, so that loudness survives.
Phases are lost; the way back estimates magnitudes (filterbank.py), then phases (griffin_lim.py), or hands the mel
spectrogram to a vocoder that was trained for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import conv1d, pad

from framework.errors import UserError
from modalities.audio.codecs.codec import Codec, check_scale
from modalities.audio.codecs.filterbank import MelProfile, magnitudes
from modalities.audio.codecs.griffin_lim import griffin_lim
from modalities.audio.codecs.stft import Framing, check_cover, hann
from modalities.audio.codecs.vocoders import Vocoder, check_profile

HEADROOM_DB = 20.0  # above full scale; what a model puts there is no sound, and powers of ten overflow


@dataclass(frozen=True)
class LogMel(Codec):
    """Levels of mel bands as one channel.

    Frame l lies in the middle of the l-th block of `hop` samples, silence on both sides, unless `lead` says otherwise:
    8192 samples at hop 128 are 64 frames.

    Args:
        rate: Hz. n_fft: samples a frame (Hann). hop: at most n_fft / 2. bands: how many.
        floor_db: levels below -floor_db are taken for it.
        low, high: the filters' outer edges in Hz; None: half the rate. scale, norm, lead: see MelProfile; lead None:
            (n_fft - hop) / 2.
        mean, std: of the features; the defaults are those of speech at 8 kHz with a peak of 0.95.
        iterations, momentum: of Griffin-Lim.
        vocoder: in place of Griffin-Lim.

    Raises:
        UserError: settings that cannot be met, bands that the filters do not tell apart, or a vocoder of another mel.
    """

    rate: int = 8000
    n_fft: int = 512
    hop: int = 128
    bands: int = 64
    floor_db: float = 80.0
    low: float = 0.0
    high: float | None = None
    scale: str = "slaney"
    norm: str | None = "slaney"
    lead: int | None = None
    mean: float = -0.3
    std: float = 0.38
    iterations: int = 32
    momentum: float = 0.99
    vocoder: Vocoder | None = None

    def __post_init__(self) -> None:
        if self.n_fft % 2 or not self.floor_db > 0:
            raise UserError(f"n_fft is even and floor_db above zero; got {self.n_fft} and {self.floor_db}")
        if self.iterations < 0 or not 0 <= self.momentum < 1:
            raise UserError(
                f"Griffin-Lim needs iterations >= 0 and momentum in [0, 1); got {self.iterations} and {self.momentum}"
            )
        check_scale(self.std)
        check_cover(self.framing, hann(self.n_fft, torch.device("cpu")))
        self.profile.check()
        if self.vocoder is not None:
            check_profile(self.profile, self.vocoder)

    @cached_property
    def profile(self) -> MelProfile:
        """What the numbers mean, with nothing left open."""
        high = self.rate / 2 if self.high is None else float(self.high)
        lead = (self.n_fft - self.hop) // 2 if self.lead is None else self.lead
        return MelProfile(
            self.rate, self.n_fft, self.hop, self.bands, float(self.low), high, self.scale, self.norm, lead
        )

    @cached_property
    def framing(self) -> Framing:
        """Where the frames lie."""
        return Framing(self.n_fft, self.hop, self.profile.lead)

    @cached_property
    def reference(self) -> float:
        """The highest reading of a sine of full scale; a Hann window spreads it over three bins."""
        lobe = torch.tensor([[[0.5, 1.0, 0.5]]]) * float(hann(self.n_fft, torch.device("cpu")).sum()) / 2
        return float(conv1d(self.profile.filters()[:, None], lobe, padding=1).max())

    @property
    def channels(self) -> int:
        return 1

    @property
    def frequencies(self) -> Float32[Tensor, " f"]:
        return self.profile.edges()[1:-1].float()

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "high": self.profile.high, "lead": self.profile.lead}

    def analyse(self, waveform: Float[Tensor, "b t"]) -> Float[Tensor, "b l 1 f"]:
        spectrum = torch.fft.rfft(self.framing.split(waveform) * hann(self.n_fft, waveform.device))
        mel = spectrum.abs() @ self.profile.filters(waveform.device).T
        floor = self.reference * 10 ** (-self.floor_db / 20)
        level = 20 * torch.log10(mel.clamp_min(floor) / self.reference)
        return (1 + 2 * level / self.floor_db)[:, :, None]

    def mel(self, features: Float[Tensor, "b l 1 f"]) -> Float[Tensor, "b l f"]:
        """The filters' readings of magnitudes, out of features; not below the floor, nor far above full scale."""
        level = ((features[:, :, 0] - 1) * self.floor_db / 2).clamp(-self.floor_db, HEADROOM_DB)
        return self.reference * 10 ** (level / 20)

    def synthesise(self, features: Float[Tensor, "b l 1 f"], length: Int64[Tensor, " b"]) -> Float[Tensor, "b t"]:
        mel = self.mel(features)
        if self.vocoder is None:
            linear = magnitudes(mel, self.profile.filters(mel.device))
            window = hann(self.n_fft, mel.device)
            return griffin_lim(linear, self.framing, window, length, self.iterations, self.momentum)
        exists = self.framing.exist(mel.shape[1], length)
        samples = self.samples(mel.shape[1])
        waveform = self.vocoder(mel * exists)[:, :samples]
        time = torch.arange(samples, device=mel.device)
        return torch.where(time < length[:, None], pad(waveform, (0, samples - waveform.shape[1])), 0.0)
