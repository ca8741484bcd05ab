"""Frechet distance between Gaussians fitted to two sets of features.

    d^2 = |m_1 - m_2|^2 + tr C_1 + tr C_2 - 2 tr (C_1^{1/2} C_2 C_1^{1/2})^{1/2}

With m the means and C the covariances: the squared 2-Wasserstein distance between N(m_1, C_1) and N(m_2, C_2)
(Dowson and Landau, 1982), called FID on Inception features (Heusel et al., 2017, arXiv:1706.08500) and FAD in
audio.

The last trace is the nuclear norm of R_1^T R_2 for any roots C = R R^T. Singular values of a product of roots
lose no digits where the usual square root of the non-symmetric product C_1 C_2 does: no complex part to
discard, no diagonal offset for singular covariances, nothing special when there are fewer samples than
dimensions.

The distance of n samples is biased upwards (about as 1/n): compare distances of equal n only. Its interval is
`intervals.block_interval`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .rows import as_rows


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and scatter of feature rows: all that the distance needs, and exact under merging.

    `scatter` is the sum of (x - mean)(x - mean)^T, so that merging two sets adds scatters and one rank-one
    term (Chan, Golub and LeVeque, 1979) and no digits are lost to a difference of large sums.
    """

    n: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, features: np.ndarray | Tensor) -> Moments:
        """Return the moments of features (N, D), N >= 1."""
        rows = as_rows(features, "features")
        if len(rows) == 0:
            raise ValueError("features have no rows: moments need at least one")
        mean = rows.mean(axis=0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    @classmethod
    def gaussian(cls, mean: np.ndarray, cov: np.ndarray) -> Moments:
        """Return the exact moments of N(mean, cov), for closed forms and published statistics."""
        return cls(2, np.asarray(mean, dtype=np.float64), np.asarray(cov, dtype=np.float64))

    def update(self, features: np.ndarray | Tensor) -> Moments:
        """Return the moments of these rows and further features (N, D) together."""
        return self.merge(Moments.of(features))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the union of both sets of rows."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"cannot merge moments of {self.mean.size} and of {other.mean.size} dimensions")
        n = self.n + other.n
        step = other.mean - self.mean
        mean = self.mean + step * (other.n / n)
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, mean, scatter)

    @property
    def cov(self) -> Float[np.ndarray, "d d"]:
        """The unbiased covariance, scatter / (n - 1)."""
        if self.n < 2:
            raise ValueError("a covariance needs at least two rows, got 1")
        return self.scatter / (self.n - 1)

    @cached_property
    def root(self) -> Float[np.ndarray, "d r"]:
        """R with R R^T = cov, of as many columns as cov has rank."""
        values, vectors = np.linalg.eigh(self.cov)
        # Below this, eigenvalues are rounding; their square roots (1e-8) would not be negligible.
        kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
        return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the squared Frechet distance d^2 >= 0 between the Gaussians of two sets of moments.

    Raises:
        ValueError: if the dimensions differ, or a set has fewer than two rows.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"features of {first.mean.size} and of {second.mean.size} dimensions have no distance")
    shift = first.mean - second.mean
    overlap = np.linalg.svd(first.root.T @ second.root, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.trace(first.cov) + np.trace(second.cov) - 2 * overlap))
