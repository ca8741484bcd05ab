"""Made series: four days of temperature, demand and price, an hour a step, in winter, in spring or in summer.

    temperature   level of the season + weather of the days (a trend) + a wave of 24 h + AR(1)
    demand        two peaks a day + coupling(season) * temperature two hours ago, relative to its level + AR(1)
    price         follows demand, and jumps while a hidden Markov chain says that power is scarce

In winter cold raises demand (heating), in summer heat does (cooling), in spring neither: what the channels say of each
other depends on the season. Some of the channels have gaps and single values missing. All is a function of
(seed, stream, item) alone.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from scipy.signal import lfilter
from scipy.special import ndtri

from framework.data.counter import uniforms

CHANNELS = ("temperature", "demand", "price")
CLASSES = ("winter", "spring", "summer")
DAY, LENGTH = 24, 96
LEVEL, SWING, COUPLING = np.array([1.0, 12.0, 25.0]), np.array([2.0, 4.0, 6.0]), np.array([-0.9, 0.0, 1.2])
ENTER, LEAVE = 0.02, 0.12  # chances an hour that power becomes scarce, and that it ceases to be


def make(
    items: Int64[np.ndarray, " n"], seed: int, stream: str, missing: float
) -> tuple[Float64[np.ndarray, "n l c"], Int64[np.ndarray, " n"]]:
    """Series, NaN where a value is missing, and classes. A share `missing` of the series has gaps."""
    season = items % len(CLASSES)
    u = uniforms(seed, f"series/{stream}", items, 8 + 4 * LENGTH)
    own, noise = u[:, :8], ndtri(np.clip(u[:, 8 : 8 + 3 * LENGTH], 1e-9, 1 - 1e-9)).reshape(len(items), 3, LENGTH)
    hour = np.arange(LENGTH)[None]
    level, swing, coupling = (of[season][:, None] for of in (LEVEL, SWING, COUPLING))
    peak = 15 + 2 * (own[:, :1] - 0.5)
    trend = 10 * (own[:, 1:2] - 0.5) * (hour / LENGTH - 0.5)
    weather = 4 * (own[:, 2:3] - 0.5) + trend + _ar(noise[:, 0], 0.9, 0.6)
    temperature = level + weather + swing * (0.7 + 0.6 * own[:, 3:4]) * np.cos(2 * np.pi * (hour - peak) / DAY)
    late = np.pad(temperature - level, ((0, 0), (2, 0)), mode="edge")[:, :LENGTH]
    peaks = np.exp(-(((hour % DAY) - 8) ** 2) / 8) + 1.3 * np.exp(-(((hour % DAY) - 19) ** 2) / 10)
    demand = 40 + 14 * (0.8 + 0.4 * own[:, 4:5]) * peaks + coupling * late + _ar(noise[:, 1], 0.7, 0.8)
    scarce = _chain(u[:, 8 + 3 * LENGTH :])
    price = 30 + 0.8 * (demand - 45) + scarce * (20 + 8 * own[:, 5:6]) + _ar(noise[:, 2], 0.5, 1.2)
    return _with_gaps(np.stack([temperature, demand, price], 2), items, seed, stream, missing), season


def _ar(noise: Float64[np.ndarray, "n l"], keep: float, size: float) -> Float64[np.ndarray, "n l"]:
    """x_t = keep x_(t-1) + size z_t, stationary from its first step on."""
    start = noise[:, :1] * size * keep / np.sqrt(1 - keep**2)
    return lfilter([size], [1, -keep], noise, axis=1, zi=start)[0]


def _chain(u: Float64[np.ndarray, "n l"]) -> Float64[np.ndarray, "n l"]:
    """The hidden regime, 1 where power is scarce."""
    states = [u[:, 0] < ENTER / (ENTER + LEAVE)]
    for step in range(1, u.shape[1]):
        states.append(np.where(states[-1], u[:, step] >= LEAVE, u[:, step] < ENTER))
    return np.stack(states, 1).astype(np.float64)


def _with_gaps(
    values: Float64[np.ndarray, "n l c"], items: Int64[np.ndarray, " n"], seed: int, stream: str, missing: float
) -> Float64[np.ndarray, "n l c"]:
    """In a share of the series each channel has a gap of up to a day with chance 1/2, and 4 % of its values missing."""
    n, length, channels = values.shape
    u = uniforms(seed, f"gaps/{stream}", items, 1 + 3 * channels + length * channels)
    gap, points = u[:, 1 : 1 + 3 * channels].reshape(n, 1, channels, 3), u[:, 1 + 3 * channels :].reshape(values.shape)
    begin, wide = gap[..., 1] * length, 3 + gap[..., 2] * (DAY - 3)
    step = np.arange(length)[None, :, None]
    gone = (gap[..., 0] < 0.5) & (step >= begin) & (step < begin + wide) | (points < 0.04)
    return np.where(gone & (u[:, :1, None] < missing), np.nan, values)
