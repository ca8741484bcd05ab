"""Do the statistics of studies keep their word? A thousand repetitions with a known truth.

Of 1000 repetitions a 95 % interval covers 93 to 97 % (three binomial standard errors are 2 %); equal methods are called
different in at most 5 % of families; a difference that a study was planned for is found in at least 80 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from framework.metrics.frechet import Moments, frechet_distance
from framework.studies.statistics.bootstrap import Resamples, bca_means
from framework.studies.statistics.estimates import all_pairs
from framework.studies.statistics.families import holm
from framework.studies.statistics.friedman import block_ranks, friedman
from framework.studies.statistics.paired import paired_differences, student_p, variance
from framework.studies.statistics.power import plan, samples_needed
from framework.studies.statistics.seed_blocks import (
    block_differences,
    jackknife_differences,
    jackknife_means,
    student_means,
)
from framework.studies.statistics.shares import count, mcnemar, newcombe, wilson

REPETITIONS = 1000
ONE = (np.array([0]), np.array([1]))


def normal(rng, n, size):
    shared = rng.normal(size=(n, size))
    return shared + 0.3 * rng.normal(size=(n, size)), shared + 0.1 + 0.3 * rng.normal(size=(n, size)), -0.1


def heavy_tails(rng, n, size):
    shared = rng.normal(size=(n, size))
    return shared + rng.standard_t(3, size=(n, size)), shared + rng.standard_t(3, size=(n, size)), 0.0


def errors(rng, n, size):
    """As errors to a solution are: lognormal, one method 20 % above the other."""
    shared = rng.normal(size=(n, size))
    first, second = (np.exp(0.7 * shared + 0.5 * rng.normal(size=(n, size))) for _ in range(2))
    return first, 1.2 * second, -0.2 * np.exp((0.49 + 0.25) / 2)


def skewed(rng, n, size):
    """Where the second method errs it errs by a lot: a difference that is skewed itself."""
    first = np.exp(0.8 * rng.normal(size=(n, size)))
    second = first * np.exp(0.3 * np.abs(rng.normal(size=(n, size))))
    return first, second, np.exp(0.32) * (1 - 2 * np.exp(0.045) * norm.cdf(0.3))


@pytest.mark.parametrize("n", [64, 192])
@pytest.mark.parametrize("data", [normal, heavy_tails, errors, skewed])
def test_paired_intervals_cover(data, n):
    rng = np.random.default_rng(0)
    covered = []
    for group in range(10):  # resamples of their own, so that repetitions do not share luck
        first, second, truth = data(rng, n, REPETITIONS // 10)
        covered.append(bca_means(first - second, Resamples(n, 1000, group)).covers(truth))
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_of_shares_cover(share):
    rng, n = np.random.default_rng(1), 192
    first, second = binary(rng, n, (share, share - 0.05))
    counts = count(first, second)
    assert 0.93 <= newcombe(counts).covers(0.05).mean() <= 0.975
    assert 0.93 <= wilson(first.sum(axis=1), np.full(len(first), n)).covers(share).mean() <= 0.97


def test_intervals_of_rare_discordance_err_on_the_wide_side():
    """At 97 % right in few samples, answers come in too few steps for 95 %: Newcombe's interval is wide, not narrow."""
    first, second = binary(np.random.default_rng(1), 32, (0.97, 0.92))
    assert newcombe(count(first, second)).covers(0.05).mean() >= 0.97


def binary(rng, n, shares):
    shared = rng.normal(size=(REPETITIONS, n))
    scale = np.sqrt(1 + 0.3**2)
    noises = (0.3 * rng.normal(size=shared.shape) for _ in shares)
    return [(shared + noise < scale * norm.ppf(p)).astype(float) for noise, p in zip(noises, shares, strict=True)]


@pytest.mark.parametrize("seeds", [3, 5])
def test_seed_blocks_cover(seeds):
    rng = np.random.default_rng(2)
    values = 3 * rng.normal(size=(1, seeds, REPETITIONS)) + rng.normal(size=(2, seeds, REPETITIONS))
    assert 0.93 <= student_means(values[0] - values[1]).covers(0).mean() <= 0.97
    assert 0.93 <= student_means(values[0]).covers(0).mean() <= 0.97


def test_a_bootstrap_over_three_seeds_does_not_cover():
    """Why seeds have Student's interval: three values have ten different resamples."""
    values = np.random.default_rng(3).normal(size=(3, REPETITIONS))
    means = Resamples(3, 1000).means(values)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    assert np.mean((low <= 0) & (high >= 0)) < 0.80


class Sets:
    """Frechet distances of two methods with shared noise, their values without each block, and their expectation."""

    def __init__(self, repetitions, seeds, shifts=(0.3, 0.5), n=100, blocks=10):
        rng, reference = np.random.default_rng(4), Moments.gaussian(np.zeros(3), np.eye(3))
        self.values = np.empty((repetitions, 2, seeds))
        self.left_out = np.empty((repetitions, 2, seeds, blocks))
        for repetition, seed in np.ndindex(repetitions, seeds):
            noise = rng.normal(size=(n, 3))
            for method, shift in enumerate(shifts):
                parts = (1.1 * noise + shift + 0.2 * rng.normal(size=noise.shape)).reshape(blocks, -1, 3)
                moments = [Moments.of(part) for part in parts]
                self.values[repetition, method, seed] = frechet_distance(merged(moments), reference)
                self.left_out[repetition, method, seed] = [
                    frechet_distance(merged([*moments[:b], *moments[b + 1 :]]), reference) for b in range(blocks)
                ]


