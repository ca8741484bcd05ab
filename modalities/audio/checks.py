"""What is wrong with a clip whatever it was meant to be: silence, clipping, an offset; and how loud it is.

Each check is a 0/1 vector, 1 where a clip has the fault. Decibels are of full scale: 0 dB is a root mean square of 1, a
sine of amplitude 1 has -3 dB. Clips are often shorter than the 400 ms that the loudness of ITU-R BS.1770 is defined on,
so loudness here is the plain level of the whole clip.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from modalities.audio.waveforms import Waveforms

SILENT_DB = -60.0  # the quietest speech that people recorded and kept lies 20 dB above
WINDOW_SECONDS = 0.025
FULL_SCALE = 1 - 2**-14  # of 16 bits, less rounding
RUN = 3  # samples: the crest of a sine of amplitude 1 is as short
OFFSET = 0.01
FLOOR_DB = -120.0


def silent(waveforms: Waveforms, threshold: float = SILENT_DB) -> Int64[np.ndarray, " n"]:
    """Clips whose loudest 25 ms stay below `threshold` dB; empty ones too."""
    window = max(1, round(WINDOW_SECONDS * waveforms.rate))
    return np.array([_loudest(_samples(clip), window) < threshold for clip in waveforms], dtype=np.int64)


def clipped(waveforms: Waveforms) -> Int64[np.ndarray, " n"]:
    """Clips that exceed full scale, or lie at it for three samples in a row."""
    return np.array([_is_clipped(_samples(clip)) for clip in waveforms], dtype=np.int64)


def offset(waveforms: Waveforms, threshold: float = OFFSET) -> Int64[np.ndarray, " n"]:
    """Clips whose mean is further from zero than `threshold`."""
    return np.array([abs(_samples(clip).mean()) > threshold if len(clip) else 0 for clip in waveforms], dtype=np.int64)


def loudness(waveforms: Waveforms) -> Float[np.ndarray, " n"]:
    """Root mean square of each clip in dB, its mean taken away; -120 of silence."""
    return np.array([_decibels(np.var(_samples(clip))) if len(clip) else FLOOR_DB for clip in waveforms])


def peaks(waveforms: Waveforms) -> Float[np.ndarray, " n"]:
    """Largest magnitude of each clip in dB; -120 of silence."""
    return np.array([_decibels(np.square(_samples(clip)).max(initial=0)) for clip in waveforms])


def _loudest(samples: np.ndarray, window: int) -> float:
    if samples.size == 0:
        return FLOOR_DB
    window = min(window, samples.size)
    sums = np.concatenate(([0.0], np.cumsum(np.square(samples))))
    return _decibels(float((sums[window:] - sums[:-window]).max()) / window)


def _is_clipped(samples: np.ndarray) -> bool:
    if np.abs(samples).max(initial=0) > 1:
        return True
    # Runs of one sign: a square wave changes sides without ever being cut off twice in a row at the same side.
    for side in (samples >= FULL_SCALE, samples <= -FULL_SCALE):
        if side.size >= RUN and np.convolve(side, np.ones(RUN, dtype=np.int64), "valid").max() >= RUN:
            return True
    return False


def _decibels(power: float) -> float:
    return max(FLOOR_DB, 10 * float(np.log10(max(power, 1e-12))))


def _samples(clip: Tensor) -> np.ndarray:
    samples: np.ndarray = clip.detach().double().numpy()
    return samples
