"""Shares of samples that are right, alone and in pairs.

For two methods on the same samples let a be the number right in both, b in the first alone, c in the second alone, d
in neither, n their sum. The difference is (b - c)/n.

- McNemar (1947): under no difference b is binomial(b + c, 1/2). Exact below 25 discordant samples, chi^2 = (b - c)^2 /
  (b + c) from there on (the exact test is conservative there, by half the probability of what was seen).
- Newcombe (1998, Stat. Med. 17, method 10): the interval of the difference from the two Wilson intervals and the
  correlation phi of the two answers; sane where all samples agree, where a bootstrap says nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom, norm

from .estimates import Estimates

FEW_DISCORDANT = 25


class Counts(NamedTuple):
    """Samples by what two methods made of them, an entry a pair of methods."""

    both: Int[np.ndarray, " c"]
    first: Int[np.ndarray, " c"]
    second: Int[np.ndarray, " c"]
    neither: Int[np.ndarray, " c"]

    @property
    def n(self) -> np.ndarray:
        return self.both + self.first + self.second + self.neither


def count(first: Float[np.ndarray, "c n"], second: Float[np.ndarray, "c n"]) -> Counts:
    """Count 0/1 values over the samples that both have (no NaN)."""
    known = np.isfinite(first) & np.isfinite(second)
    right, other = first > 0.5, second > 0.5
    parts = (right & other, right & ~other, ~right & other, ~right & ~other)
    return Counts(*((part & known).sum(axis=-1) for part in parts))


def wilson(successes: np.ndarray, n: np.ndarray, *, level: float = 0.95) -> Estimates:
    """Shares with Wilson's score interval; NaN where n is 0."""
    return _wilson(np.asarray(successes, float), np.asarray(n, float), float(norm.ppf(0.5 + level / 2)))


def mcnemar(counts: Counts) -> Float[np.ndarray, " c"]:
    """Two-sided p of no difference; 1 where no sample is discordant."""
    discordant = counts.first + counts.second
    exact = np.minimum(1.0, 2 * binom.cdf(np.minimum(counts.first, counts.second), discordant, 0.5))
    z = np.abs(counts.first - counts.second) / np.sqrt(np.maximum(discordant, 1))
    return np.where(discordant < FEW_DISCORDANT, exact, 2 * norm.sf(z))


def newcombe(counts: Counts, *, level: float = 0.95) -> Estimates:
    """The difference of the two shares (first - second) with Newcombe's paired interval; NaN where n is 0."""
    return _newcombe(counts, np.full(counts.n.shape, float(norm.ppf(0.5 + level / 2))))


def equivalent_shares(counts: Counts, margin: float | np.ndarray) -> Float[np.ndarray, " c"]:
    """P of the two one-sided tests that the difference is not within -margin .. margin.

    It is the smallest a for which Newcombe's interval of level 1 - 2a lies within the margin.
    """
    margin = np.broadcast_to(np.asarray(margin, float), counts.n.shape)
    narrow, wide = np.zeros(counts.n.shape), np.full(counts.n.shape, 40.0)
    for _ in range(60):
        z = (narrow + wide) / 2
        _, low, high = _newcombe(counts, z)
        inside = (low > -margin) & (high < margin)
        narrow, wide = np.where(inside, z, narrow), np.where(inside, wide, z)
    difference = np.abs(_newcombe(counts, narrow).value)
    return np.where(counts.n == 0, np.nan, np.where(difference < margin, norm.sf(narrow), 1.0))


def _wilson(successes: np.ndarray, n: np.ndarray, z: float | np.ndarray) -> Estimates:
    with np.errstate(invalid="ignore", divide="ignore"):
        share = successes / n
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 and 1 one end equals the value in exact arithmetic; rounding must not push it past.
    return Estimates(share, np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0))


def _newcombe(counts: Counts, z: np.ndarray) -> Estimates:
    a, b, c, d = (np.asarray(part, float) for part in counts)
    n = a + b + c + d
    p, low_p, high_p = _wilson(a + b, n, z)
    q, low_q, high_q = _wilson(a + c, n, z)
    product = a * d - b * c
    product = np.where(product > 0, np.maximum(product - n / 2, 0.0), product)
    sides = (a + b) * (c + d) * (a + c) * (b + d)
    phi = np.where(sides > 0, product / np.sqrt(np.where(sides > 0, sides, 1.0)), 0.0)
    below = np.sqrt((p - low_p) ** 2 - 2 * phi * (p - low_p) * (high_q - q) + (high_q - q) ** 2)
    above = np.sqrt((high_p - p) ** 2 - 2 * phi * (high_p - p) * (q - low_q) + (q - low_q) ** 2)
    difference = np.where(n > 0, (b - c) / np.maximum(n, 1), math.nan)
    return Estimates(difference, difference - below, difference + above)
