"""The timbre of one voice, and the pitches and timbre of two, by templates of their spectra.

A clip's spectrum is P(f) = sum_n |X_n(f)|^2 over its frames n. Blurred by Gaussians G of width s(f), with
s(f)^2 = (8 Hz)^2 + (0.01 f)^2, a line a sixth of a semitone away still falls on its template; a square root keeps weak
harmonics from being drowned by strong ones. A template is the same of the lines that a timbre has at a pitch, or of
those of two equally strong voices:

    S(f) = sqrt(sum_f' G(f, f') P(f')),    T(f) = sqrt(sum_voices sum_k a_k^2 G(f, k f_voice)).

The answer is the template with the largest cosine <S, T> / |S| |T|, and none of them if that is small. For two voices
all pairs in thirds of a semitone are compared. Matching pursuit (Mallat and Zhang, IEEE Trans. Signal Processing 41,
1993) would take one voice after the other, and begin with the pitch that fits best alone: often one that has some lines
of either.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy.lib.stride_tricks import sliding_window_view

from modalities.audio.notes import amplitudes
from modalities.audio.notes_captions import PAIR_INTERVALS, PAIR_PITCHES, TIMBRES, frequency

WINDOW = 0.128
FREQUENCIES = np.arange(0.0, 3600.0, 8.0)
WIDTH, RELATIVE_WIDTH = 8.0, 0.01
STEPS = 3
# Below this cosine a template is not what is heard. White noise reaches 0.7; a right one loses 0.1 to Griffin-Lim.
LEAST_FIT = 0.8
# Two voices are two only if the weaker has this share of the stronger's power.
LEAST_SHARE = 0.1


class Pair(NamedTuple):
    """Two voices: Hz, the lower first (NaN: there are not two), and their timbre (None: like none we know)."""

    low: float
    high: float
    timbre: str | None


NO_PAIR = Pair(math.nan, math.nan, None)


def blur(lines: Float[np.ndarray, " l"]) -> Float[np.ndarray, "f l"]:
    """G: how the power of lines at some frequencies in Hz spreads over FREQUENCIES."""
    width = np.sqrt(WIDTH**2 + (RELATIVE_WIDTH * lines) ** 2)
    return np.exp(-0.5 * ((FREQUENCIES[:, None] - lines) / width) ** 2)


def spectrum(samples: Float[np.ndarray, " t"], rate: int) -> Float[np.ndarray, " f"]:
    """The blurred power of a clip over FREQUENCIES; Hann windows of WINDOW seconds that share three quarters."""
    width = round(WINDOW * rate)
    padded = np.pad(samples, (0, max(0, width - len(samples))))
    frames = sliding_window_view(padded, width)[:: width // 4] * np.hanning(width + 1)[:-1]
    kernel = _bins(rate, width)
    return kernel @ np.square(np.abs(np.fft.rfft(frames, axis=1)[:, : kernel.shape[1]])).sum(0)


@cache
def _bins(rate: int, width: int) -> Float[np.ndarray, "f b"]:
    bins = np.fft.rfftfreq(width, 1 / rate)
    return blur(bins[bins < 1.05 * FREQUENCIES[-1]])


def voice(timbre: str, pitch: float) -> Float[np.ndarray, " f"]:
    """The power over FREQUENCIES of a timbre at a pitch in Hz."""
    power = amplitudes(timbre, max(1, int(FREQUENCIES[-1] / pitch))) ** 2
    k = np.flatnonzero(power) + 1
    return blur(k * pitch) @ power[k - 1] / power.sum()


def direction(power: Float[np.ndarray, "*n f"]) -> Float[np.ndarray, "*n f"]:
    """The square root of powers, as unit vectors."""
    root = np.sqrt(power)
    return root / np.maximum(np.linalg.norm(root, axis=-1, keepdims=True), 1e-30)


def find_timbre(samples: Float[np.ndarray, " t"], rate: int, pitch: float) -> str | None:
    """The timbre of a clip with one voice at a pitch in Hz; None if it is like none."""
    templates = direction(np.stack([voice(timbre, pitch) for timbre in TIMBRES]))
    fits = templates @ direction(spectrum(samples, rate))
    return TIMBRES[int(fits.argmax())] if fits.max() >= LEAST_FIT else None


def find_pair(samples: Float[np.ndarray, " t"], rate: int) -> Pair:
    """The two voices of a clip: the best pair on the grid, each pitch refined by a parabola through its neighbours."""
    heard = spectrum(samples, rate)
    templates, places, index = _pairs()
    fits = templates @ direction(heard).astype(np.float32)
    best = int(fits.argmax())
    kind, *places_of_voices = (int(place) for place in places[best])
    low, high = (
        float(frequency(_GRID[place] + _offset(fits, index, places[best], axis) / STEPS))
        for axis, place in enumerate(places_of_voices, 1)
    )
    timbre = TIMBRES[kind]
    shares = np.linalg.lstsq(np.stack([voice(timbre, low), voice(timbre, high)], axis=1), heard)[0]
    if shares.max() <= 0 or shares.min() < LEAST_SHARE * shares.max():
        return NO_PAIR
    return Pair(low, high, timbre if fits[best] >= LEAST_FIT else None)


def _offset(
    fits: Float32[np.ndarray, " p"], index: Int[np.ndarray, "t g g"], place: Int[np.ndarray, " 3"], axis: int
) -> float:
    """Where a parabola through a place's neighbours along an axis has its top, in steps; 0 where one is missing."""
    step = np.eye(3, dtype=int)[axis]
    around = [int(index[tuple(place + move)]) for move in (-step, 0 * step, step)]
    if min(around) < 0:
        return 0.0
    left, middle, right = (float(fits[i]) for i in around)
    curvature = left - 2 * middle + right
    return 0.5 * (left - right) / curvature if curvature < 0 else 0.0


# One step beyond the notes that are played on either side, and one more that is a neighbour and no candidate.
_GRID = np.arange(STEPS * (len(PAIR_PITCHES) - 1) + 5) / STEPS + PAIR_PITCHES[0] - 2 / STEPS


@cache
def _pairs() -> tuple[Float32[np.ndarray, "p f"], Int[np.ndarray, "p 3"], Int[np.ndarray, "timbres grid grid"]]:
    """All templates of two voices; timbre, lower and higher place on the grid of each; the template at each place."""
    places = [
        (kind, low, high)
        for kind in range(len(TIMBRES))
        for low in range(1, len(_GRID) - 1)
        for high in range(low + 1, len(_GRID) - 1)
        if STEPS * PAIR_INTERVALS[0] - 1 <= high - low <= STEPS * PAIR_INTERVALS[-1] + 1
    ]
    voices = np.stack([[voice(timbre, frequency(pitch)) for pitch in _GRID] for timbre in TIMBRES])
    kind, low, high = np.array(places).T
    index = np.full((len(TIMBRES), len(_GRID), len(_GRID)), -1)
    index[kind, low, high] = np.arange(len(places))
    return direction(voices[kind, low] + voices[kind, high]).astype(np.float32), np.array(places), index
