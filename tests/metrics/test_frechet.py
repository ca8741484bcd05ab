"""The Frechet distance against closed forms, and its laws as a squared metric."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framework.metrics.frechet import Moments, frechet_distance


def random_covariance(rng, dimensions, rank=None):
    root = rng.normal(size=(dimensions, rank or dimensions))
    return root @ root.T


def test_one_dimension():
    """d^2 = (m_1 - m_2)^2 + (s_1 - s_2)^2."""
    first, second = Moments.gaussian([1.0], [[4.0]]), Moments.gaussian([-0.5], [[0.25]])
    assert frechet_distance(first, second) == pytest.approx(1.5**2 + 1.5**2, rel=1e-14)


def test_commuting_covariances():
    """d^2 = |m_1 - m_2|^2 + sum_i (sqrt a_i - sqrt b_i)^2 for covariances of one basis."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b, shift = rng.uniform(0.1, 5, 6), rng.uniform(0.1, 5, 6), rng.normal(size=6)
    first = Moments.gaussian(np.zeros(6), basis * a @ basis.T)
    second = Moments.gaussian(shift, basis * b @ basis.T)
    exact = shift @ shift + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(first, second) == pytest.approx(exact, rel=1e-12)


def test_linear_optimal_map():
    """If T is symmetric positive, y = T x + c is the optimal transport: d^2 = E |T x + c - x|^2."""
    rng = np.random.default_rng(1)
    cov, transport = random_covariance(rng, 5), random_covariance(rng, 5)
    mean, offset = rng.normal(size=5), rng.normal(size=5)
    first = Moments.gaussian(mean, cov)
    second = Moments.gaussian(transport @ mean + offset, transport @ cov @ transport)
    change = transport - np.eye(5)
    exact = np.sum((change @ mean + offset) ** 2) + np.trace(change @ cov @ change)
    assert frechet_distance(first, second) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("rows", [2, 5, 40, 400], ids=lambda n: f"n={n}")
def test_laws_at_any_number_of_rows(rows):
    """Symmetric, non-negative, zero to itself, invariant to rotation and shift; also for n < D = 40."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(rows, 40)), 0.5 * rng.normal(size=(rows, 40)) + 0.1
    first, second = Moments.of(x), Moments.of(y)
    distance = frechet_distance(first, second)
    assert distance > 0
    assert frechet_distance(second, first) == pytest.approx(distance, rel=1e-12)
    assert 0 <= frechet_distance(first, first) < 1e-11 * np.trace(first.cov)
    rotation = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    moved = frechet_distance(Moments.of(x @ rotation + 3), Moments.of(y @ rotation + 3))
    assert moved == pytest.approx(distance, rel=1e-10)


def test_singular_covariances_in_orthogonal_planes():
    """Nothing overlaps: d^2 is the sum of the traces. The usual matrix square root has no digits here."""
    rng = np.random.default_rng(3)
    first, second = np.zeros((6, 6)), np.zeros((6, 6))
    first[:3, :3], second[3:, 3:] = random_covariance(rng, 3), random_covariance(rng, 3)
    distance = frechet_distance(Moments.gaussian(np.zeros(6), first), Moments.gaussian(np.zeros(6), second))
    assert distance == pytest.approx(np.trace(first) + np.trace(second), rel=1e-12)


def test_a_point_mass_has_the_second_moment_as_its_distance():
    cov = random_covariance(np.random.default_rng(4), 4)
    point = Moments.of(np.ones((3, 4)))
    distance = frechet_distance(point, Moments.gaussian(np.zeros(4), cov))
    assert distance == pytest.approx(4 + np.trace(cov), rel=1e-12)


def test_streaming_equals_direct():
    """Any split into batches gives the moments of all rows, also far from the origin."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1000, 7)) * rng.uniform(0.1, 3, 7) + 1e4
    direct = Moments.of(x)
    streamed = Moments.of(x[:1])
    for part in np.split(x[1:], [3, 10, 500]):
        streamed = streamed.update(part)
    merged = Moments.of(x[:400]).merge(Moments.of(x[400:]))
    for moments in (streamed, merged):
        assert moments.n == direct.n
        np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(moments.cov, np.cov(x.T), rtol=1e-10, atol=1e-10)


def test_tensors_are_rows_too():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(6))
    np.testing.assert_array_equal(Moments.of(x).mean, Moments.of(x.numpy()).mean)


def test_what_is_not_features_is_refused():
    with pytest.raises(ValueError, match=r"shape \(N, D\)"):
        Moments.of(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="the first is row 1"):
        Moments.of(np.array([[0.0], [np.nan], [np.inf]]))
    with pytest.raises(ValueError, match="at least two rows"):
        frechet_distance(Moments.of(np.zeros((1, 3))), Moments.of(np.zeros((5, 3))))
    with pytest.raises(ValueError, match="of 3 and of 2 dimensions"):
        frechet_distance(Moments.of(np.zeros((4, 3))), Moments.of(np.zeros((5, 2))))
