"""The overlap against its definition by loops, and what each of the four numbers is for."""

from __future__ import annotations

import numpy as np
import pytest

from framework.metrics import precision_recall
from framework.metrics.intervals import assign_blocks
from framework.metrics.precision_recall import overlap, overlap_intervals


def brute_force(x, y, k_manifold=3, k_density=5):
    """The definitions, row by row; returns the four means."""

    def distance(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(rows, i, k):
        return sorted(distance(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    n, m = range(len(x)), range(len(y))
    rx, ry = [radius(x, i, k_manifold) for i in n], [radius(y, j, k_manifold) for j in m]
    rd = [radius(y, j, k_density) for j in m]
    return (
        np.mean([any(distance(x[i], y[j]) <= ry[j] for j in m) for i in n]),
        np.mean([any(distance(x[i], y[j]) <= rx[i] for i in n) for j in m]),
        np.mean([sum(distance(x[i], y[j]) <= rd[j] for j in m) / k_density for i in n]),
        np.mean([any(distance(x[i], y[j]) <= rd[j] for i in n) for j in m]),
    )


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)) - 0.6, 1.3 * rng.normal(size=(55, 3)) + 0.6


def means(rows):
    return tuple(values.mean() for values in (rows.precision, rows.recall, rows.density, rows.coverage))


def test_equals_the_definition(sets, monkeypatch):
    x, y = sets
    exact = brute_force(x, y)
    assert min(exact) > 0 and max(exact[:2]) < 1, "the sets must tell right from wrong"
    assert means(overlap(x, y)) == pytest.approx(exact, abs=1e-12)
    monkeypatch.setattr(precision_recall, "CHUNK", 7)
    assert means(overlap(x, y)) == pytest.approx(exact, abs=1e-12)


def test_other_neighbour_counts(sets):
    x, y = sets
    assert means(overlap(x, y, manifold_neighbours=1, density_neighbours=2)) == pytest.approx(brute_force(x, y, 1, 2))


@pytest.mark.parametrize("blocks", [2, 7, 20], ids=lambda b: f"blocks={b}")
def test_left_out_values_equal_recomputing(sets, blocks, monkeypatch):
    """Recall and coverage without each block, in one pass, equal the metrics of the remaining samples."""
    monkeypatch.setattr(precision_recall, "CHUNK", 16)
    x, y = sets
    labels = assign_blocks(len(x), blocks, seed=3)
    recall, coverage = precision_recall._left_out(x, y, labels)
    for b in range(blocks):
        kept = overlap(x[labels != b], y)
        assert (recall[b], coverage[b]) == pytest.approx((kept.recall.mean(), kept.coverage.mean()), abs=1e-12)


def test_far_from_the_origin(sets):
    """Distances do not lose their digits to the offset."""
    x, y = sets
    assert means(overlap(x + 1e5, y + 1e5)) == pytest.approx(means(overlap(x, y)), abs=1e-12)


def test_each_failure_lowers_its_own_number():
    rng = np.random.default_rng(1)
    real = np.concatenate([rng.normal(size=(150, 4)), rng.normal(size=(150, 4)) + 20])
    good = np.concatenate([rng.normal(size=(150, 4)), rng.normal(size=(150, 4)) + 20])
    one_mode, noisy = rng.normal(size=(300, 4)), good + rng.normal(size=(300, 4)) * 6
    ideal, dropped, blurred = (overlap(samples, real) for samples in (good, one_mode, noisy))
    assert ideal.precision.mean() > 0.85 and ideal.recall.mean() > 0.85 and ideal.coverage.mean() > 0.9
    assert ideal.density.mean() == pytest.approx(1, abs=0.1)
    assert dropped.precision.mean() > 0.85 and dropped.recall.mean() < 0.55 and dropped.coverage.mean() < 0.55
    assert blurred.precision.mean() < 0.3 and blurred.density.mean() < 0.3


def test_intervals_cover_the_expectation():
    """95 % intervals cover the expectation over new samples; those of recall and coverage err on the wide
    side.
    """
    rng = np.random.default_rng(2)
    y = rng.normal(size=(120, 2))
    runs = [overlap_intervals(rng.normal((1.5, 0), size=(120, 2)), y, blocks=10, seed=i) for i in range(200)]
    for name, highest in (("precision", 0.99), ("density", 0.99), ("recall", 1.0), ("coverage", 1.0)):
        expectation = np.mean([run[name].value for run in runs])
        covered = np.mean([run[name].low <= expectation <= run[name].high for run in runs])
        assert 0.88 <= covered <= highest, name


def test_perfect_overlap_is_not_taken_as_certain():
    """All of the reference recalled by every half of the samples: the jackknife alone would have no width."""
    x = np.random.default_rng(3).normal(size=(60, 2))
    interval = overlap_intervals(np.concatenate([x, x]), x, blocks=2)["coverage"]
    assert interval.value == 1 and 0.9 < interval.low < 1


def test_intervals_contain_their_value_and_stay_in_range(sets):
    x, y = sets
    for samples in (x, y, x + 100):
        for name, (value, low, high) in overlap_intervals(samples, y, blocks=8).items():
            if not np.isnan(low):
                assert 0 <= low <= value <= high, name
                assert name == "density" or high <= 1


def test_too_few_rows():
    with pytest.raises(ValueError, match="samples has 3 rows: 3 nearest neighbours need at least 4"):
        overlap(np.zeros((3, 2)), np.zeros((9, 2)))
