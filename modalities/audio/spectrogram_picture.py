"""Clips as 8-bit log-mel pictures: what a small classifier of pictures judges sound by.

    x -> |STFT|^2 -> mel bands -> dB relative to a full-scale sine -> [-80, 0] dB as 0 .. 255

The window is 64 ms and the hop 32 ms at every rate (512 and 256 samples at 8 kHz), whatever the codec of the model is.
Each band is a triangle on the mel scale, m(f) = 2595 log10(1 + f / 700) (O'Shaughnessy, 1987). Beyond its end a clip is
silence, so that its picture depends neither on the padding nor on the rest of the batch.

A recording's level tells of the microphone, not of what was said: a classifier would learn it instead of the voice.
So by default a clip is freed of its offset and brought to a peak of 1 first; levels are judged by `checks`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from modalities.audio.waveforms import Waveforms

HOP_SECONDS = 0.032
HOPS_IN_WINDOW = 2
RANGE_DB = 80.0
CHUNK = 256  # clips at a time: bounds the memory of the transforms
SILENCE = 1e-12  # power of the quietest bin; -120 dB


def spectrogram_pixels(
    waveforms: Waveforms, bands: int = 32, frames: int | None = 32, normalise: bool = True
) -> UInt8[Tensor, "n 1 bands frames"]:
    """8-bit log-mel pictures of clips, low frequencies in the first row.

    Arguments:
        waveforms: N clips.
        bands: of the mel scale, from 0 Hz to half the rate.
        frames: of 32 ms, so that 32 are a second; longer clips are cropped at their end, shorter ones padded with
            silence; None: as many as the longest clip needs.
        normalise: take away each clip's offset and level before. Without it pictures tell loud from quiet.

    Returns:
        uint8 (N, 1, bands, frames): 0 is -80 dB or less, 255 the level of a full-scale sine.

    Raises:
        ValueError: there are more bands than the transform resolves at this rate.
    """
    decibels = log_mel(waveforms, bands, frames, normalise)
    return ((decibels / RANGE_DB + 1) * 255).round().to(torch.uint8)[:, None]


def log_mel(
    waveforms: Waveforms, bands: int = 32, frames: int | None = 32, normalise: bool = True
) -> Float[Tensor, "n bands frames"]:
    """The pictures of `spectrogram_pixels` before rounding: dB in [-80, 0] relative to a full-scale sine."""
    hop = max(1, round(HOP_SECONDS * waveforms.rate))
    n_fft = HOPS_IN_WINDOW * hop
    bank = _bank(n_fft, bands, waveforms.rate)
    if frames is None:
        frames = 1 + int(waveforms.lengths.max()) // hop if len(waveforms) else 1
    samples = waveforms.samples[:, : (frames - 1) * hop + n_fft // 2]
    if normalise:
        # The level is that of the whole clip, also of what the crop leaves out.
        samples = level(waveforms).samples[:, : samples.shape[1]]
    missing = max(0, (frames - 1) * hop + n_fft // 2 - samples.shape[1])
    parts = []
    for chunk in samples.split(CHUNK):
        padded = torch.nn.functional.pad(chunk, (0, missing))
        power = spectrum(padded, n_fft, hop)[..., :frames].square()
        decibels = 10 * (bank.T @ power).clamp_min(SILENCE).log10()
        parts.append(decibels.clamp(-RANGE_DB, 0))
    return torch.cat(parts) if parts else torch.zeros(0, bands, frames)


def spectrum(samples: Float[Tensor, "n t"], n_fft: int, hop: int) -> Float[Tensor, "n bins frames"]:
    """Magnitudes of the STFT with a Hann window centred at 0, hop, 2 hop, ...: 1 is a sine of amplitude 1."""
    window = torch.hann_window(n_fft)
    transform = torch.stft(samples, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    return transform.abs() * (2 / window.sum())


def level(waveforms: Waveforms) -> Waveforms:
    """The clips without their means, at a peak of 1; silence stays silence, and padding zero."""
    samples, lengths = waveforms.samples, waveforms.lengths[:, None]
    real = torch.arange(samples.shape[1]) < lengths
    centred = torch.where(real, samples - samples.sum(1, keepdim=True) / lengths.clamp_min(1), 0)
    peak = centred.abs().amax(1, keepdim=True) if samples.shape[1] else torch.ones(len(samples), 1)
    # A constant leaves rounding errors behind: they are no signal to be brought to full scale.
    audible = peak > 1e-6
    return Waveforms(torch.where(audible, centred / peak.clamp_min(1e-6), 0), waveforms.lengths, waveforms.rate)


def hertz_to_mel(hertz: float) -> float:
    """Position on the mel scale of a frequency in Hz."""
    return 2595 * math.log10(1 + hertz / 700)


def mel_to_hertz(mel: float) -> float:
    """Frequency in Hz at a position on the mel scale."""
    return 700 * (10 ** (mel / 2595) - 1)


@lru_cache(maxsize=8)
def _bank(n_fft: int, bands: int, rate: int) -> Float[Tensor, "bins bands"]:
    # The triangles are checked here and in words; torchaudio's own warning names parameters of its own.
    edges = torch.tensor([mel_to_hertz(m) for m in torch.linspace(0, hertz_to_mel(rate / 2), bands + 2).tolist()])
    bins = torch.arange(n_fft // 2 + 1) * rate / n_fft
    filled = ((bins[:, None] > edges[:-2]) & (bins[:, None] < edges[2:])).any(0)
    if not bool(filled.all()):
        raise ValueError(
            f"{bands} mel bands are more than a window of {n_fft} samples resolves at {rate} Hz: "
            f"{int((~filled).sum())} of them would be empty; choose fewer"
        )
    return melscale_fbanks(n_fft // 2 + 1, 0.0, rate / 2, bands, rate, norm=None, mel_scale="htk")
