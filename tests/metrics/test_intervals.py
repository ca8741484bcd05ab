"""Intervals cover what they say: by simulation, against textbook values, and where the data are silent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from framework.metrics.frechet import Moments, frechet_distance
from framework.metrics.intervals import (
    Interval,
    assign_blocks,
    block_interval,
    combine,
    mean_interval,
    t_interval,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (81, 263), (10, 10), (1, 1)])
def test_wilson_agrees_with_scipy(successes, n):
    exact = stats.binomtest(successes, n).proportion_ci(method="wilson")
    value, low, high = wilson(successes, n)
    assert (value, low, high) == pytest.approx((successes / n, exact.low, exact.high), abs=1e-12)
    assert low <= value <= high


def test_wilson_covers():
    """The exact coverage, summed over the binomial distribution, is near 95 %."""
    for n, p in ((50, 0.5), (200, 0.9), (500, 0.97)):
        covered = [low <= p <= high for _, low, high in (wilson(k, n) for k in range(n + 1))]
        assert 0.93 <= stats.binom.pmf(np.arange(n + 1), n, p) @ np.array(covered) <= 0.97


def test_mean_interval_covers_the_mean_of_skewed_values():
    rng = np.random.default_rng(0)
    runs = [mean_interval(rng.exponential(size=60), seed=i, resamples=999) for i in range(300)]
    assert 0.89 <= np.mean([low <= 1.0 <= high for _, low, high in runs]) <= 0.99


def test_mean_interval_depends_on_its_seed_alone():
    values = np.random.default_rng(1).normal(size=40)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_silence_is_said():
    """Equal values or a single one say nothing of the spread: the ends are NaN, not a width of zero."""
    for interval in (mean_interval(np.ones(9), seed=0), t_interval(np.array([2.0]))):
        assert interval.value in (1.0, 2.0)
        assert math.isnan(interval.low) and math.isnan(interval.high)


def test_t_interval_of_a_textbook_sample():
    """Values 1..5: mean 3, standard error sqrt(2.5 / 5), t_{4, 0.975} = 2.776."""
    assert t_interval(np.arange(1.0, 6.0)) == pytest.approx((3, 3 - 1.9632, 3 + 1.9632), abs=1e-3)


def test_jackknife_of_a_mean_is_the_t_interval_of_block_means():
    """For a linear statistic the delete-block jackknife is exactly Student's interval over block means."""
    x = np.random.default_rng(2).normal(size=(60, 1))
    labels = assign_blocks(60, 6, seed=5)
    exact = t_interval(np.array([x[labels == b].mean() for b in range(6)]))
    interval = block_interval(lambda rows, _: float(rows.mean()), x, None, blocks=6, seed=5)
    assert interval == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize(
    ("scale", "shift", "highest"),
    [(1.0, 1.0, 0.99), (1.6, 0.3, 0.99), (1.0, 0.0, 1.0)],
    ids=["shifted", "wider", "equal"],
)
def test_coverage_of_the_frechet_interval(scale, shift, highest):
    """Nominal 95 % covers 88 to 99 % of the expected distance at that n; equal distributions only ever too
    wide.

    The expectation is the mean over all repetitions, whose own error is a twentieth of an interval's width.
    """
    rng = np.random.default_rng(3)
    reference = Moments.gaussian(np.zeros(6), np.diag([1.0, 2.0, 0.5, 1.0, 0.1, 1.0]))
    spread = scale * np.sqrt(np.diag(reference.cov))

    def distance(rows, moments):
        return frechet_distance(Moments.of(rows), moments)

    runs = [
        block_interval(distance, shift + spread * rng.normal(size=(200, 6)), reference, seed=i, support=(0, math.inf))
        for i in range(300)
    ]
    expectation = np.mean([run.value for run in runs])
    assert 0.88 <= np.mean([run.low <= expectation <= run.high for run in runs]) <= highest


def test_interval_contains_its_value_where_a_bootstrap_would_not():
    """32 dimensions and 100 samples: resampling rows raises the distance past the value itself."""
    rng = np.random.default_rng(4)
    x, reference = rng.normal(size=(100, 32)), Moments.gaussian(np.zeros(32), np.eye(32))

    def distance(rows, moments):
        return frechet_distance(Moments.of(rows), moments)

    value, low, high = block_interval(distance, x, reference, blocks=20)
    bootstrap = [distance(x[rng.integers(100, size=100)], reference) for _ in range(50)]
    assert value < min(bootstrap)
    assert low < value < high


def test_support_cuts_the_interval():
    x = np.random.default_rng(5).normal(size=(20, 1))
    interval = block_interval(lambda rows, _: float(rows.mean() ** 2), x, None, blocks=5, support=(0, math.inf))
    assert interval.low >= 0


def test_combined_distances_add_in_squares_on_each_side():
    assert combine(Interval(5, 2, 6), Interval(5, 1, 5)) == pytest.approx((5, 0, 6))
    with pytest.raises(ValueError, match="one value"):
        combine(Interval(5, 2, 6), Interval(4, 1, 5))


def test_blocks_are_a_random_balanced_partition():
    labels = assign_blocks(103, 10, seed=0)
    assert sorted(np.bincount(labels)) == [10] * 7 + [11] * 3
    assert (labels != assign_blocks(103, 10, seed=1)).any()
    with pytest.raises(ValueError, match="choose 2 <= blocks <= 3"):
        assign_blocks(3, 4, seed=0)
