"""Overlapping frames, their inverse, and the complex spectrogram as a codec.

Frame l holds the samples l hop - lead + (0 ... size - 1); w is its window, X_l = DFT(w x_l). The signal whose frames
come closest to given frames y_l is (Griffin and Lim 1984, eq. 6)

    x(t) = sum_l w(t - l hop) y_l(t - l hop) / sum_l w(t - l hop)^2

where both sums go over the frames that a clip has, so that its edges are as exact as its middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import torch
from jaxtyping import Complex64, Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import pad

from framework.errors import UserError
from modalities.audio.codecs.codec import Codec, check_scale

Table = TypeVar("Table", bound=Callable[..., Tensor])
LEAST_WEIGHT = 1e-3  # of the squared window, where a sample may lie in one frame alone
QUIET = 1e-6  # below it compression is linear, so that its slope stays finite


def table(function: Table) -> Table:
    """Keep the tensors that a function of plain values makes, fit for gradients even if made in inference mode."""
    return lru_cache(maxsize=64)(torch.inference_mode(False)(function))  # type: ignore[return-value]


@table
def hann(size: int, device: torch.device) -> Float32[Tensor, " n"]:
    """The periodic Hann window."""
    return torch.hann_window(size, device=device)


@table
def sine(size: int, device: torch.device) -> Float32[Tensor, " n"]:
    """sin(pi (n + 1/2) / size): at a hop of half its size, its squares add up to one."""
    return torch.sin(torch.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size).to(device, torch.float32)


@dataclass(frozen=True)
class Framing:
    """Where frames lie: `lead` is how many samples before the clip the first frame begins.

    Raises:
        UserError: frames that leave samples uncovered.
    """

    size: int
    hop: int
    lead: int

    def __post_init__(self) -> None:
        if not (0 < self.hop <= self.size // 2 and 0 <= self.lead <= self.size - self.hop):
            raise UserError(
                f"frames of {self.size} samples need a hop from 1 to {self.size // 2} (got {self.hop}) and a lead "
                f"from 0 to {self.size - self.hop} (got {self.lead})"
            )

    def split(self, waveform: Float[Tensor, "b t"]) -> Float[Tensor, "b l n"]:
        """The ceil(T / hop) frames of a waveform with silence on both sides; a view of overlapping memory."""
        frames = -(-waveform.shape[1] // self.hop)
        behind = frames * self.hop + self.size - self.hop - self.lead - waveform.shape[1]
        return pad(waveform, (self.lead, behind)).unfold(1, self.size, self.hop)

    def add(self, frames: Float[Tensor, "b l n"]) -> Float[Tensor, "b p"]:
        """The sum of overlapping frames, from the first sample of the first to the last of the last."""
        batch, count, size = frames.shape
        blocks = -(-size // self.hop)
        parts = pad(frames, (0, blocks * self.hop - size)).reshape(batch, count, blocks, self.hop)
        total = frames.new_zeros(batch, count + blocks - 1, self.hop)
        for k in range(blocks):
            total[:, k : k + count] += parts[:, :, k]
        return total.flatten(1)[:, : (count - 1) * self.hop + size]

    def exist(self, frames: int, length: Int64[Tensor, " b"]) -> Float32[Tensor, "b l 1"]:
        """1 for the frames that clips of such lengths have, 0 for what follows."""
        starts = torch.arange(frames, device=length.device) * self.hop
        return (starts < length[:, None]).float()[..., None]

    def weights(self, window: Float[Tensor, " n"], frames: int, length: Int64[Tensor, " b"]) -> Float32[Tensor, "b p"]:
        """1 / sum_l w^2 inside of each clip and 0 outside, for the samples that `add` returns."""
        total = self.add(self.exist(frames, length) * window.square())
        time = torch.arange(total.shape[1], device=length.device) - self.lead
        inside = (time >= 0) & (time < length[:, None])
        return torch.where(inside, 1 / total.clamp_min(LEAST_WEIGHT), 0.0)

    def crop(self, signal: Float[Tensor, "b p"]) -> Float[Tensor, "b t"]:
        """The L hop samples of the clips out of what `add` returns."""
        frames = (signal.shape[1] - self.size) // self.hop + 1
        return signal[:, self.lead : self.lead + frames * self.hop]

    def join(
        self, frames: Float[Tensor, "b l n"], window: Float[Tensor, " n"], length: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b t"]:
        """The clips whose windowed frames come closest to these."""
        kept = frames * window * self.exist(frames.shape[1], length)
        return self.crop(self.add(kept) * self.weights(window, frames.shape[1], length))


def check_cover(framing: Framing, window: Float[Tensor, " n"]) -> None:
    """Raise UserError when a sample may lie where the only window that covers it has vanished."""
    alone = window[framing.lead : framing.lead + framing.hop].square().min()
    if alone < LEAST_WEIGHT:
        raise UserError(
            f"frames of {framing.size} samples with lead={framing.lead} hardly see a clip's edge; "
            f"choose lead={(framing.size - framing.hop) // 2}"
        )


def compress(z: Tensor, power: float) -> Tensor:
    """|z|^power with z's phase or sign, linear where |z| < QUIET; real or complex, `power` in (0, 1]."""
    return z * z.abs().clamp_min(QUIET) ** (power - 1)