def merged(moments):
    whole = moments[0]
    for more in moments[1:]:
        whole = whole.merge(more)
    return whole


def test_jackknife_of_sets_covers():
    """Its truth is the expectation at this n."""
    sets = Sets(REPETITIONS, 1)
    truth = sets.values.mean(axis=(0, 2))
    single, apart = [], []
    for values, left_out in zip(sets.values, sets.left_out, strict=True):
        single.append(jackknife_means(values.T, np.moveaxis(left_out, 0, -1)).covers(truth))
        apart.append(jackknife_differences(values, left_out, *ONE).estimates.covers(truth[0] - truth[1]))
    assert 0.93 <= np.mean(single) <= 0.97
    assert 0.93 <= np.mean(apart) <= 0.97


def test_jackknife_sees_more_than_three_seeds():
    sets = Sets(20, 3)
    narrow = [jackknife_differences(v, left, *ONE) for v, left in zip(sets.values, sets.left_out, strict=True)]
    wide = [block_differences(v, *ONE) for v in sets.values]
    widths = [np.median([(d.estimates.high - d.estimates.low)[0] for d in found]) for found in (narrow, wide)]
    assert widths[0] < 0.7 * widths[1]
    assert np.median([d.df[0] for d in narrow]) > 15 > 2 == wide[0].df[0]


FIRST, SECOND = all_pairs(6)


def t_test(values):
    difference = (values[FIRST] - values[SECOND]).T
    n = len(difference)
    return student_p(difference.mean(axis=0), np.sqrt(variance(difference) / n), np.full(len(FIRST), n - 1.0))


EQUAL = {
    "normal": lambda rng, shared: t_test(shared + 0.3 * rng.normal(size=(6, len(shared)))),
    "heavy tails": lambda rng, shared: t_test(shared + 0.3 * rng.standard_t(3, size=(6, len(shared)))),
    "errors": lambda rng, shared: t_test(np.exp(shared + 0.5 * rng.normal(size=(6, len(shared))))),
    "binary": lambda rng, shared: mcnemar(
        (lambda right: count(right[FIRST], right[SECOND]))(
            (shared + 0.5 * rng.normal(size=(6, len(shared))) < 1).astype(float)
        )
    ),
    "three seeds": lambda rng, shared: block_differences(shared[:3] + 0.5 * rng.normal(size=(6, 3)), FIRST, SECOND).p,
}


@pytest.mark.parametrize("data", EQUAL)
def test_equal_methods_are_rarely_called_different(data):
    """Any of the 15 pairs of six equal methods, after Holm, in at most 5 % of families (and a binomial error)."""
    rng = np.random.default_rng(5)
    wrong = [(holm(EQUAL[data](rng, rng.normal(size=192))) <= 0.05).any() for _ in range(REPETITIONS)]
    assert np.mean(wrong) <= 0.05


def test_equal_methods_rank_equally():
    rng = np.random.default_rng(6)
    found = [friedman(block_ranks(rng.normal(size=(20, 6)), sign=1)) for _ in range(REPETITIONS)]
    assert 0.03 <= np.mean([ranking.p <= 0.05 for ranking in found]) <= 0.07
    assert np.mean([np.ptp(ranking.ranks) > ranking.critical_difference for ranking in found]) <= 0.05


def test_planned_difference_is_found():
    """2 % between the first and each of three others; n planned from pilots of equal methods, Holm in the study."""
    rng = np.random.default_rng(7)
    first, second = all_pairs(4)
    found = []
    for repetition in range(REPETITIONS):
        if repetition % 10 == 0:  # a new pilot
            n = samples_needed(0.2, plan(study(rng, 64, 0.0), 64).sd_paired, comparisons=6)
        differences = (lambda values: (values[first] - values[second]).T)(study(rng, n, 0.2))
        p = student_p(differences.mean(axis=0), np.sqrt(variance(differences) / n), np.full(6, n - 1.0))
        found.append(holm(p)[:3] <= 0.05)
    assert np.min(np.mean(found, axis=0)) >= 0.80


def test_without_pairing_the_same_study_finds_nothing():
    """The same n with noise of its own for each method: the difference that pairing shows is lost."""
    rng = np.random.default_rng(8)
    n = samples_needed(0.2, np.sqrt(2) * 0.4)
    paired = [paired_differences(study(rng, n, 0.2)[:2], *ONE, Resamples(n, 50)).p[0] <= 0.05 for _ in range(200)]
    mixed = [
        block_differences(np.stack([study(rng, n, 0.2)[0], study(rng, n, 0.2)[1]]), *ONE).p[0] <= 0.05
        for _ in range(200)
    ]
    assert np.mean(paired) > 0.7 > 0.4 > np.mean(mixed)


def study(rng, n, gap):
    """Four methods whose mean is 10, the first better (lower) by `gap`."""
    values = 10 + rng.normal(size=n) + 0.4 * rng.normal(size=(4, n))
    values[0] -= gap
    return values
