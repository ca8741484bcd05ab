"""`notes`: a captioned set of sounds that is computed, not downloaded; item i is a pure function of (seed, split, i).

A voice of pitch f is a sum of harmonics below 0.45 of the rate, so that nothing aliases:

    x(t) = e(t) sum_k a_k sin(k phi(t) + theta_k),    phi(t) = 2 pi int_0^t f(s) ds,

with a_k the timbre, e the envelope, theta_k random phases, and f(t) slightly detuned with a slight vibrato. With
z = exp(i phi) the sum is the polynomial Im sum_k a_k exp(i theta_k) z^k, which Horner's rule evaluates: one sine
and one cosine a sample for all harmonics. A clip is scaled so that its loudest 0.2 s have the level of its
loudness, in dB of full scale (RMS).

Pitch, amplitudes, level and times jitter a little, too little to make any word of the caption doubtful.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Complex128, Float, Float32, Float64, Int64
from torch import Tensor
from torch.utils.data import Dataset

from framework.data.counter import uniforms
from modalities.audio.notes_captions import (
    ENVELOPES,
    LOUDNESSES,
    PITCHES,
    TIMBRES,
    WORDINGS,
    Piece,
    caption,
    find_preset,
    frequency,
    heldout_prompts,
    note_name,
    parse_caption,
    parts_of,
    with_loudness,
)

__all__ = ["HEADS", "Notes", "caption", "heldout_prompts", "parse_caption", "synthesise"]

SPLITS = ("train", "validation", "heldout")
# What the columns of `labels` mean, and the names of their classes; the pitch is that of the lowest voice.
HEADS = {
    "pitch": tuple(map(note_name, PITCHES)),
    "timbre": TIMBRES,
    "envelope": ENVELOPES,
    "loudness": LOUDNESSES,
}
BAND = 0.45
HARMONICS = 24
# The level of a loudness in dB of full scale, over LOUDEST seconds.
LEVELS = {"soft": -32.0, "medium": -23.0, "loud": -14.0}
LOUDEST = 0.2
HIGHEST_PEAK = 0.98
LOWEST_RATE, SHORTEST = 8000, 0.5
CENTS, VIBRATO_CENTS, AMPLITUDE_DB, LEVEL_DB, TIME = 8.0, 8.0, 1.0, 1.0, 0.1
# Numbers that an item uses: choices (4), level, onset, time, vibrato (3), and for each of two voices its detuning,
# level, phases and amplitudes.
WIDTH = 10 + 2 * (2 + 2 * HARMONICS)


class Item(TypedDict):
    """What every audio data set returns; label -1: unknown."""

    waveform: Float32[Tensor, " t"]
    length: int
    caption: str
    labels: Int64[Tensor, " h"]


def amplitudes(timbre: str, harmonics: int) -> Float64[np.ndarray, " k"]:
    """The amplitudes a_1, a_2, ... of a timbre's harmonics, the largest 1."""
    k = np.arange(1, harmonics + 1)
    if timbre == "pure":
        return np.where(k == 1, 1.0, 0.0)
    if timbre == "hollow":
        return np.where(k % 2 == 1, k**-0.7, 0.0)
    if timbre == "bright":
        return k**-0.6
    if timbre == "organ":
        return np.select([k == 1, k == 2, k == 4, k == 8], [1.0, 0.9, 0.7, 0.5])
    if timbre == "reed":
        return np.where(k == 1, 0.25, (k / 2.0) ** -1.6)
    raise ValueError(f"unknown timbre {timbre!r}; valid: {', '.join(TIMBRES)}")


def contour(
    envelope: str, seconds: Float64[np.ndarray, " t"], onset: float, duration: float, stretch: float
) -> Float64[np.ndarray, " t"]:
    """The envelope e(t) in [0, 1] of a clip of `duration` seconds that begins at `onset`.

    Times are shares of the clip, so that an envelope sounds alike in clips of any length: a pluck falls by 1/e in
    a quarter of it, a short note lasts a fifth; `stretch` (1: none) scales them. Ramps of 10 and 40 ms avoid clicks.
    """
    t = seconds - onset
    end = duration - 0.02
    if envelope == "short":
        end = onset + 0.2 * duration * stretch
    ramp = np.clip(t / 0.01, 0, 1) * np.clip((end - seconds) / 0.04, 0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    if envelope in ("sustained", "short"):
        return smooth
    if envelope == "plucked":
        return smooth * np.exp(-np.maximum(t, 0) / (0.25 * duration * stretch))
    if envelope == "swelling":
        return smooth * np.clip(t / (0.94 * duration), 0, 1) ** (1.4 * stretch)
    raise ValueError(f"unknown envelope {envelope!r}; valid: {', '.join(ENVELOPES)}")


def loudest(samples: Float[np.ndarray, " t"], rate: int) -> float:
    """The RMS level of the loudest LOUDEST seconds in dB of full scale, -inf for silence."""
    width = min(round(LOUDEST * rate), len(samples))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.max(energy[width:] - energy[:-width]) / width))


