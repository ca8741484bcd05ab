"""How loud a clip is, and making it as loud as wanted: peak, RMS, or loudness as ITU-R BS.1770-4 has it.

Recordings differ in level by 30 dB and more. A model of log spectra that sees them as they are learns the microphone's
gain, so a clip's mean is removed and its level is set before any logarithm. All functions take one clip (T,) in
[-1, 1]; levels are in dB relative to full scale (a constant 1 has 0 dB), loudness is in LUFS.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from scipy.signal import freqz
from torch import Tensor

from framework.errors import DataError

SILENCE_DB = -60.0
TARGETS = {"none": 0.0, "peak": -1.0, "rms": -20.0, "loudness": -23.0}

Clip = Float[Tensor, " t"]


def remove_mean(samples: Clip) -> Clip:
    """The clip without its constant part (DC)."""
    return samples - samples.double().mean().to(samples.dtype)


def peak_db(samples: Clip) -> float:
    """20 log10 max |x|; -inf for zeros."""
    return _db(float(samples.abs().max()))


def rms_db(samples: Clip) -> float:
    """10 log10 mean x^2; -inf for zeros."""
    return _db(math.sqrt(float(samples.double().square().mean())))


def loudness(samples: Clip, rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, one channel); -inf if no block is above -70 LUFS.

    The mean power of the K-weighted clip over blocks of 400 ms that overlap by 75 %, first of those above -70 LUFS,
    then of those no more than 10 dB below the first mean. A clip shorter than a block is one block.
    """
    weighted = torch.from_numpy(_k_weighted(samples.double().numpy(), rate))
    block = min(round(0.4 * rate), len(weighted))
    power = weighted.square().unfold(0, block, max(block // 4, 1)).mean(-1)
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    if not len(power):
        return -math.inf
    power = power[power > power.mean() / 10]
    return -0.691 + 10 * math.log10(float(power.mean()))


# BS.1770-4, tables 1 and 2: a shelf for the head and a high pass, as (numerator, denominator) at 48 kHz.
STANDARD_RATE = 48_000
FILTERS = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)


def _k_weighted(samples: np.ndarray, rate: int) -> np.ndarray:
    """The clip as the standard weighs frequencies, by the magnitude of its two filters alone.

    Filters designed anew for a low rate would miss the response at 48 kHz by some tenths of a dB. Multiplied into
    the spectrum it is the same at every rate, and as loudness is a power, the phase does not matter.
    """
    size = next_fast_len(len(samples) + rate // 2, real=True)  # the high pass has died down after half a second
    frequencies = np.minimum(np.fft.rfftfreq(size, 1 / rate), STANDARD_RATE / 2)
    gain = np.ones(len(frequencies))
    for numerator, denominator in FILTERS:
        gain *= abs(freqz(numerator, denominator, frequencies, fs=STANDARD_RATE)[1])
    return np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)]


def set_level(samples: Clip, rate: int, level: str, target_db: float | None = None) -> Clip:
    """The clip at a level: `peak`, `rms` or `loudness` at `target_db`, or `none`; see TARGETS for what None means.

    No clip is brought beyond 1: where the target asks for that, the peak is 1 and the level below the target.

    Raises:
        DataError: the clip is too quiet for its level to be measured.
    """
    measured = {"none": lambda: 0.0, "peak": lambda: peak_db(samples), "rms": lambda: rms_db(samples)}
    now = loudness(samples, rate) if level == "loudness" else measured[level]()
    if now == -math.inf:
        raise DataError(f"too quiet to bring its {level} to a level")
    target = TARGETS[level] if level == "none" or target_db is None else target_db
    gain = 10 ** ((target - now) / 20)
    return samples * min(gain, 1 / max(float(samples.abs().max()), 1e-12))


def is_silent(samples: Clip, threshold_db: float = SILENCE_DB) -> bool:
    """Whether no sample is above the threshold."""
    return peak_db(samples) <= threshold_db


def clipped_share(samples: Clip, run: int = 3) -> float:
    """The share of samples where the clip stays at its own highest or lowest value for `run` samples or more.

    A recording that was clipped has such flat tops, also when it was made quieter later; sound that was not clipped
    stays at its extreme for a sample or two, unless it is slow and coarsely quantised.
    """
    flat = 0
    for extreme in (samples.max(), samples.min()):
        at = torch.nn.functional.pad((samples == extreme).int(), (1, 1)).diff()
        lengths = torch.nonzero(at == -1)[:, 0] - torch.nonzero(at == 1)[:, 0]
        flat += int(lengths[lengths >= run].sum())
    return min(flat / len(samples), 1.0)


def trim_silence(samples: Clip, rate: int, threshold_db: float = -40.0, margin: float = 0.02) -> Clip:
    """The clip without what lies `threshold_db` below its peak at both ends, but for `margin` seconds."""
    loud = torch.nonzero(samples.abs() >= samples.abs().max() * 10 ** (threshold_db / 20))[:, 0]
    keep = round(margin * rate)
    return samples[max(int(loud[0]) - keep, 0) : int(loud[-1]) + 1 + keep]


def _db(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf
