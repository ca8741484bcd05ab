"""The BCa bootstrap of means, for many columns of the same samples at once.

A resample of n rows is a vector w of how often each is drawn, so that the resampled mean of every column is one
product w.x / n. Columns that share rows (all methods of one seed: the same noise) share the resamples; differences
of columns are then differences of resampled means: that is the paired bootstrap.

The interval of level 1 - 2a lies between the quantiles Phi(z0 + (z0 -+ z_a) / (1 - c (z0 -+ z_a))) of the resampled
means, with z0 = Phi^-1(share of resampled means below the mean) and c = sum d^3 / (6 (sum d^2)^{3/2}) over the
deviations d of the rows (Efron, 1987). A bootstrap of few rows is too narrow, by sqrt((n - 1)/n) and by the normal
quantile in place of Student's; z_a is therefore sqrt(n/(n - 1)) t_{n-1, a} (Hesterberg, 2015, arXiv:1411.5279).

Neither end lies inside that of Student's interval. BCa follows a skewed sample, which t does not, but is deceived by
the few large values of a symmetric one with heavy tails, which t is not. Of 2000 repetitions, at 95 %, were covered:

                                        n = 64: BCa   t     both    n = 192: BCa   t     both
    normal                                      95.3  95.7  95.8             94.6  94.7  95.1
    Student's t with 3 df                       92.6  94.5  94.8             94.0  95.3  95.4
    difference of lognormal errors              91.1  95.1  95.2             92.6  95.1  95.4
    lognormal                                   92.8  91.2  95.0             93.5  93.5  95.5

Only for means: a resample repeats rows, which a Frechet distance takes for a set of lower rank (`framework.metrics.
intervals`). Of those use `jackknife` and `seed_blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from .estimates import Estimates

CHUNK = 2**22  # numbers of one chunk of resamples
RESAMPLES = 2000


@dataclass(frozen=True)
class Resamples:
    """The same resamples of n rows each time it is asked.

    Attributes:
        n: rows.
        count: resamples.
        seed: of the choice of rows.
    """

    n: int
    count: int = RESAMPLES
    seed: int = 0

    def weights(self) -> Iterable[Float[np.ndarray, "chunk n"]]:
        """How often each row is drawn, a chunk of resamples at a time."""
        return _kept(self) if self.count * self.n <= CHUNK else _drawn(self)

    def means(self, values: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "count c"]:
        """The mean of each column's finite values in each resample; NaN where a resample has none of them."""
        known = np.isfinite(values)
        filled = np.where(known, values, 0.0)
        if known.all():
            return np.concatenate([weights @ filled / self.n for weights in self.weights()])
        with np.errstate(invalid="ignore"):
            return np.concatenate([(w @ filled) / (w @ known.astype(np.float64)) for w in self.weights()])


def _drawn(resamples: Resamples) -> Iterator[Float[np.ndarray, "chunk n"]]:
    n, rng = resamples.n, np.random.default_rng(resamples.seed)
    done = 0
    while done < resamples.count:
        size = min(resamples.count - done, max(1, CHUNK // n))
        rows = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(rows.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        done += size


@lru_cache(maxsize=4)
def _kept(resamples: Resamples) -> tuple[Float[np.ndarray, "chunk n"], ...]:
    """A study asks for the same resamples many times: those of few samples are kept."""
    return tuple(_drawn(resamples))


def bca_means(values: Float[np.ndarray, "n c"], resamples: Resamples, *, level: float = 0.95) -> Estimates:
    """The mean of each column with its BCa interval.

    Args:
        values: rows are independent samples; NaN: not measured, left out of its column.
        resamples: of as many rows.
        level: nominal coverage.

    Returns:
        Estimates (c,). The ends are NaN where a column has fewer than two values, or none that differ: the bootstrap
        knows nothing then.
    """
    return bca_ends(values, resamples.means(values), level=level)


def bca_ends(
    values: Float[np.ndarray, "n c"], resampled: Float[np.ndarray, "count c"], *, level: float = 0.95
) -> Estimates:
    """The same of means that have been resampled already."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=0) / n
        deviation = np.where(known, values - mean, 0.0)
        spread = (deviation**2).sum(axis=0)
        skewness = (deviation**3).sum(axis=0) / (6 * spread**1.5)
        # Half of those that equal the mean count as below: means of few distinct values have ties.
        below = ((resampled < mean).sum(axis=0) + 0.5 * (resampled == mean).sum(axis=0)) / len(resampled)
        offset = ndtri(np.clip(below, 0.5 / len(resampled), 1 - 0.5 / len(resampled)))
        half = np.sqrt(n / (n - 1)) * student.ppf(0.5 + level / 2, np.maximum(n - 1, 1))
        shares = [ndtr(offset + (offset + z) / (1 - skewness * (offset + z))) for z in (-half, half)]
        silent = (n < 2) | (spread <= 1e-24 * n * np.maximum(mean**2, 1e-300)) | ~np.isfinite(resampled).all(axis=0)
        width = student.ppf(0.5 + level / 2, np.maximum(n - 1, 1)) * np.sqrt(spread / (n - 1) / n)
    low, high = (_quantiles(resampled, np.where(silent, 0.5, share)) for share in shares)
    low, high = np.minimum(low, mean - width), np.maximum(high, mean + width)
    return Estimates(mean, np.where(silent, math.nan, low), np.where(silent, math.nan, high))


def _quantiles(columns: Float[np.ndarray, "count c"], shares: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
    """The quantile of each column at its own share, between order statistics k/(count + 1)."""
    columns = np.sort(columns, axis=0)
    place = np.clip(shares * (len(columns) + 1) - 1, 0, len(columns) - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, len(columns) - 1)
    across = np.arange(columns.shape[1])
    low, high = columns[below, across], columns[above, across]
    return low + (place - below) * (high - low)