def synthesise(
    piece: Piece,
    rate: int = LOWEST_RATE,
    seconds: float = 1.024,
    numbers: Float64[np.ndarray, " width"] | None = None,
) -> Float32[np.ndarray, " t"]:
    """The sound of a complete piece; `numbers` in [0, 1) set the jitter and the phases (None: no jitter).

    Raises:
        ValueError: the piece leaves something unsaid, or a rate below 8 kHz, or a clip below half a second.
    """
    check_clip(rate, seconds)
    if piece.timbre is None or piece.envelope is None or piece.loudness is None:
        raise ValueError(f"cannot play {caption(piece)!r}: a sound needs a timbre, an envelope and a loudness")
    if numbers is None:
        numbers = np.full(WIDTH, 0.5)
        numbers[8] = 0
        # Phases that are quadratic in k keep peaks low: Schroeder, IEEE Trans. Information Theory 16, 1970.
        numbers[10:].reshape(2, -1)[:, 2 : 2 + HARMONICS] = 0.5 * np.arange(HARMONICS) ** 2 / HARMONICS
    jitter = 2 * numbers - 1
    t = np.arange(round(seconds * rate)) / rate
    vibrato, wobble = 5 + jitter[7], 2 * np.pi * numbers[9]
    # The integral of a vibrato's sine is a cosine over its angular frequency.
    depth = np.expm1(VIBRATO_CENTS * numbers[8] * np.log(2) / 1200) / (2 * np.pi * vibrato)
    bent = t + depth * np.cos(2 * np.pi * vibrato * t + wobble)
    x = np.zeros(len(t))
    for note, own in zip(piece.notes, numbers[10:].reshape(2, -1), strict=False):
        f = frequency(note.pitch + CENTS / 100 * (2 * own[0] - 1))
        count = min(HARMONICS, int(BAND * rate / f))
        a = amplitudes(piece.timbre, count) * 10 ** (AMPLITUDE_DB / 20 * (2 * own[2 + HARMONICS :][:count] - 1))
        voice = harmonics(a * np.exp(2j * np.pi * own[2:][:count]), 2 * np.pi * f * bent)
        x += voice * 10 ** (AMPLITUDE_DB / 20 * (2 * own[1] - 1)) / np.linalg.norm(a)
    x *= contour(piece.envelope, t, 0.01 + 0.01 * numbers[5], seconds, 1 + TIME * jitter[6])
    x *= 10 ** ((LEVELS[piece.loudness] + LEVEL_DB * jitter[4] - loudest(x, rate)) / 20)
    return (x * min(1.0, HIGHEST_PEAK / np.abs(x).max())).astype(np.float32)


def harmonics(
    coefficients: Complex128[np.ndarray, " k"], phase: Float64[np.ndarray, " t"]
) -> Float64[np.ndarray, " t"]:
    """Im sum_k c_k exp(i k phase) over k = 1, 2, ..., by Horner's rule."""
    z = np.empty(len(phase), np.complex128)
    z.real, z.imag = np.cos(phase), np.sin(phase)
    total = np.zeros_like(z)
    for c in coefficients[::-1]:
        total += c
        total *= z
    return total.imag


def check_clip(rate: int, seconds: float) -> None:
    """Raises ValueError for a rate or a duration in which notes cannot be told apart."""
    if rate < LOWEST_RATE:
        raise ValueError(f"notes need a rate of {LOWEST_RATE} Hz or more for three harmonics of each; got {rate}")
    if seconds < SHORTEST:
        raise ValueError(f"a clip of notes lasts {SHORTEST} s or more for envelopes to be heard; got {seconds}")


class Notes(Dataset[Item]):
    """Sounds of one or two notes with captions.

    Splits: `train`; `validation`: the training combinations in fresh sounds; `heldout`: combinations that are never
    trained on. The labels are indices into HEADS. Each sound fills its clip.
    """

    def __init__(
        self,
        preset: str = "single",
        split: str = "train",
        length: int = 20_000,
        rate: int = LOWEST_RATE,
        seconds: float = 1.024,
        seed: int = 0,
    ) -> None:
        counts = find_preset(preset)
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r} of notes; valid: {', '.join(SPLITS)}")
        if length < 1:
            raise ValueError(f"a notes set needs at least one item, got length={length}")
        check_clip(rate, seconds)
        self.preset, self.split, self.length, self.seed = preset, split, length, seed
        self.rate, self.seconds = rate, seconds
        self.groups = [parts_of(voices)[split == "heldout"] for voices in counts]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        numbers = self._numbers(index)
        piece = self._choose(numbers)
        waveform = torch.from_numpy(synthesise(piece, self.rate, self.seconds, numbers))
        text = caption(piece, int(numbers[3] * WORDINGS))
        return Item(waveform=waveform, length=len(waveform), caption=text, labels=labels(piece))

    def described(self, index: int) -> Piece:
        """The piece of an item."""
        return self._choose(self._numbers(index))

    def _numbers(self, index: int) -> Float64[np.ndarray, " width"]:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of a notes set of {self.length}")
        return uniforms(self.seed, f"notes/{self.preset}/{self.split}", np.array([index]), WIDTH)[0]

    def _choose(self, numbers: Float64[np.ndarray, " width"]) -> Piece:
        """One voice or two with equal chance, then a combination and a loudness with equal chance."""
        group = self.groups[int(numbers[0] * len(self.groups))]
        return with_loudness(group[int(numbers[1] * len(group))], LOUDNESSES[int(numbers[2] * len(LOUDNESSES))])


def labels(piece: Piece) -> Int64[Tensor, " h"]:
    """The classes of a piece, one for each of HEADS; -1: unsaid."""
    said = (note_name(piece.pitches[0]), piece.timbre, piece.envelope, piece.loudness)
    classes = zip(HEADS.values(), said, strict=True)
    return torch.tensor([names.index(word) if word is not None else -1 for names, word in classes])
