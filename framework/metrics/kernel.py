"""Kernel distance (KID): the unbiased squared maximum mean discrepancy with the cubic polynomial kernel.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),        k(x, y) = (x.y / D + 1)^3

estimated by the U-statistic that leaves out the pairs of a row with itself (Gretton et al., 2012; Binkowski
et al., 2018, arXiv:1801.01401). It is unbiased at every n, so that it may be negative, and values of
different n compare.

Its interval is a delete-block jackknife (see `intervals`) over both sets at once: block b of the samples and
block b of the reference go together. The kernel's sums over pairs of blocks give all the left-out values for
the price of one evaluation: a left-out U-statistic is the sum of those sums that do not touch b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .intervals import Interval, assign_blocks, jackknife_interval
from .rows import Rows, as_rows

CHUNK = 1024


def polynomial_kernel(x: Rows, y: Rows) -> Float[np.ndarray, "n m"]:
    """Return k(x_i, y_j) = (x_i . y_j / D + 1)^3 for rows x (N, D) and y (M, D)."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def squared_mmd(samples: np.ndarray | Tensor, reference: np.ndarray | Tensor) -> float:
    """Return the unbiased squared MMD of features (N, D) and (M, D), N, M >= 2; it may be negative."""
    x, y = _pair(samples, reference)
    return _Sums.of(_chunks(x), _chunks(y)).estimate()


def kernel_distance(
    samples: np.ndarray | Tensor,
    reference: np.ndarray | Tensor,
    *,
    blocks: int = 20,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the unbiased squared MMD of all rows with an interval for its population value.

    Arguments:
        samples: features (N, D), independent rows.
        reference: features (M, D), independent rows.
        blocks: number of jackknife blocks; each set needs at least two rows besides its largest block.
        seed: of the assignment of rows to blocks.
        level: nominal coverage of the interval.
    """
    x, y = _pair(samples, reference)
    sums = _Sums.of(_blocks(x, blocks, seed), _blocks(y, blocks, seed + 1))
    left_out = np.array([sums.estimate(without=b) for b in range(blocks)])
    return jackknife_interval(sums.estimate(), left_out, level=level)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Kernel sums over pairs of parts (never of a row with itself), and the rows of each part."""

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    nx: np.ndarray
    ny: np.ndarray

    @classmethod
    def of(cls, xs: list[Rows], ys: list[Rows]) -> _Sums:
        xy = np.array([[polynomial_kernel(x, y).sum() for y in ys] for x in xs])
        return cls(_within(xs), _within(ys), xy, np.array([len(x) for x in xs]), np.array([len(y) for y in ys]))

    def estimate(self, without: int = -1) -> float:
        """The U-statistic of all parts, or of all but part `without` (>= 0) of both sets."""
        kept_x = np.arange(len(self.nx)) != without
        kept_y = np.arange(len(self.ny)) != without
        n, m = int(self.nx[kept_x].sum()), int(self.ny[kept_y].sum())
        within_x = self.xx[np.ix_(kept_x, kept_x)].sum() / (n * (n - 1))
        within_y = self.yy[np.ix_(kept_y, kept_y)].sum() / (m * (m - 1))
        return float(within_x + within_y - 2 * self.xy[np.ix_(kept_x, kept_y)].sum() / (n * m))


def _within(parts: list[Rows]) -> np.ndarray:
    sums = np.zeros((len(parts), len(parts)))
    for i, first in enumerate(parts):
        for j, second in enumerate(parts[: i + 1]):
            kernel = polynomial_kernel(first, second)
            sums[i, j] = sums[j, i] = kernel.sum() - (np.trace(kernel) if i == j else 0.0)
    return sums


def _chunks(rows: Rows) -> list[Rows]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _blocks(rows: Rows, blocks: int, seed: int) -> list[Rows]:
    labels = assign_blocks(len(rows), blocks, seed)
    return [rows[labels == b] for b in range(blocks)]


def _pair(samples: np.ndarray | Tensor, reference: np.ndarray | Tensor) -> tuple[Rows, Rows]:
    x, y = as_rows(samples, "samples"), as_rows(reference, "reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"samples have {x.shape[1]} dimensions and the reference {y.shape[1]}: they must agree")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"an unbiased MMD needs two rows of each, got {len(x)} samples and {len(y)} of reference")
    return x, y
