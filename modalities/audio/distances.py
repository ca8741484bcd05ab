"""How far clips are from the clips that they should be, pair by pair.

    log_spectral_distance   dB    mean over frames of the root mean square over frequencies of the levels' difference
    mel_error               dB    mean absolute difference of the levels of mel bands
    si_sdr                  dB    scale-invariant signal-to-distortion ratio (Le Roux et al. 2019); higher is better
    stoi                    0..1  short-time intelligibility (Taal et al. 2011); higher is better; needs pystoi

Levels are compared down to a floor below the loudest of the reference clip. The first two do not hear phases, si_sdr
hears nothing else: a vocoder's clips may sound perfect at -20 dB.
"""

from __future__ import annotations

import importlib

import torch
from jaxtyping import Float
from torch import Tensor

from framework.errors import UserError
from modalities.audio.codecs.filterbank import MelProfile
from modalities.audio.codecs.stft import Framing, hann
from modalities.audio.waveforms import Waveforms

TINY = 1e-10
GAP = 0.1  # seconds of silence between clips that are judged as one


def log_spectral_distance(
    estimate: Waveforms, reference: Waveforms, n_fft: int = 512, hop: int = 128, floor_db: float = 60.0
) -> Float[Tensor, " b"]:
    """In dB, for each clip.

    Raises:
        UserError: the clips do not go together in number, length or rate.
    """
    _check(estimate, reference)
    ours, theirs = (_levels(_spectrum(clips, n_fft, hop)) for clips in (estimate, reference))
    difference = _difference(ours, theirs, floor_db).square().mean(-1).sqrt()
    return _frame_mean(difference, reference.lengths, hop)


def mel_error(
    estimate: Waveforms,
    reference: Waveforms,
    bands: int = 40,
    n_fft: int = 512,
    hop: int = 128,
    floor_db: float = 60.0,
) -> Float[Tensor, " b"]:
    """In dB, for each clip.

    Raises:
        UserError: the clips do not go together in number, length or rate; or there are too many bands.
    """
    _check(estimate, reference)
    rate = reference.rate
    profile = MelProfile(rate, n_fft, hop, bands, 0.0, rate / 2, "slaney", "slaney", (n_fft - hop) // 2)
    profile.check()
    ours, theirs = (_levels(_spectrum(clips, n_fft, hop) @ profile.filters().T) for clips in (estimate, reference))
    return _frame_mean(_difference(ours, theirs, floor_db).abs().mean(-1), reference.lengths, hop)


def si_sdr(estimate: Waveforms, reference: Waveforms) -> Float[Tensor, " b"]:
    """10 log10(|a s|^2 / |a s - e|^2), a = <e, s> / <s, s>, means taken off, in dB for each clip.

    Raises:
        UserError: the clips do not go together in number, length or rate.
    """
    _check(estimate, reference)
    time = torch.arange(reference.samples.shape[1])
    real = time < reference.lengths[:, None]
    count = reference.lengths.clamp_min(1)[:, None]
    width = reference.samples.shape[1]
    e, s = (torch.where(real, clips.samples[:, :width].double(), 0.0) for clips in (estimate, reference))
    e, s = (torch.where(real, x - x.sum(1, keepdim=True) / count, 0.0) for x in (e, s))
    target = (e * s).sum(1, keepdim=True) / s.square().sum(1, keepdim=True).clamp_min(TINY**2) * s
    ratio = target.square().sum(1) / (target - e).square().sum(1).clamp_min(TINY**2)
    return 10 * torch.log10(ratio.clamp_min(TINY)).float()


def stoi(estimate: Waveforms, reference: Waveforms, extended: bool = False) -> float:
    """One number for all clips, joined with a gap of silence: single words are too short for it.

    Raises:
        UserError: pystoi is not installed, or the clips do not go together in number, length or rate.
    """
    _check(estimate, reference)
    try:
        measure = importlib.import_module("pystoi").stoi
    except ImportError:
        raise UserError("intelligibility is measured by the package pystoi: pip install pystoi") from None
    gap = torch.zeros(round(GAP * reference.rate))
    ours, theirs = (torch.cat([part for clip in clips for part in (clip, gap)]) for clips in (estimate, reference))
    return float(measure(theirs.numpy(), ours.numpy(), reference.rate, extended=extended))


def _spectrum(clips: Waveforms, n_fft: int, hop: int) -> Float[Tensor, "b l k"]:
    longest = int(clips.lengths.max())
    frames = Framing(n_fft, hop, (n_fft - hop) // 2).split(clips.samples[:, :longest])
    return torch.fft.rfft(frames * hann(n_fft, clips.samples.device)).abs()


def _levels(magnitude: Tensor) -> Tensor:
    return 20 * torch.log10(magnitude.clamp_min(TINY))


def _difference(ours: Float[Tensor, "b l f"], theirs: Float[Tensor, "b l f"], floor_db: float) -> Tensor:
    floor = theirs.amax((1, 2), keepdim=True) - floor_db
    return ours.maximum(floor) - theirs.maximum(floor)


def _frame_mean(values: Float[Tensor, "b l"], lengths: Tensor, hop: int) -> Float[Tensor, " b"]:
    real = torch.arange(values.shape[1]) * hop < lengths[:, None]
    return torch.where(real, values, 0.0).sum(1) / real.sum(1).clamp_min(1)


def _check(estimate: Waveforms, reference: Waveforms) -> None:
    if estimate.rate != reference.rate or not torch.equal(estimate.lengths, reference.lengths):
        raise UserError(
            f"clips are compared with clips of the same number, lengths and rate: got {len(estimate)} at "
            f"{estimate.rate} Hz and {len(reference)} at {reference.rate} Hz, or lengths that differ"
        )
    if not len(reference):
        raise UserError("there are no clips to compare")
