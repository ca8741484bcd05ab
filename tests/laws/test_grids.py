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
    LogLinear,
    Quadratic,
    Trailing,
    UniformFlow,
    UniformLogSNR,
    UniformTime,
    check_times,
)
from framework.grids.align_your_steps import StableDiffusion15, StableDiffusionXL, StableVideoDiffusion
from framework.schedules import EDM, Flow, LinearVP, Schedule, Shifted
from tests.laws.test_schedules import SCHEDULES

GRIDS: dict[str, Grid] = {
    "uniform": UniformTime(),
    "shifted": UniformTime(3.0),
    "log_snr": UniformLogSNR(),
    "karras": Karras(),
    "flow": UniformFlow(),
    "shifted_flow": UniformFlow(3.0),
    "quadratic": Quadratic(),
    "trailing": Trailing(),
    "leading": Leading(),
    "ays_sd15": StableDiffusion15(),
    "ays_sdxl": StableDiffusionXL(),
    "ays_svd": StableVideoDiffusion(),
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


def test_flow_grid_is_uniform_time_of_the_straight_path() -> None:
    """On the straight path itself, and by its noise levels elsewhere."""
    for shift in (1.0, 3.0):
        torch.testing.assert_close(UniformFlow(shift)(Flow(), 9), UniformTime(shift)(Flow(), 9))
        shifted = Shifted(Flow(), shift)
        torch.testing.assert_close(UniformFlow(shift)(shifted, 9), UniformTime()(shifted, 9))
    schedule = EDM(80.0)
    sigma = schedule.sigma(UniformFlow()(schedule, 9))
    assert float(sigma[0]) == pytest.approx(80.0)
    share = sigma / (1 + sigma)
    torch.testing.assert_close(share.diff(), share.diff().mean().expand(9))


# The authors' quickstart page and diffusers (AysSchedules) print these, rounded; the last is for t = 0.
PUBLISHED = {
    StableDiffusion15(): [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0],
    StableDiffusionXL(): [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.0],
    StableVideoDiffusion(): [700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.0],
}


@pytest.mark.parametrize(("grid", "sigmas"), PUBLISHED.items(), ids=["sd15", "sdxl", "svd"])
def test_align_your_steps_is_the_published_table(grid: LogLinear, sigmas: list[float]) -> None:
    """At ten steps; at twenty every other level is the table's and the rest are their geometric means."""
    schedule = EDM(1000.0)
    ten, twenty = schedule.sigma(grid(schedule, 10)), schedule.sigma(grid(schedule, 20))
    torch.testing.assert_close(ten, torch.tensor(sigmas).double(), rtol=0.005, atol=0.002)
    torch.testing.assert_close(twenty[::2], ten)
    torch.testing.assert_close(twenty[1:-2:2], (ten[:-2] * ten[1:-1]).sqrt())


def test_a_table_is_entered_where_the_schedule_begins() -> None:
    """Stable Diffusion's own schedule begins at 14.6, between the video table's levels of 54.5 and 15.9 and beyond."""
    schedule = EDM(14.6)
    sigma = schedule.sigma(StableVideoDiffusion()(schedule, 4))
    assert float(sigma[0]) == pytest.approx(14.6)
    whole = schedule.sigma(StableVideoDiffusion()(schedule, 1))
    torch.testing.assert_close(whole, torch.tensor([14.6, 0.0]).double())
    with pytest.raises(ValueError, match=r"never exceeds 0\.002, the table's last"):
        StableVideoDiffusion()(EDM(0.001), 4)


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
    for ratios in ([1.0], [1.0, 1.0], [1.0, 0.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="falls strictly and stays above 0"):
            LogLinear(ratios)
