"""The redundancy of data: 1 for white data, k for data that are repeated k times, whatever their size and scale."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.errors import DataError
from framework.redundancy import LARGEST, redundancy
from framework.spaces import Euclidean, Masked
from framework.training.shift import real_part


def white(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("states", "shape"), [(4096, (64,)), (2048, (4, 8, 8)), (4096, (3, 16, 16)), (1024, (2, 16, 16))]
)
def test_white_data_have_redundancy_one(states: int, shape: tuple[int, ...]) -> None:
    assert redundancy(white(states, *shape)) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("k", [2, 4])
def test_pictures_enlarged_k_times_have_redundancy_k(k: int) -> None:
    large = white(2048, 1, 8, 8).repeat_interleave(k, 2).repeat_interleave(k, 3)
    assert redundancy(large) == pytest.approx(k, rel=0.02)


def test_clips_whose_samples_are_repeated_k_times_have_the_root_of_k() -> None:
    assert redundancy(white(2048, 32).repeat_interleave(4, 1)) == pytest.approx(2.0, rel=0.02)


def test_enlarging_anything_multiplies_its_redundancy() -> None:
    """Also of data that are not white to begin with."""
    x = torch.cumsum(white(2048, 1, 8, 8), dim=3)
    assert redundancy(x) > 1.3
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert redundancy(large) == pytest.approx(2 * redundancy(x), rel=0.01)


def test_two_variances_in_closed_form() -> None:
    """Half of the axes have amplitude 1 and half have a: sqrt((1 + a^2) / 2) / ((1 + a) / 2)."""
    amplitude = torch.cat([torch.ones(16), torch.full((16,), 7.0)])
    expected = math.sqrt((1 + 49) / 2) / 4
    assert redundancy(white(4096, 32) * amplitude) == pytest.approx(expected, rel=0.01)


def test_scale_shift_and_rotation_do_not_matter() -> None:
    x = white(512, 24) * torch.linspace(0.5, 3, 24)
    rotation = torch.linalg.qr(white(24, 24, seed=1))[0]
    assert redundancy(3 * x + 10) == pytest.approx(redundancy(x), rel=1e-6)
    assert redundancy(x @ rotation) == pytest.approx(redundancy(x), rel=1e-4)


def test_of_large_states_a_part_is_looked_at() -> None:
    shape = (3, 64, 64)
    assert math.prod(shape) > LARGEST
    large = white(512, 3, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert large.shape[1:] == shape and redundancy(large) == pytest.approx(2.0, rel=0.05)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="16 states or more, not 3"):
        redundancy(white(3, 4))
    with pytest.raises(DataError, match="do not vary"):
        redundancy(torch.ones(32, 4))


def test_padding_is_left_out() -> None:
    """Rows as many as half of the clips have, of those clips: padding would count as directions without variance."""
    lengths = torch.arange(3000) % 5 + 4  # 4 ... 8, the median is 6
    mask = torch.arange(8) < lengths[:, None]
    x = torch.where(mask[:, :, None], white(3000, 8, 4), 0.0)
    condition = TensorDict({"mask": mask}, batch_size=[3000])
    part = real_part([x[:1000], x[1000:]], [condition[:1000], condition[1000:]], Masked((4,)))
    assert part.shape == (1800, 6, 4)
    assert redundancy(part) == pytest.approx(1.0, abs=0.02) and redundancy(x) > 1.02
    assert real_part([x], [condition], Euclidean((8, 4))).shape == x.shape
