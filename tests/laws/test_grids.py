"""Grids: n steps are n + 1 strictly decreasing times in [0, 1] that end at the data, on every schedule."""

from __future__ import annotations

import math

import pytest
import torch

from framework.grids import (
    Explicit,
    Grid,
    Karras,
    Leading,
    Quadratic,
    Trailing,
    UniformLogSNR,
    UniformTime,
    check_times,
)
from framework.schedules import EDM, Flow, LinearVP, Schedule
from tests.laws.test_schedules import SCHEDULES

GRIDS: dict[str, Grid] = {
    "uniform": UniformTime(),
    "shifted": UniformTime(3.0),
    "log_snr": UniformLogSNR(),
    "karras": Karras(),
    "quadratic": Quadratic(),
    "trailing": Trailing(),
    "leading": Leading(),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 333])
def test_grids_are_walkable(grid: Grid, schedule: Schedule, steps: int) -> None:
    times = grid(schedule, steps)
    assert times.dtype == torch.float64 and len(times) == steps + 1
    assert float(times[-1]) == 0.0
    check_times(times)


def test_karras_is_the_published_formula() -> None:
    """sigma_i of Karras et al. 2022, eq. 5, on the schedule where t is sigma / 80."""
    n, i = 18, torch.arange(18, dtype=torch.float64)
    sigma = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(Karras()(EDM(80.0), n)[:-1] * 80, sigma)


def test_karras_is_the_same_in_log_snr_on_every_schedule() -> None:
    a, b = (s.log_snr(Karras(sigma_max=50)(s, 10)[:-1]) for s in (EDM(80.0), Flow()))
    torch.testing.assert_close(a, b)


def test_log_snr_grid_is_even_in_log_snr() -> None:
    log_snr = LinearVP().log_snr(UniformLogSNR()(LinearVP(), 9)[:-1])
    torch.testing.assert_close(log_snr.diff(), log_snr.diff().mean().expand(8))


def test_trailing_starts_at_the_end_and_leading_does_not() -> None:
    schedule = LinearVP()
    assert float(Trailing()(schedule, 10)[0]) == 1.0
    torch.testing.assert_close(Leading()(schedule, 10)[:3] * 1000, torch.tensor([901.0, 801.0, 701.0]).double())


@pytest.mark.parametrize(
    "times", [[1.0], [0.5, 0.5, 0.0], [0.2, 0.4], [1.2, 0.0], [1.0, -0.1], [math.nan, 0.0]], ids=str
)
def test_times_that_cannot_be_walked_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="grid"):
        check_times(torch.tensor(times))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="whole number of steps, at least one"):
        UniformTime()(Flow(), 0)
    with pytest.raises(ValueError, match=r"got steps=2\.5"):
        UniformTime()(Flow(), 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigma_min < sigma_max"):
        Karras(sigma_min=2.0, sigma_max=1.0)(Flow(), 5)
    with pytest.raises(ValueError, match="1 to 100"):
        Trailing(100)(Flow(), 200)
    with pytest.raises(ValueError, match="make 2 steps"):
        Explicit([1.0, 0.5, 0.0])(Flow(), 3)
