"""Couplings within a sample: the nearest member of an orbit, and no other law of the noise."""

from __future__ import annotations

import itertools

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.couplings import EquivariantOptimalTransport, kabsch, permuted, rotated
from framework.noise import SampleKey
from framework.processes.gaussian import Gaussian
from framework.schedules import Flow
from framework.spaces import ZeroCentreOfMass

SIZES = (5, 4, 3, 5)


@pytest.fixture
def condition() -> TensorDict:
    mask = torch.arange(5) < torch.tensor(SIZES)[:, None]
    return TensorDict({"mask": mask}, batch_size=[len(SIZES)])


@pytest.fixture
def pair(condition: TensorDict) -> tuple[Tensor, Tensor]:
    space = ZeroCentreOfMass(3)
    rows = tuple(range(len(SIZES)))
    noise, data = (space.noise(SampleKey(seed, rows), condition).double() for seed in (0, 1))
    return noise, data


def rotation(seed: int) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    return q * q.det().sign()


def test_kabsch_finds_a_rotation_that_was_made_and_never_a_reflection(pair: tuple[Tensor, Tensor]) -> None:
    data = pair[1]
    made = rotation(3)
    assert torch.allclose(kabsch(data @ made.T, data), made.expand(4, 3, 3), atol=1e-9)
    found = kabsch(-data, data)
    assert torch.allclose(torch.linalg.det(found), torch.ones(4, dtype=torch.float64))


def test_kabsch_is_the_nearest_of_many_rotations(pair: tuple[Tensor, Tensor]) -> None:
    noise, data = pair
    best = (rotated(noise, data) - data).square().sum((1, 2))
    for seed in range(200):
        assert bool(((noise @ rotation(seed) - data).square().sum((1, 2)) >= best - 1e-9).all())


def test_a_permutation_is_the_best_of_all(pair: tuple[Tensor, Tensor], condition: TensorDict) -> None:
    noise, data = pair
    got = permuted(noise, data, condition["mask"])
    for row, size in enumerate(SIZES):
        costs = [
            float((noise[row, list(order)] - data[row, :size]).square().sum())
            for order in itertools.permutations(range(size))
        ]
        assert float((got[row] - data[row]).square().sum()) == pytest.approx(min(costs))
        assert bool((got[row, size:] == 0).all())
        assert torch.allclose(got[row].sort(0).values, noise[row].sort(0).values)  # the same rows


def test_a_coupled_process_has_shorter_paths_in_the_same_space(
    pair: tuple[Tensor, Tensor], condition: TensorDict
) -> None:
    data, space, key = pair[1], ZeroCentreOfMass(3), SampleKey(7, (0, 1, 2, 3))
    t = torch.full((4,), 0.5, dtype=torch.float64)
    _, alone = Gaussian(Flow(), space).corrupt(data, t, key, condition)
    x_t, z = Gaussian(Flow(), space, EquivariantOptimalTransport()).corrupt(data, t, key, condition)
    assert isinstance(z, Tensor) and isinstance(x_t, Tensor) and isinstance(alone, Tensor)
    assert bool(((z - data).square().sum((1, 2)) < (alone - data).square().sum((1, 2))).all())
    assert torch.allclose(z.square().sum((1, 2)), alone.square().sum((1, 2)).to(z))  # an orbit keeps the length
    assert torch.allclose(x_t.sum(1), torch.zeros(4, 3).to(x_t), atol=1e-6)
    fixed = EquivariantOptimalTransport(permute=False)(alone.double(), data, condition)
    gram = alone.double() @ alone.double().mT
    assert torch.allclose(fixed @ fixed.mT, gram, atol=1e-9)  # rows keep their places
