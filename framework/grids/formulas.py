"""Grids in closed form.

n steps are n + 1 times; grids that are made in sigma / alpha end with the step to t = 0, so that n steps are n network
calls of a one-call solver.

    UniformTime     t = 1 - i / n, with the shift t' = s t / (1 + (s - 1) t) (Esser et al. 2024)
    UniformLogSNR   log(sigma / alpha) evenly spaced (Lu et al. 2022)
    Karras          (sigma / alpha)^(1 / rho) evenly spaced (Karras et al. 2022, eq. 5)
    UniformFlow     sigma / (alpha + sigma) evenly spaced: UniformTime of the straight path, on any schedule
    Quadratic       t = (1 - i / n)^2 (Song et al. 2021, DDIM)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.grids.grid import (
    check_steps,
    check_times,
    fractions,
    from_log_ratios,
    log_ratio_range,
    noisiest,
)
from framework.schedules import Schedule


@dataclass(frozen=True)
class UniformTime:
    """Even steps in t; shift > 1 spends more of them in noise."""

    shift: float = 1.0

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        t = fractions(steps)
        return check_times(self.shift * t / (1 + (self.shift - 1) * t))


@dataclass(frozen=True)
class UniformLogSNR:
    """Even steps in log(sigma / alpha) from `sigma_max` to `sigma_min`, and one from there to t = 0."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        low, high = log_ratio_range(schedule, self.sigma_min, self.sigma_max)
        return from_log_ratios(schedule, low + (high - low) * _between_ends(steps))


@dataclass(frozen=True)
class Karras:
    """Even steps in (sigma / alpha)^(1 / rho): more of them near the data as rho grows."""

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        low, high = (math.exp(end / self.rho) for end in log_ratio_range(schedule, self.sigma_min, self.sigma_max))
        return from_log_ratios(schedule, self.rho * (low + (high - low) * _between_ends(steps)).log())


@dataclass(frozen=True)
class UniformFlow:
    """Even steps in f = sigma / (alpha + sigma), the time of the straight path, down from where the schedule begins.

    For data of unit scale half of the steps lie where there is more data than noise; shift > 1 spends more in noise.
    """

    shift: float = 1.0

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        begin = math.exp(-noisiest(schedule)) * self.shift  # alpha / sigma where the unshifted path begins
        f = fractions(steps)[:-1] / (1 + begin)
        return from_log_ratios(schedule, torch.logit(f) + math.log(self.shift))


@dataclass(frozen=True)
class Quadratic:
    """t = u^2 for even u: short steps near the data."""

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        return check_times(fractions(steps) ** 2)


def _between_ends(steps: int) -> Tensor:
    """`steps` even numbers from 1 to 0, or 1 alone: where the levels lie between the noisiest and the least noisy."""
    check_steps(steps)
    return fractions(steps - 1) if steps > 1 else fractions(1)[:1]
