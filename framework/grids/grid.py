"""The role of a grid, and what every grid is made of.

A grid is not a schedule: it is handed the schedule, chooses times in whichever of t, sigma or log-SNR is natural for
it, and returns float64 times from noise down to t = 0. Grids that are made in the noise-to-signal ratio sigma / alpha
serve every schedule, since they look up its time.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule


class Grid(Protocol):
    """The role: `steps` steps on `schedule` as float64 times (steps + 1,), strictly decreasing."""

    def __call__(self, schedule: Schedule, steps: int) -> Tensor: ...


def check_times(times: Tensor) -> Tensor:
    """The times themselves, as float64 (n + 1,), if a sampler can walk them.

    Raises:
        UserError: there are fewer than two, they leave [0, 1], or they do not decrease strictly.
    """
    times = torch.as_tensor(times, dtype=torch.float64)
    if times.ndim != 1 or len(times) < 2:
        raise UserError(f"a grid needs at least two times in one row, got shape {tuple(times.shape)}")
    numbers = times.tolist()
    if not all(0 <= time <= 1 for time in numbers):
        raise UserError("a grid's times must lie in [0, 1]")
    for index, (time, following) in enumerate(pairwise(numbers)):
        if following >= time:
            raise UserError(
                f"a grid's times must decrease strictly: time {index} is {time!r} and the next is {following!r}"
            )
    return times


def check_steps(steps: int) -> int:
    """The number of steps itself, if there can be so many.

    Raises:
        UserError: steps < 1, or not a whole number.
    """
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"a sampler needs a whole number of steps, at least one, got steps={steps}")
    return steps


def fractions(steps: int) -> Tensor:
    """1, 1 - 1/n, ..., 0 as float64 (n + 1,)."""
    return torch.arange(check_steps(steps), -1, -1, dtype=torch.float64) / steps


def from_log_ratios(schedule: Schedule, log_ratios: Tensor) -> Tensor:
    """Times of descending log(sigma / alpha), clipped to the schedule's own range, with t = 0 behind them."""
    times = schedule.time(-2 * log_ratios).clamp(0.0, 1.0)
    return check_times(torch.cat([times, torch.zeros(1, dtype=torch.float64)]))


def noisiest(schedule: Schedule) -> float:
    """log(sigma / alpha) at t = 1; infinite where alpha = 0 there."""
    return -0.5 * float(schedule.log_snr(torch.ones((), dtype=torch.float64)))


def log_ratio_range(schedule: Schedule, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    """log(sigma / alpha) at both ends, where the noisy end is no noisier than the schedule can be.

    Raises:
        UserError: the ends are not 0 < sigma_min < sigma_max, or the schedule ends below sigma_min.
    """
    if not 0 < sigma_min < sigma_max:
        raise UserError(f"a grid needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    high = min(math.log(sigma_max), noisiest(schedule))
    if high <= math.log(sigma_min):
        raise UserError(f"the schedule's noise-to-signal ratio never exceeds sigma_min={sigma_min}")
    return math.log(sigma_min), high
