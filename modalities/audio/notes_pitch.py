"""The pitch of one voice by YIN: the first lag at which a sound resembles itself.

With W samples a frame and tau the lag,

    d(tau)  = sum_{j < W} (x_j - x_{j + tau})^2
    d'(tau) = d(tau) / (1/tau sum_{s <= tau} d(s)),    d'(0) = 1,

the period is the first dip of d' below a threshold, else the deepest, refined by a parabola. The clip's pitch is
the median over its voiced frames, weighted by energy.

Lags are whole samples, so the clip is brought to 16 kHz first: with fewer samples a period, a parabola is a poor
fit at 1 kHz, and the dip at one period shallower than that at two.

de Cheveigné, Kawahara: YIN, a fundamental frequency estimator for speech and music, JASA 111, 2002.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import resample_poly

from modalities.audio.notes_captions import PITCHES, frequency

ANALYSIS_RATE = 16_000
FRAME, HOP = 0.04, 0.016
THRESHOLD = 0.15
# A frame is voiced if its dip is this deep and it holds at least a thousandth of the loudest frame's energy.
VOICED, QUIET = 0.35, 1e-3
# The share of the clip's energy that must be voiced for it to have a pitch at all.
LEAST_VOICED = 0.5
# Three semitones beyond the notes that are played, on either side.
LOWEST, HIGHEST = frequency(PITCHES[0] - 3), frequency(PITCHES[-1] + 3)


def yin(samples: Float64[np.ndarray, " t"], rate: int) -> float:
    """The pitch of a clip in Hz, NaN where it has none."""
    if rate < ANALYSIS_RATE:
        factor = -(-ANALYSIS_RATE // rate)
        samples, rate = resample_poly(samples, factor, 1), factor * rate
    width, longest = round(FRAME * rate), int(np.ceil(rate / LOWEST)) + 2
    if len(samples) < width + longest:
        return float("nan")
    frames = sliding_window_view(samples, width + longest)[:: round(HOP * rate)]
    d = differences(frames, width, longest)
    energy = np.square(frames[:, :width]).sum(1)
    lags = np.arange(1, longest + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised = d[:, 1:] * lags / np.cumsum(d[:, 1:], axis=1)
    normalised = np.nan_to_num(normalised, nan=1.0, posinf=1.0)
    # Only lags with a neighbour on either side can be dips.
    inner = normalised[:, 1:-1]
    dips = (inner <= normalised[:, :-2]) & (inner < normalised[:, 2:])
    dips &= lags[1:-1] >= rate / HIGHEST
    depth = np.where(dips, inner, np.inf)
    first = np.where((depth < THRESHOLD).any(1), (depth < THRESHOLD).argmax(1), depth.argmin(1))
    rows = np.arange(len(frames))
    voiced = (depth[rows, first] < VOICED) & (energy > QUIET * energy.max())
    if energy.sum() == 0 or energy[voiced].sum() < LEAST_VOICED * energy.sum():
        return float("nan")
    rows, first = rows[voiced], first[voiced]
    # The parabola goes through d: the slope of the mean below d' would shift its minimum.
    left, middle, right = (d[rows, first + i] for i in (1, 2, 3))
    curvature = np.maximum(left - 2 * middle + right, 1e-30)
    period = first + 2 + np.clip(0.5 * (left - right) / curvature, -1, 1)
    return weighted_median(rate / period, energy[voiced])


def differences(frames: Float64[np.ndarray, "n m"], width: int, longest: int) -> Float64[np.ndarray, "n lags"]:
    """d(tau) for tau = 0 ... longest: energies less twice the correlation, which is a product of spectra."""
    size = 1 << (frames.shape[1] - 1).bit_length()
    spectra = np.conj(np.fft.rfft(frames[:, :width], size)) * np.fft.rfft(frames, size)
    correlation = np.fft.irfft(spectra, size)[:, : longest + 1]
    cumulative = np.pad(np.cumsum(np.square(frames), axis=1), ((0, 0), (1, 0)))
    lags = np.arange(longest + 1)
    energy = cumulative[:, width + lags] - cumulative[:, lags]
    return np.maximum(energy[:, :1] + energy - 2 * correlation, 0.0)


def weighted_median(values: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]) -> float:
    """The value at which half of the weight is reached."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
