"""Means, shares and differences against closed forms, other implementations, and what must hold whatever the data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from framework.studies.statistics.bootstrap import Resamples, bca_means
from framework.studies.statistics.equivalence import equivalent_means
from framework.studies.statistics.families import holm
from framework.studies.statistics.paired import paired_differences, variance
from framework.studies.statistics.seed_blocks import block_differences, jackknife_means, student_means
from framework.studies.statistics.shares import Counts, count, equivalent_shares, mcnemar, newcombe, wilson

ONE = (np.array([0]), np.array([1]))


def test_bca_agrees_with_scipy():
    """Up to the two bootstraps' own chance, and the few percent by which ours is wider."""
    values = np.random.default_rng(0).lognormal(size=400)
    theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(1))
    low, high = theirs.confidence_interval
    ours = bca_means(values[:, None], Resamples(400, 8000))
    assert ours.value[0] == pytest.approx(values.mean())
    assert ours.high[0] == pytest.approx(high, abs=0.05 * (high - low))
    assert ours.low[0] == pytest.approx(
        min(low, stats.t.interval(0.95, 399, ours.value[0], stats.sem(values))[0]), abs=0.05
    )


def test_bca_is_never_inside_student():
    values = np.random.default_rng(0).standard_t(3, size=(50, 40))
    mean, low, high = bca_means(values, Resamples(50, 500))
    inner = stats.t.interval(0.95, 49, mean, stats.sem(values))
    assert (low <= inner[0] + 1e-12).all() and (high >= inner[1] - 1e-12).all()
    assert (low < inner[0] - 1e-3).any() and (high > inner[1] + 1e-3).any()


def test_bca_moves_and_scales_with_the_data():
    values = np.random.default_rng(2).exponential(size=(60, 3))
    plain, moved = bca_means(values, Resamples(60, 500)), bca_means(-3 * values + 7, Resamples(60, 500))
    assert moved.value == pytest.approx(-3 * plain.value + 7)
    assert moved.low == pytest.approx(-3 * plain.high + 7, rel=0.02)
    assert moved.high == pytest.approx(-3 * plain.low + 7, rel=0.02)


def test_what_is_not_measured_is_left_out():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(80, 2))
    values[60:, 1] = math.nan
    value, low, high = bca_means(values, Resamples(80, 4000))
    alone = bca_means(values[:60, 1:], Resamples(60, 4000))
    assert value[1] == pytest.approx(alone.value[0])
    assert (low[1], high[1]) == pytest.approx((alone.low[0], alone.high[0]), abs=0.05)
    assert high[0] - low[0] < high[1] - low[1]


def test_constants_have_no_interval():
    values = np.full((20, 2), 0.1)
    values[:, 1] = np.arange(20)
    _, low, high = bca_means(values, Resamples(20, 100))
    assert np.isnan([low[0], high[0]]).all() and np.isfinite([low[1], high[1]]).all()


def test_resamples_are_the_same_in_chunks(monkeypatch):
    values = np.random.default_rng(0).normal(size=(30, 2))
    whole = Resamples(30, 64).means(values)
    monkeypatch.setattr("framework.studies.statistics.bootstrap.CHUNK", 30 * 7)
    assert whole == pytest.approx(Resamples(30, 64).means(values))


def test_differences_turn_with_their_order():
    values = np.random.default_rng(4).normal(size=(2, 50)) + np.random.default_rng(5).normal(size=50)
    there, back = paired_differences(values, *ONE, Resamples(50)), paired_differences(values, *ONE[::-1], Resamples(50))
    assert back.estimates.value == -there.estimates.value
    assert back.estimates.low == pytest.approx(-there.estimates.high, abs=0.01)
    assert back.p == pytest.approx(there.p)
    assert there.p[0] == pytest.approx(stats.ttest_rel(*values).pvalue)


def test_pairing_gain_is_that_of_the_correlation():
    """Of equal variances: unpaired over paired variance is 1/(1 - r)."""
    values = np.random.default_rng(6).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=20000).T
    assert paired_differences(values, *ONE, Resamples(20000, 10)).gain[0] == pytest.approx(10, rel=0.05)


def test_identical_methods_do_not_differ():
    values = np.tile(np.random.default_rng(7).normal(size=30), (2, 1))
    found = paired_differences(values, *ONE, Resamples(30, 100))
    assert found.p[0] == 1 and found.variance_paired[0] == 0 and found.gain[0] == math.inf


def test_rounding_is_no_variance():
    assert variance(np.full((7, 1), 0.1) + np.zeros((7, 1)))[0] == 0
    assert variance(np.array([[1.0], [1.0 + 1e-9]]))[0] > 0


