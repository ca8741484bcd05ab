"""Pareto fronts of cost and quality, and how sure it is that a point is on them.

A point is on the front if nothing that costs as much or less is better, and nothing of the same quality costs less.
With quality measured from samples the front is random; `probability` is the share of draws of all qualities together
(resamples that all points share, so that shared noise stays shared) in which a point is on it. It is a statement of
how stable the front is, and no p-value: of two equal points each is on it half of the time.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import chi2


def on_front(cost: Float[np.ndarray, " p"], quality: Float[np.ndarray, "r p"]) -> Bool[np.ndarray, "r p"]:
    """Which points are on the front, for each row of qualities (higher is better); NaN points never are."""
    result = np.zeros(quality.shape, dtype=bool)
    quality = np.where(np.isfinite(cost), quality, np.nan)
    best = np.full(len(quality), -np.inf)
    for value in np.unique(cost[np.isfinite(cost)]):
        same = np.flatnonzero(cost == value)
        here = np.where(np.isnan(quality[:, same]), -np.inf, quality[:, same])
        top = here.max(axis=1)
        result[:, same] = (here == top[:, None]) & (here > best[:, None])
        best = np.maximum(best, top)
    return result


def probability_best(quality: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " m"]:
    """Share of draws in which each method is best (ties share); NaN methods never are."""
    known = np.where(np.isnan(quality), -np.inf, quality)
    top = (known == known.max(axis=1, keepdims=True)) & np.isfinite(known)
    shares = top / np.maximum(top.sum(axis=1, keepdims=True), 1)
    return shares.mean(axis=0)


def draws_around(
    mean: Float[np.ndarray, " p"], deviations: Float[np.ndarray, "k p"], df: float, *, draws: int, seed: int
) -> Float[np.ndarray, "r p"]:
    """Draws of what the points may be: mean + sum_k g_k deviation_k / sqrt(chi^2_df / df).

    With the same normal g_k and the same chi^2 for all points this is a multivariate t whose covariance is
    deviations^T deviations: as wide as Student's interval, and shared noise stays shared.
    """
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(draws, len(deviations)))
    wide = np.sqrt(chi2.rvs(df, size=(draws, 1), random_state=rng) / df)
    return mean + (normal @ np.nan_to_num(deviations)) / wide


def seed_deviations(blocks: Float[np.ndarray, "s p"]) -> Float[np.ndarray, "s p"]:
    """(x_s - mean) / sqrt(S (S - 1)), whose squares sum to the variance of the mean of S blocks; NaN for one."""
    known = np.isfinite(blocks)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, blocks, 0.0).sum(axis=0) / n
        return np.where(known, blocks - mean, 0.0) / np.sqrt(n * (n - 1))


def jackknife_deviations(left_out: Float[np.ndarray, "s b p"]) -> Float[np.ndarray, "sb p"]:
    """Deviations of the values without a block, whose squares sum to the jackknife variance of the mean over seeds."""
    seeds, blocks, points = left_out.shape
    known = np.isfinite(left_out).all(axis=1, keepdims=True)
    deviation = np.where(known, left_out - left_out.mean(axis=1, keepdims=True), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = deviation * np.sqrt((blocks - 1) / blocks) / known.sum(axis=0, keepdims=True)
    return scaled.reshape(seeds * blocks, points)
