"""Ranks, fronts, areas and power against closed forms, other implementations, and what must hold whatever the data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from framework.studies.statistics.area import area_weights
from framework.studies.statistics.correlation import kendall, spearman
from framework.studies.statistics.estimates import all_pairs
from framework.studies.statistics.friedman import block_ranks, critical_difference, friedman
from framework.studies.statistics.frontier import (
    draws_around,
    jackknife_deviations,
    on_front,
    probability_best,
    seed_deviations,
)
from framework.studies.statistics.power import detectable, noncentrality, plan, samples_needed
from framework.studies.statistics.seed_blocks import student_means


@pytest.mark.parametrize("seed", [0, 1])
def test_friedman_agrees_with_scipy(seed):
    values = np.random.default_rng(seed).integers(0, 6, size=(12, 5)).astype(float)  # with ties
    found = friedman(block_ranks(values, sign=1))
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*values.T).statistic)
    chi = found.statistic
    assert found.p == pytest.approx(stats.f.sf(11 * chi / (12 * 4 - chi), 4, 44))
    assert found.ranks.sum() == pytest.approx(15)


def test_rank_one_is_the_best():
    assert block_ranks(np.array([[3.0, 1.0, 1.0]]), sign=1).tolist() == [[1.0, 2.5, 2.5]]
    assert block_ranks(np.array([[3.0, 1.0, 1.0]]), sign=-1).tolist() == [[3.0, 1.5, 1.5]]


def test_critical_differences_are_demsars():
    """Table 5 (a) of Demsar (2006), q of 5 % for 2 to 10 classifiers, and the example in his text."""
    table = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
    for k, q in enumerate(table, start=2):
        assert critical_difference(k, 1) / math.sqrt(k * (k + 1) / 6) == pytest.approx(q, abs=1.5e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)


def test_blocks_that_all_agree():
    """By chance all blocks agree with the first with probability (1/k!)^(N - 1)."""
    found = friedman(np.tile([1.0, 2.0, 3.0], (4, 1)))
    assert found.p == pytest.approx((1 / 6) ** 3)
    assert found.statistic == pytest.approx(4 * 2)


def test_groups_are_the_largest():
    ranks = np.array([[1.0, 2.0, 2.2, 4.0, 5.8]])
    found = friedman(np.repeat(ranks, 3, axis=0))
    object.__setattr__(found, "critical_difference", 1.9)
    assert found.groups() == [(0, 1, 2), (2, 3), (3, 4)]


def test_one_block_ranks_but_does_not_test():
    found = friedman(np.array([[1.0, 2.0]]))
    assert found.ranks.tolist() == [1, 2] and found.groups() == [(0, 1)]
    assert np.isnan([found.p, found.critical_difference]).all()


def test_rank_correlations_cover():
    """Spearman's rho of a normal pair is 6/pi asin(r/2), Kendall's tau 2/pi asin(r)."""
    rng, r = np.random.default_rng(10), 0.7
    truths = {spearman: 6 / math.pi * math.asin(r / 2), kendall: 2 / math.pi * math.asin(r)}
    pairs = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=(400, 24))
    for statistic, truth in truths.items():
        found = [statistic(pair[:, 0], pair[:, 1]) for pair in pairs]
        assert 0.92 <= np.mean([low <= truth <= high for _, low, high in found]) <= 0.985


def test_rank_correlation_of_few_or_equal_methods():
    order = np.arange(6.0)
    assert spearman(order, order**3).value == pytest.approx(1) and math.isnan(spearman(order, order).low)
    assert math.isnan(spearman(order, np.zeros(6)).value)
    assert math.isnan(kendall(order[:2], order[:2]).value)
    with_gap = np.array([0, 1, np.nan, 3, 5, 4.0])
    assert kendall(order, with_gap).value == pytest.approx(stats.kendalltau(order[[0, 1, 3, 4, 5]], [0, 1, 3, 5, 4])[0])


def test_front_by_hand():
    cost = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 4.0])
    quality = np.array([[1.0, 2.0, 2.0, 5.0, 5.0, np.nan]])
    assert on_front(cost, quality).tolist() == [[False, True, False, True, True, False]]
    assert on_front(np.array([np.nan, 1.0]), np.array([[9.0, 1.0]])).tolist() == [[False, True]]


def test_nothing_on_the_front_is_beaten():
    rng = np.random.default_rng(11)
    cost, quality = rng.integers(1, 6, 30).astype(float), rng.normal(size=(1, 30))
    front = on_front(cost, quality)[0]
    for k in range(30):
        beaten = ((cost <= cost[k]) & (quality[0] > quality[0, k])) | ((cost < cost[k]) & (quality[0] == quality[0, k]))
        assert front[k] == (not beaten.any())


def test_equal_methods_are_best_equally_often():
    draws = np.random.default_rng(12).normal(size=(4000, 2))
    assert probability_best(draws) == pytest.approx([0.5, 0.5], abs=0.03)
    assert probability_best(np.array([[1.0, 1.0, np.nan]])).tolist() == [0.5, 0.5, 0.0]


def test_draws_are_as_wide_as_students_interval():
    blocks = np.random.default_rng(13).normal(size=(4, 2)) @ np.array([[1.0, 1.0], [0.0, 0.1]])
    mean = blocks.mean(axis=0)
    draws = draws_around(mean, seed_deviations(blocks), 3, draws=40000, seed=0)
    expected = student_means(blocks)
    for column in range(2):
        ends = np.quantile(draws[:, column], [0.025, 0.975])
        assert ends == pytest.approx([expected.low[column], expected.high[column]], rel=0.05, abs=0.05)
    apart, truth = draws[:, 0] - draws[:, 1], blocks[:, 0] - blocks[:, 1]
    assert np.ptp(np.quantile(apart, [0.25, 0.75])) == pytest.approx(
        2 * stats.t.ppf(0.75, 3) * stats.sem(truth), rel=0.05
    )


def test_jackknife_deviations_hold_its_variance():
    left_out = np.random.default_rng(14).normal(size=(3, 10, 1))
    deviations = jackknife_deviations(left_out)
    per_seed = 9 / 10 * ((left_out - left_out.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    assert (deviations**2).sum() == pytest.approx(per_seed.sum() / 9)


def test_area_of_a_line_in_doublings_is_its_middle():
    evaluations = np.array([16.0, 4.0, 8.0])
    weights = area_weights(evaluations, 4, 16)
    assert weights.sum() == pytest.approx(1)
    assert weights @ np.log2(evaluations) == pytest.approx(3)
    assert area_weights(evaluations, 5, 12) @ np.log2(evaluations) == pytest.approx(np.log2([5, 12]).mean())


def test_area_by_hand():
    assert area_weights(np.array([4.0, 8.0, 16.0]), 4, 16).tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert area_weights(np.array([1.0, 4.0, 8.0]), 4, 8).tolist() == pytest.approx([0.0, 0.5, 0.5])
    with pytest.raises(ValueError, match="do not cover"):
        area_weights(np.array([4.0, 8.0]), 2, 8)
    with pytest.raises(ValueError, match="same number"):
        area_weights(np.array([4.0, 4.0, 8.0]), 4, 8)


@pytest.mark.parametrize(("n", "comparisons"), [(3, 1), (3, 66), (20, 10), (64, 66), (500, 66)])
def test_detectable_difference_is_found_in_four_of_five(n, comparisons):
    difference = detectable(2.0, n, comparisons=comparisons)
    critical = stats.t.ppf(1 - 0.025 / comparisons, n - 1)
    assert stats.nct.sf(critical, n - 1, difference * math.sqrt(n) / 2) == pytest.approx(0.8, abs=2e-3)


def test_samples_needed_turns_detectable_round():
    for difference in (0.05, 0.3, 2.0):
        n = samples_needed(difference, 1.0, comparisons=15)
        assert detectable(1.0, n, comparisons=15) <= difference < detectable(1.0, n - 1, comparisons=15) or n == 2
    with pytest.raises(ValueError, match="positive"):
        samples_needed(0.0, 1.0)


def test_seed_blocks_see_little():
    """Of three seeds and 66 comparisons a difference must be 46 standard errors: the docs say so."""
    assert noncentrality(2, 0.05 / 66, 0.8) == pytest.approx(46, abs=1)


def test_a_plan_counts_pairing_and_comparisons():
    rng = np.random.default_rng(15)
    pilot = rng.normal(size=2000) + 0.1 * rng.normal(size=(4, 2000))
    found = plan(pilot, 100)
    assert found.sd_paired == pytest.approx(math.sqrt(0.02), rel=0.06)
    assert found.detectable == pytest.approx(detectable(found.sd_paired, 100, comparisons=6))
    assert found.detectable_unpaired / found.detectable == pytest.approx(math.sqrt(2.02 / 0.02), rel=0.1)
    assert plan(pilot, 100, comparisons=66).detectable > found.detectable
    assert math.isnan(plan(pilot[:, :1], 100).detectable)


def test_a_pilot_of_few_samples_is_cautious():
    """The planned standard deviation is at least the true one in about 80 % of pilots."""
    rng = np.random.default_rng(16)
    found = [plan(rng.normal(size=(2, 12)), 50).sd_paired >= math.sqrt(2) for _ in range(500)]
    assert 0.72 <= np.mean(found) <= 0.88


def test_all_pairs_are_in_order():
    assert list(zip(*all_pairs(3), strict=True)) == [(0, 1), (0, 2), (1, 2)]
