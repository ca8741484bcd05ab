"""Noise is a function of its key; spaces are subspaces."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from tensordict import TensorDict

from framework.noise import BatchKey, SampleKey
from framework.spaces import Euclidean, Masked, Product, Space, ZeroCentreOfMass
from framework.state import combine, map_state, masked_sum, select

LIKE = torch.zeros((), dtype=torch.float64)


def sets(*sizes: int, width: int = 6) -> TensorDict:
    mask = torch.arange(width)[None] < torch.tensor(sizes)[:, None]
    return TensorDict({"mask": mask}, batch_size=[len(sizes)])


SPACES: dict[str, Space] = {
    "euclidean": Euclidean((3, 4)),
    "masked": Masked(3),
    "zero_com": ZeroCentreOfMass(3),
    "product": Product({"positions": ZeroCentreOfMass(3), "charges": Masked(1)}),
}


def test_a_sample_meets_the_same_noise_in_any_batch_order_and_type() -> None:
    whole = SampleKey(5, tuple(range(10)), step=3).normal((4, 2), LIKE)
    assert torch.equal(SampleKey(5, (7,), step=3).normal((4, 2), LIKE)[0], whole[7])
    assert torch.equal(SampleKey(5, (9, 0), step=3).normal((4, 2), LIKE), whole[[9, 0]])
    single = SampleKey(5, (7,), step=3).normal((4, 2), LIKE.float())
    assert single.dtype == torch.float32 and torch.equal(single[0], whole[7].float())


def test_every_part_of_the_key_matters() -> None:
    base = SampleKey(0, (0,))
    draws = [base, SampleKey(1, (0,)), SampleKey(0, (1,)), base.at(1), base.component("a"), base.component("b")]
    flat = torch.stack([key.normal((1000,), LIKE)[0] for key in draws])
    correlation = torch.corrcoef(flat) - torch.eye(len(draws))
    assert float(correlation.abs().max()) < 0.15


def test_noise_is_standard_normal() -> None:
    draws = SampleKey(0, tuple(range(200))).normal((100,), LIKE).flatten()
    assert stats.kstest(draws.numpy(), "norm").pvalue > 1e-3
    uniforms = SampleKey(0, tuple(range(200))).uniform((100,), LIKE).flatten()
    assert stats.kstest(uniforms.numpy(), "uniform").pvalue > 1e-3


def test_padding_does_not_change_what_is_drawn() -> None:
    """The first rows of a set are the same however far it is padded."""
    narrow, wide = (Masked(3).noise(SampleKey(0, (4,)), sets(3, width=w)) for w in (3, 9))
    assert torch.equal(narrow[0], wide[0, :3])


def test_batch_key_is_a_function_of_seed_step_and_rank() -> None:
    key = BatchKey(0, 1, 0, 8)
    assert torch.equal(key.normal((3,), LIKE), BatchKey(0, 1, 0, 8).normal((3,), LIKE))
    for other in (BatchKey(1, 1, 0, 8), BatchKey(0, 2, 0, 8), BatchKey(0, 1, 1, 8), key.component("x"), key.at(5)):
        assert not torch.equal(key.normal((3,), LIKE), other.normal((3,), LIKE))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_projection_is_idempotent_and_keeps_noise(space: Space) -> None:
    condition = sets(2, 6, 1)
    z = space.noise(SampleKey(0, (0, 1, 2)), condition)
    once = space.project(z, condition)
    differences = map_state(lambda a, b: (a - b).abs().amax().expand(3), once, z)
    worst = differences if isinstance(differences, torch.Tensor) else torch.stack(list(differences.values()))
    assert float(worst.max()) < 1e-6


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_degrees_of_freedom_are_the_expected_squared_norm(space: Space) -> None:
    """E |z|^2 of standard noise in a subspace is its dimension."""
    rows = 4000
    condition = sets(*([4] * rows))
    z = space.noise(SampleKey(0, tuple(range(rows))), condition)
    parts = [z] if isinstance(z, torch.Tensor) else list(z.values())
    mean = sum(part.double().square().flatten(1).sum(1).mean() for part in parts)
    expected = float(space.degrees_of_freedom(condition)[0])
    assert float(mean) == pytest.approx(expected, rel=0.05)


def test_zero_centre_of_mass_and_padding_are_exact() -> None:
    condition = sets(2, 5, 6)
    x = ZeroCentreOfMass(3).noise(SampleKey(0, (0, 1, 2)), condition)
    assert float(x.sum(1).abs().max()) < 1e-5
    assert bool((x[~condition["mask"]] == 0).all())


def test_padding_never_weighs() -> None:
    """Sums and counts of padded sets are those of the sets alone, whatever stands in the padding."""
    condition = sets(2, 5)
    values = torch.randn(2, 6, 3)
    values[~condition["mask"]] = float("nan")
    sums, counts = masked_sum(values, condition["mask"])
    assert counts.tolist() == [6, 15]
    torch.testing.assert_close(sums, torch.stack([values[0, :2].sum(), values[1, :5].sum()]))
    sums, counts = masked_sum(torch.ones(2, 3, 4))
    assert sums.tolist() == counts.tolist() == [12, 12]


def test_combinations_take_numbers_and_per_sample_coefficients() -> None:
    a, b = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    per_sample = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(combine([(2.0, a), (per_sample, b)]), 2 * a + per_sample[:, None, None].float() * b)
    both = TensorDict({"x": a, "y": b}, batch_size=[3])
    torch.testing.assert_close(combine([(0.5, both), (0.5, both)])["x"], a)
    assert combine([(0.0, a), (1.0, b)]).dtype == a.dtype
    with pytest.raises(ValueError, match="at least one term"):
        combine([])


def test_rows_are_selected_in_every_component() -> None:
    both = TensorDict({"x": torch.ones(3, 2), "y": torch.ones(3)}, batch_size=[3])
    chosen = select(torch.tensor([True, False, True]), both, both * 0)
    assert chosen["y"].tolist() == [1, 0, 1] and chosen["x"][:, 0].tolist() == [1, 0, 1]
