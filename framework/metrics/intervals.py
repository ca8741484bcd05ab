"""Intervals: what the measured value would be, had other samples been drawn from the same model.

Three kinds of statistics need three kinds of interval.

- A proportion (how many samples are right): Wilson's score interval (1927), sane at 0 and 1 and for small n.
- A mean of per-sample values: the BCa bootstrap (Efron, 1987).
- A function of the whole set, theta_n = f(x_1 .. x_n), such as the Frechet distance: the delete-block
  jackknife.

**Why not a percentile bootstrap of a set statistic.** A resample has repeated rows, hence a covariance of
lower rank and a larger Frechet distance: with 256 dimensions and n = 2000 the interval lies entirely above
the value itself. And the spread of the distances of n/B samples is that of another, more biased, statistic.

**The delete-block jackknife.** Split the n samples at random into B blocks and let theta_(b) be the statistic
without block b. With theta_bar the mean of the theta_(b),

    v = (B - 1)/B sum_b (theta_(b) - theta_bar)^2,        interval: theta_n -+ t_{B-1} sqrt(v).

For theta_n = theta + mean_i psi(x_i) + o(n^{-1/2}) (the Frechet distance between different distributions),
theta_(b) - theta_bar is -(mean of psi in block b, centred)/(B - 1), so that v is the sample variance of B
independent block means divided by B: it estimates Var theta_n, with B - 1 degrees of freedom. Otherwise, and
also where the linear term vanishes (equal distributions), Efron and Stein (1981, *The jackknife estimate of
variance*) prove that the expectation of v B/(B - 1) is at least Var theta_{n - n/B}, whatever f: the interval
errs on the wide side (in the degenerate quadratic case by a factor sqrt 2).

**What it covers.** The expectation of theta_n *at this n and this reference* over new samples, biased as it
is; not the limit of infinite n, and not the training of another model. The theta_(b) all have the same bias
(that of n - n/B), which cancels in their differences; the value reported is that of all n samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from .rows import Rows, as_rows

Reference = TypeVar("Reference")
REAL_LINE = (-math.inf, math.inf)


class Interval(NamedTuple):
    """A value and the ends of its interval; NaN ends where the data say nothing of the spread."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Return successes / n with Wilson's score interval, which lies within [0, 1]."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    share = successes / n
    z = float(stats.norm.ppf(0.5 + level / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 and 1 one end equals the value in exact arithmetic; rounding must not push it past.
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def t_interval(values: np.ndarray, *, level: float = 0.95) -> Interval:
    """Return the mean of independent values (one per seed or per run, (B,)) with Student's interval.

    Of a statistic of n samples computed for each of B seeds this covers its expectation at that n.
    """
    values = _vector(values, "values")
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def mean_interval(values: np.ndarray, *, seed: int, level: float = 0.95, resamples: int = 4999) -> Interval:
    """Return the mean of per-sample values (N,) with a BCa bootstrap interval.

    The ends are NaN where all values are equal: the bootstrap knows nothing then. For 0/1 values use
    `wilson`.
    """
    values = _vector(values, "values")
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return Interval(mean, math.nan, math.nan)
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 2**22 // len(values)),
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(result.low), float(result.high))


def block_interval(
    function: Callable[[Rows, Reference], float],
    samples: np.ndarray | Tensor,
    reference: Reference,
    *,
    blocks: int = 20,
    seed: int = 0,
    level: float = 0.95,
    support: tuple[float, float] = REAL_LINE,
) -> Interval:
    """Return function(samples, reference) with its delete-block jackknife interval (derived above).

    Arguments:
        function: the statistic; symmetric in the rows of the samples. It is called blocks + 1 times.
        samples: features (N, D), independent rows.
        reference: handed to the function as it is and held fixed: pass what can be computed once, such as
            `Moments`.
        blocks: number of blocks, 2 <= blocks <= N; more of them make a steadier interval and cost more.
        seed: of the assignment of rows to blocks.
        level: nominal coverage.
        support: the range of the statistic; the interval is cut to it.
    """
    rows = as_rows(samples, "samples")
    labels = assign_blocks(len(rows), blocks, seed)
    left_out = np.array([function(rows[labels != b], reference) for b in range(blocks)])
    return jackknife_interval(function(rows, reference), left_out, level=level, support=support)


def jackknife_interval(
    value: float,
    left_out: Float[np.ndarray, " b"],
    *,
    level: float = 0.95,
    support: tuple[float, float] = REAL_LINE,
) -> Interval:
    """Return the interval of a statistic from its values without each of B blocks of equal size."""
    left_out = _vector(left_out, "left_out")
    blocks = len(left_out)
    if blocks < 2:
        raise ValueError(f"a jackknife needs at least 2 blocks, got {blocks}")
    variance = (blocks - 1) / blocks * np.sum((left_out - left_out.mean()) ** 2)
    half = float(stats.t.ppf(0.5 + level / 2, blocks - 1) * math.sqrt(variance))
    return Interval(value, max(value - half, support[0]), min(value + half, support[1]))


def combine(first: Interval, second: Interval) -> Interval:
    """Return the interval of one value that varies for two independent reasons, each with its own interval.

    The distances from the value to either end add in squares (MOVER: Zou and Donner, 2008), as standard
    errors would, but each side on its own.
    """
    if first.value != second.value:
        raise ValueError(f"two intervals of one value expected, got values {first.value} and {second.value}")
    value = first.value
    low = value - math.hypot(value - first.low, value - second.low)
    return Interval(value, low, value + math.hypot(first.high - value, second.high - value))


def assign_blocks(n: int, blocks: int, seed: int) -> Int[np.ndarray, " n"]:
    """Return a block number for each of n rows: a random partition into blocks of equal size (within one)."""
    if not 2 <= blocks <= n:
        raise ValueError(f"{n} rows cannot be split into {blocks} blocks: choose 2 <= blocks <= {n}")
    return np.random.default_rng(seed).permutation(np.arange(n) % blocks)


def _vector(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"{name} must be a non-empty vector of finite numbers, got shape {values.shape}")
    return values
