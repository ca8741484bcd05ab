"""Differences of means of methods that were given the same noise.

With d_i = x_i(a) - x_i(b) for sample i, mean d is the estimate, its interval the BCa bootstrap of d, and the test of
no difference Student's t on d with n - 1 degrees of freedom. Why t and not the bootstrap's own p: among all pairs of
36 methods Holm asks for p < 0.0001, finer than a bootstrap of 2000 resamples can tell; and if two methods are equal,
d is symmetric about 0 (they could be exchanged), where t holds its level or is below it, also with heavy tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student

from .bootstrap import Resamples, bca_ends
from .estimates import Estimates


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences of pairs of methods, an entry each.

    Attributes:
        estimates: difference (first - second) with interval.
        p: of no difference, two-sided, one comparison alone; NaN where it cannot be tested.
        error: standard error of the difference.
        df: degrees of freedom of that error.
        n: independent units behind it (samples, or seeds).
        variance_paired: of one unit's difference.
        variance_unpaired: the sum of both variances: of a difference of units that share nothing.
    """

    estimates: Estimates
    p: Float[np.ndarray, " c"]
    error: Float[np.ndarray, " c"]
    df: Float[np.ndarray, " c"]
    n: Int[np.ndarray, " c"]
    variance_paired: Float[np.ndarray, " c"]
    variance_unpaired: Float[np.ndarray, " c"]

    @property
    def gain(self) -> Float[np.ndarray, " c"]:
        """Unpaired over paired variance: so many times the samples would be needed without shared noise."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.variance_unpaired / self.variance_paired


def paired_differences(
    values: Float[np.ndarray, "m n"],
    first: Int[np.ndarray, " c"],
    second: Int[np.ndarray, " c"],
    resamples: Resamples,
    *,
    level: float = 0.95,
) -> Differences:
    """Compare methods first[k] and second[k] on the samples that both have.

    Args:
        values: a row a method, a column a sample; NaN: not measured.
        first: rows of the first of each pair.
        second: rows of the second.
        resamples: of n samples.
        level: nominal coverage.
    """
    first_values, second_values = values[first].T, values[second].T
    difference = first_values - second_values
    if np.isfinite(values).all():
        means = resamples.means(values.T)
        resampled = means[:, first] - means[:, second]
    else:
        resampled = resamples.means(difference)
    both = np.isfinite(difference)
    n = both.sum(axis=0)
    estimates = bca_ends(difference, resampled, level=level)
    paired = variance(difference)
    # The same samples for both variances, so that a method's own gaps do not look like a gain.
    alone = [variance(np.where(both, one, np.nan)) for one in (first_values, second_values)]
    error, df = np.sqrt(paired / np.maximum(n, 1)), (n - 1).astype(float)
    return Differences(estimates, student_p(estimates.value, error, df), error, df, n, paired, alone[0] + alone[1])


def student_p(difference: np.ndarray, error: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Two-sided p of Student's t; 1 where neither difference nor error is left, NaN without degrees of freedom."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * student.sf(np.abs(difference) / error, np.maximum(df, 1))
    p = np.where((error == 0) & (difference == 0), 1.0, p)
    return np.where((df >= 1) & np.isfinite(difference) & np.isfinite(error), p, np.nan)


def variance(values: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " c"]:
    """The unbiased variance of each column's finite values; NaN for fewer than two.

    What is only rounding (of the column's own size) is 0.
    """
    known = np.isfinite(values)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=0) / n
        result = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / (n - 1)
        rounding = (n * np.finfo(np.float64).eps * np.abs(mean)) ** 2
    return np.where(n >= 2, np.where(result <= rounding, 0.0, result), np.nan)
