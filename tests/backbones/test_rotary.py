"""Rotary positions are rotations, and scores under them see differences of positions alone."""

from __future__ import annotations

import math

import pytest
import torch

from framework.backbones.rotary import rates, rotate, turn, waves


def grid(axes: int) -> torch.Tensor:
    """Twelve positions on `axes` axes."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 40, (12, axes), generator=generator)


def heads(features: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 12, features, generator=generator), torch.randn(2, 12, features, generator=generator)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_lengths_are_kept(axes: int) -> None:
    q, _ = heads()
    torch.testing.assert_close(rotate(q, turn(grid(axes), 12)).norm(dim=-1), q.norm(dim=-1))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_scores_depend_on_differences_of_positions_only(axes: int) -> None:
    q, k = heads()
    positions = grid(axes)
    here, there = turn(positions, 12), turn(positions + torch.tensor([17, 5, 11][:axes]), 12)
    scores = rotate(q, here) @ rotate(k, here).mT
    torch.testing.assert_close(rotate(q, there) @ rotate(k, there).mT, scores, atol=1e-4, rtol=1e-4)
    moved = rotate(q, here) @ rotate(k, there).mT
    assert (moved - scores).abs().max() > 0.1, "and they do depend on them"


def test_each_axis_turns_features_of_its_own() -> None:
    """Moving along one axis changes half of the features of two axes, and leaves the other half alone."""
    q, _ = heads(8)
    positions = grid(2)
    by_row, by_column = (turn(positions + torch.tensor(step), 8) for step in ([1, 0], [0, 1]))
    before = rotate(q, turn(positions, 8))
    row, column = ((rotate(q, by) - before).abs().amax((0, 1)) > 1e-3 for by in (by_row, by_column))
    assert torch.equal(row, ~column) and row.sum() == 4


def test_two_features_turn_by_one_radian_a_position() -> None:
    """The closed form: the point (1, 0) at position p is (cos p, sin p)."""
    p = torch.arange(5)[:, None]
    turned = rotate(torch.tensor([1.0, 0.0]).expand(5, 2), turn(p, 2))
    torch.testing.assert_close(turned, torch.cat([p.float().cos(), p.float().sin()], dim=1))


def test_rates_fall_geometrically_towards_the_base() -> None:
    w = rates(5, base=100.0)
    torch.testing.assert_close(w[1:] / w[:-1], torch.full((4,), 100.0 ** (-1 / 5)))
    assert w[0] == 1


def test_heads_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        turn(grid(2), 6)


def test_rotation_keeps_the_type_of_its_input() -> None:
    assert rotate(heads()[0].bfloat16(), turn(grid(1), 12)).dtype == torch.bfloat16


def test_waves_tell_places_apart_and_are_of_one_length() -> None:
    w = waves(torch.arange(200), 16)
    assert w.shape == (200, 16)
    torch.testing.assert_close(w.norm(dim=-1), torch.full((200,), math.sqrt(8)))
    distances = torch.cdist(w, w) + 10 * torch.eye(200)
    assert distances.min() > 0.1
