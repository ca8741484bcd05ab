"""What a comparison of a given size can see.

Student's t test of n paired differences with standard deviation s finds a true difference d with probability

    power = P(|T| > t_{n-1}(1 - a/2)),    T noncentral t with n - 1 df and noncentrality d sqrt(n) / s.

With m comparisons in a family, Holm tests the smallest p at a/m: planning counts on no more than that (Bonferroni), so
that the real study sees at least as much. All in units of the metric.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import chi2, nct, norm
from scipy.stats import t as student

from .estimates import all_pairs
from .paired import variance

ALPHA, POWER = 0.05, 0.8
SURE = 0.8  # that a pilot's standard deviation is taken as no smaller than it is
MANY = 200  # degrees of freedom from which on normal quantiles are as good


def detectable(sd: float, n: int, *, comparisons: int = 1, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest difference that n paired units, with this standard deviation of their differences, can detect.

    Args:
        sd: standard deviation of one unit's difference, from a pilot or from the study itself.
        n: units (samples; or seeds, where each seed has one value).
        comparisons: in the family.
        alpha: chance of any false claim in the family.
        power: chance of seeing a difference of the size that is returned.

    Returns:
        NaN for fewer than two units.
    """
    if n < 2 or not math.isfinite(sd):
        return math.nan
    return sd / math.sqrt(n) * noncentrality(n - 1, alpha / max(1, comparisons), power)


def samples_needed(
    difference: float, sd: float, *, comparisons: int = 1, alpha: float = ALPHA, power: float = POWER
) -> int:
    """The smallest n with which a difference of this size is detected.

    Raises:
        ValueError: if the difference is not positive: no number of samples would do.
    """
    if not difference > 0:
        raise ValueError(f"a difference to be detected must be positive, got {difference}")
    low, high = 1, 2
    while not detectable(sd, high, comparisons=comparisons, alpha=alpha, power=power) <= difference:
        low, high = high, 2 * high
    while high - low > 1:
        n = (low + high) // 2
        if detectable(sd, n, comparisons=comparisons, alpha=alpha, power=power) <= difference:
            high = n
        else:
            low = n
    return high


class Plan(NamedTuple):
    """What n samples of each method will be able to see, from a pilot; medians over the pilot's pairs of methods.

    The standard deviation is the upper 80 % limit of the pilot's, since a pilot's own is too small half of the time
    (Browne, 1995, Stat. Med. 14), and so would be the study.
    """

    sd_paired: float
    detectable: float
    detectable_unpaired: float  # had every method noise of its own


def plan(
    pilot: Float[np.ndarray, "m k"],
    n: int,
    *,
    comparisons: int | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
) -> Plan:
    """Say before a study what it can detect.

    Args:
        pilot: values of m >= 2 methods on the same k samples; NaN: not measured.
        n: samples of each method in the study, over all seeds.
        comparisons: in a family of it; by default the pairs of the pilot's methods.
    """
    first, second = all_pairs(len(pilot))
    differences = (pilot[first] - pilot[second]).T
    paired = np.sqrt(variance(differences))
    both = np.isfinite(differences)
    unpaired = np.sqrt(sum(variance(np.where(both, pilot[rows].T, np.nan)) for rows in (first, second)))
    if not np.isfinite(paired).any() or n < 2:
        return Plan(math.nan, math.nan, math.nan)
    comparisons = len(first) if comparisons is None else comparisons
    df = max(1.0, float(np.median(both.sum(axis=0))) - 1)
    caution = math.sqrt(df / float(chi2.ppf(1 - SURE, df)))
    sd, unpaired_sd = (caution * float(np.nanmedian(one)) for one in (paired, unpaired))
    seen = [detectable(s, n, comparisons=comparisons, alpha=alpha, power=power) for s in (sd, unpaired_sd)]
    return Plan(sd, *seen)


@lru_cache(maxsize=4096)
def noncentrality(df: int, alpha: float, power: float) -> float:
    """How many standard errors a difference must have to be found by a two-sided t test."""
    if df >= MANY:
        # t quantiles for both; within 0.1 % of the noncentral t here.
        return float(student.ppf(1 - alpha / 2, df) + norm.ppf(power))
    critical = float(student.ppf(1 - alpha / 2, df))
    # The other tail of the test is never where a difference worth detecting falls.
    return float(brentq(lambda nc: nct.sf(critical, df, nc) - power, 0.0, 4 * critical + 10))
