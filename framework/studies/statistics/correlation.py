"""Does the order of methods in one domain hold in another? Rank correlation with an interval.

The methods are taken as drawn from those that one could have tried: the intervals say what another choice of as many
methods would have given, and with 12 methods they are wide. By Fisher's z = artanh(r):

    Spearman   var z = (1 + r^2/2) / (m - 3)      (Bonett and Wright, 2000, Psychometrika 65)
    Kendall    var z = 0.437 / (m - 4)            (Fieller, Hartley and Pearson, 1957)
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy import stats

from framework.metrics.intervals import Interval

LARGEST = 1 - 1e-12


def spearman(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " m"], *, level: float = 0.95) -> Interval:
    """Spearman's rho of the methods that both domains have (finite values); NaN for fewer than three of them."""
    first, second = _common(first, second)
    if not _ordered(first, second):
        return Interval(math.nan, math.nan, math.nan)
    value = float(stats.spearmanr(first, second).statistic)
    return _by_fisher(value, (1 + value**2 / 2), len(first) - 3, level)


def kendall(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " m"], *, level: float = 0.95) -> Interval:
    """Kendall's tau-b, likewise."""
    first, second = _common(first, second)
    if not _ordered(first, second):
        return Interval(math.nan, math.nan, math.nan)
    return _by_fisher(float(stats.kendalltau(first, second).statistic), 0.437, len(first) - 4, level)


def _common(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(first) & np.isfinite(second)
    return np.asarray(first)[known], np.asarray(second)[known]


def _ordered(first: np.ndarray, second: np.ndarray) -> bool:
    return len(first) >= 3 and bool(np.ptp(first) > 0 and np.ptp(second) > 0)


def _by_fisher(value: float, numerator: float, degrees: int, level: float) -> Interval:
    if degrees < 1:
        return Interval(value, math.nan, math.nan)
    z = math.atanh(max(-LARGEST, min(LARGEST, value)))
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt(numerator / degrees)
    if abs(value) >= LARGEST:  # all methods agree; z is infinite, and its interval says nothing of the other end
        return Interval(value, math.nan, math.nan)
    return Interval(value, math.tanh(z - half), math.tanh(z + half))