def expand(z: Tensor, power: float) -> Tensor:
    """The inverse of `compress`."""
    return z * z.abs().clamp_min(QUIET**power) ** (1 / power - 1)


def check_power(power: float) -> None:
    """Raise UserError for an exponent that does not compress."""
    if not 0 < power <= 1:
        raise UserError(f"the codec's power compresses amplitudes: above 0 and at most 1; got {power}")


@dataclass(frozen=True)
class ComplexSTFT(Codec):
    """|X|^power e^{i phase} as two channels, exactly invertible.

    The DFT is orthonormal and its window a sine, so that at a hop of n_fft / 2 the frames hold the clip's energy. The
    bands of frequency 0 and of half the rate are both real and share band 0, as its real and its imaginary part:
    F = n_fft / 2.

    Args:
        rate: Hz. n_fft: samples a frame, even. hop: at most n_fft / 2. power: compression of the amplitudes.
        mean, std: of the features; the defaults are those of speech at 8 kHz with a peak of 0.95.

    Raises:
        UserError: settings that cannot be met.
    """

    rate: int = 8000
    n_fft: int = 128
    hop: int = 64
    power: float = 0.5
    mean: float = 0.0
    std: float = 0.15

    def __post_init__(self) -> None:
        if self.n_fft % 2:
            raise UserError(f"n_fft is even; got {self.n_fft}")
        check_power(self.power)
        check_scale(self.std)
        check_cover(self.framing, sine(self.n_fft, torch.device("cpu")))

    @cached_property
    def framing(self) -> Framing:
        """Frame l lies in the middle of the l-th block of `hop` samples."""
        return Framing(self.n_fft, self.hop, (self.n_fft - self.hop) // 2)

    @property
    def channels(self) -> int:
        """Real and imaginary part."""
        return 2

    @property
    def bands(self) -> int:
        return self.n_fft // 2

    @property
    def frequencies(self) -> Float32[Tensor, " f"]:
        """Multiples of rate / n_fft, from 0 (whose band also holds rate / 2)."""
        return torch.arange(self.bands) * (self.rate / self.n_fft)

    def analyse(self, waveform: Float[Tensor, "b t"]) -> Float[Tensor, "b l 2 f"]:
        windowed = self.framing.split(waveform) * sine(self.n_fft, waveform.device)
        spectrum: Complex64[Tensor, "b l k"] = torch.fft.rfft(windowed, norm="ortho")
        first = torch.complex(spectrum[..., :1].real, spectrum[..., -1:].real)
        packed = compress(torch.cat([first, spectrum[..., 1:-1]], -1), self.power)
        return torch.stack([packed.real, packed.imag], 2)

    def synthesise(self, features: Float[Tensor, "b l 2 f"], length: Int64[Tensor, " b"]) -> Float[Tensor, "b t"]:
        packed = expand(torch.complex(features[:, :, 0], features[:, :, 1]), self.power)
        zero, half = (part[..., None].to(packed.dtype) for part in (packed[..., 0].real, packed[..., 0].imag))
        frames = torch.fft.irfft(torch.cat([zero, packed[..., 1:], half], -1), self.n_fft, norm="ortho")
        return self.framing.join(frames, sine(self.n_fft, features.device), length)