@pytest.mark.parametrize("counts", [(40, 6, 1, 3), (50, 0, 0, 0), (10, 12, 12, 4), (200, 60, 30, 10)])
def test_mcnemar(counts):
    _, b, c, _ = counts
    p = mcnemar(Counts(*(np.array([part]) for part in counts)))[0]
    if b + c < 25:
        exact = stats.binomtest(min(b, c), b + c, 0.5).pvalue if b + c else 1.0
        assert p == pytest.approx(exact)
    else:
        assert p == pytest.approx(stats.chi2.sf((b - c) ** 2 / (b + c), 1))


def test_newcombe_is_that_of_independent_shares_without_correlation():
    """phi = 0: the squares of both Wilson intervals' arms add (Newcombe's method for independent samples)."""
    counts = Counts(*(np.array([part]) for part in (24, 36, 16, 24)))  # 60 and 40 of 100, ad = bc
    difference, low, high = newcombe(counts)
    first, second = (wilson(np.array([k]), np.array([100])) for k in (60, 40))
    assert difference[0] == pytest.approx(0.2)
    assert low[0] == pytest.approx(0.2 - math.hypot(0.6 - first.low[0], second.high[0] - 0.4))
    assert high[0] == pytest.approx(0.2 + math.hypot(first.high[0] - 0.6, 0.4 - second.low[0]))


def test_newcombe_turns_and_narrows_with_agreement():
    agreeing, apart = (Counts(*(np.array([p]) for p in parts)) for parts in ((55, 5, 3, 37), (24, 36, 34, 6)))
    assert np.ptp(newcombe(agreeing)[1:]) < np.ptp(newcombe(apart)[1:])
    turned = Counts(agreeing.both, agreeing.second, agreeing.first, agreeing.neither)
    assert newcombe(turned).low[0] == pytest.approx(-newcombe(agreeing).high[0])
    every = newcombe(Counts(*(np.array([p]) for p in (50, 0, 0, 0))))
    assert every.value[0] == 0 and -0.1 < every.low[0] < -0.05 and 0.05 < every.high[0] < 0.1


def test_counting_leaves_out_what_either_lacks():
    counts = count(np.array([[1, 1, 0, 0, np.nan, 1]]), np.array([[1, 0, 1, 0, 1, np.nan]]))
    assert [int(part[0]) for part in counts] == [1, 1, 1, 1]


@pytest.mark.parametrize("level", [0.02, 0.05, 0.2])
def test_equivalence_is_an_interval_within_the_margin(level):
    rng = np.random.default_rng(8)
    counts = Counts(*rng.integers([[60], [1], [1], [5]], [[200], [8], [8], [30]], size=(4, 50)))
    _, low, high = newcombe(counts, level=1 - 2 * level)
    assert ((equivalent_shares(counts, 0.05) <= level) == ((low > -0.05) & (high < 0.05))).all()
    difference, error, df = rng.normal(0, 0.02, 50), rng.uniform(0.005, 0.03, 50), np.full(50, 12.0)
    half = stats.t.ppf(1 - level, 12) * error
    inside = (difference - half > -0.05) & (difference + half < 0.05)
    assert ((equivalent_means(difference, error, df, 0.05) <= level) == inside).all()
    assert 0 < inside.sum() < 50


def test_equivalence_of_the_identical():
    p = equivalent_means(np.array([0.0, 0.2]), np.zeros(2), np.array([9.0, 9.0]), 0.1)
    assert p.tolist() == [0.0, 1.0]


def test_holm():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_gap = holm(np.array([0.01, np.nan, 0.03]))
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.03]) and np.isnan(with_gap[1])
    assert holm(np.array([0.7, 0.9])).tolist() == [1.0, 1.0]


def test_student_over_seeds():
    values = np.array([[1.0, 2.0], [2.0, np.nan], [4.0, np.nan]])
    mean, low, high = student_means(values)
    assert mean.tolist() == [pytest.approx(7 / 3), 2.0]
    assert (low[0], high[0]) == pytest.approx(stats.t.interval(0.95, 2, 7 / 3, stats.sem(values[:, 0])))
    assert np.isnan([low[1], high[1]]).all()
    found = block_differences(np.array([[1.0, 2.0, 4.0], [1.5, 2.0, 3.0]]), *ONE)
    assert found.p[0] == pytest.approx(stats.ttest_rel([1, 2, 4], [1.5, 2, 3]).pvalue)


def test_jackknife_of_a_mean_is_student_over_block_means():
    """theta_n a mean of equal blocks: the delete-block jackknife is the t interval of the block means."""
    blocks = np.random.default_rng(9).normal(size=10)
    left_out = (blocks.sum() - blocks) / 9
    found = jackknife_means(np.array([[blocks.mean()]]), left_out[None, :, None])
    expected = student_means(blocks[:, None])
    assert [e[0] for e in found] == pytest.approx([e[0] for e in expected])
