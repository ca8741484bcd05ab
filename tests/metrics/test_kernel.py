"""The kernel distance against its definition, and its unbiasedness."""

from __future__ import annotations

import numpy as np
import pytest

from framework.metrics import kernel
from framework.metrics.kernel import kernel_distance, squared_mmd


def brute_force(x, y):
    """The definition, pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


def test_equals_the_double_loop(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(17, 5)), rng.normal(size=(23, 5)) + 0.3
    exact = brute_force(x, y)
    assert squared_mmd(x, y) == pytest.approx(exact, rel=1e-12)
    assert kernel_distance(x, y, blocks=4).value == pytest.approx(exact, rel=1e-12)
    monkeypatch.setattr(kernel, "CHUNK", 6)
    assert squared_mmd(x, y) == pytest.approx(exact, rel=1e-12)


def test_interval_is_that_of_left_out_statistics():
    """The jackknife from block sums equals recomputing the statistic without each block."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(21, 3)) + 1
    in_x, in_y = kernel.assign_blocks(30, 5, 9), kernel.assign_blocks(21, 5, 10)
    left_out = np.array([brute_force(x[in_x != b], y[in_y != b]) for b in range(5)])
    expected = kernel.jackknife_interval(brute_force(x, y), left_out)
    assert kernel_distance(x, y, blocks=5, seed=9) == pytest.approx(expected, rel=1e-10)


def test_unbiased_for_equal_distributions():
    """The mean over pairs of sets of one distribution is zero within four errors; negative ones occur."""
    rng = np.random.default_rng(2)
    values = np.array([squared_mmd(rng.normal(size=(20, 4)), rng.normal(size=(30, 4))) for _ in range(1500)])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert (values < 0).mean() > 0.3


def test_expectation_does_not_depend_on_n():
    """A shifted one-dimensional Gaussian: E over sets equals the population value at n = 5 and at n = 50.

    With k(x, y) = (xy + 1)^3, MMD^2 = sum_p binom(3, p) (E x^p - E y^p)^2; for N(0, 1) and N(1, 1) the raw
    moments are (0, 1, 0) and (1, 2, 4): 3 * 1 + 3 * 1 + 1 * 16 = 22.
    """
    rng = np.random.default_rng(3)
    for n, repeats in ((5, 8000), (50, 800)):
        values = np.array([squared_mmd(rng.normal(size=(n, 1)), rng.normal(size=(n, 1)) + 1) for _ in range(repeats)])
        assert abs(values.mean() - 22) < 4 * values.std() / np.sqrt(repeats)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_interval_covers_the_population_value(shift):
    """95 % intervals cover the population value in 88 to 100 % of repetitions; equal distributions, too wide,
    in more.

    The population value is the mean over all repetitions, which is unbiased and as good as exact.
    """
    rng = np.random.default_rng(4)
    repeats = 300
    intervals = [
        kernel_distance(rng.normal(size=(100, 2)), rng.normal((shift, 0), size=(100, 2)), blocks=10, seed=i)
        for i in range(repeats)
    ]
    exact = np.mean([interval.value for interval in intervals])
    covered = np.mean([low <= exact <= high for _, low, high in intervals])
    assert 0.88 <= covered <= 1.0


def test_wrong_inputs():
    with pytest.raises(ValueError, match="2 dimensions and the reference 3"):
        squared_mmd(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="two rows"):
        squared_mmd(np.zeros((1, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="5 rows cannot be split into 20 blocks"):
        kernel_distance(np.zeros((5, 2)), np.zeros((40, 2)))
