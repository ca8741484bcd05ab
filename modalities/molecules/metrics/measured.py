"""Measurements from per-molecule results: a proportion, a pooled proportion, a set statistic, a median.

Molecules are the independent units. So what is pooled over atoms, or a property of the whole set, has the delete-block
jackknife over molecules (`framework.metrics.intervals`), and never an interval that takes atoms for independent.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from framework.metrics.intervals import Interval, assign_blocks, jackknife_interval, mean_interval, wilson
from framework.metrics.measurement import Measurement

BLOCKS = 20
SHARE = (0.0, 1.0)  # what a share can be
UNKNOWN = Interval(math.nan, math.nan, math.nan)


def unknown(seed: int, n: int = 0) -> Measurement:
    """What could not be measured."""
    return Measurement(*UNKNOWN, n=n, seed=seed)


def share(verdicts: Bool[np.ndarray, " n"], seed: int) -> Measurement:
    """How many of n verdicts are True, with Wilson's interval; NaN of none."""
    n = len(verdicts)
    return Measurement(*wilson(int(np.sum(verdicts)), n), n=n, seed=seed) if n else unknown(seed)


def blocks_of(n: int, seed: int) -> Int[np.ndarray, " n"]:
    """The jackknife's block of each of n molecules; a single one has a block, and no interval."""
    return assign_blocks(n, min(BLOCKS, n), seed) if n >= 2 else np.zeros(n, np.int64)


def jackknifed(
    value: float, left_out: Float[np.ndarray, " b"], n: int, seed: int, support: tuple[float, float]
) -> Measurement:
    """A set statistic of n molecules and its values without each block; no ends where one of those is unknown."""
    if not math.isfinite(value):
        return unknown(seed, n)
    if len(left_out) < 2 or not np.isfinite(left_out).all():
        return Measurement(value, math.nan, math.nan, n=n, seed=seed)
    return Measurement(*jackknife_interval(value, left_out, support=support), n=n, seed=seed)


def set_share(count: int, n: int, left_out: Float[np.ndarray, " b"], units: tuple[int, int], seed: int) -> Measurement:
    """count / n, a share that no independent trials make, with its jackknife interval.

    Arguments:
        left_out: the share without each block.
        units: successes among independent trials that come nearest to it. Where the jackknife sees no spread (all
            atoms stable, no molecule twice) its interval would be a point; Wilson's of these says what n allows.
    """
    if n == 0:
        return unknown(seed)
    measured = jackknifed(count / n, left_out, n, seed, SHARE)
    if not measured.low < measured.high and units[1]:
        # The ends hold the value itself, whatever the units' own share is.
        _, low, high = wilson(*units)
        return Measurement(count / n, min(low, count / n), max(high, count / n), n=n, seed=seed)
    return measured


def pooled_share(counts: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " n"], seed: int) -> Measurement:
    """sum counts / sum sizes over molecules; its n is the sum of sizes (atoms)."""
    labels = blocks_of(len(sizes), seed)
    kept_counts, kept_sizes = without_each(counts, labels), without_each(sizes, labels)
    left_out = np.divide(kept_counts, kept_sizes, out=np.full(len(kept_sizes), np.nan), where=kept_sizes > 0)
    total, n = int(counts.sum()), int(sizes.sum())
    filled = sizes > 0
    return set_share(total, n, left_out, (int((counts[filled] == sizes[filled]).sum()), int(filled.sum())), seed)


def without_each(values: np.ndarray, labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " b"]:
    """The sum of values (N,) without each block."""
    blocks = int(labels.max()) + 1 if len(labels) else 0
    return values.sum() - np.bincount(labels, weights=values, minlength=blocks)


def mean(values: Float[np.ndarray, " n"], seed: int) -> Measurement:
    """The mean of values of independent molecules with its bootstrap interval; NaN of none."""
    n = len(values)
    return Measurement(*mean_interval(values, seed=seed), n=n, seed=seed) if n else unknown(seed)


def median(values: Float[np.ndarray, " n"], seed: int, level: float = 0.95) -> Measurement:
    """The median of independent values, with the interval between two of them that covers it whatever the distribution.

    The number of values below the true median is binomial (n, 1/2): the order statistics at its quantiles are the ends.
    They are NaN for n < 6, where not even the least and the largest value cover it so often.
    """
    n = len(values)
    if n == 0:
        return unknown(seed)
    ordered = np.sort(values)
    below = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    if below < 1:
        return Measurement(float(np.median(ordered)), math.nan, math.nan, n=n, seed=seed)
    return Measurement(float(np.median(ordered)), float(ordered[below - 1]), float(ordered[n - below]), n=n, seed=seed)
