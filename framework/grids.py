"""Where a sampler steps: n steps as n + 1 decreasing times, from noise to t = 0.

A grid is not a schedule: it is handed the schedule, chooses times in whichever of t, sigma or log-SNR is natural for
it, and returns float64 times. Grids that are made in the noise-to-signal ratio rho = sigma / alpha serve every
schedule, since they look up its time; they end with the step to t = 0, so n steps are n network calls of a one-call
solver.

    UniformTime     t = 1 - i / n, with the shift t' = s t / (1 + (s - 1) t) (Esser et al. 2024)
    UniformLogSNR   log(sigma / alpha) evenly spaced (Lu et al. 2022)
    Karras          (sigma / alpha)^(1 / rho) evenly spaced (Karras et al. 2022, eq. 5)
    Quadratic       t = (1 - i / n)^2 (Song et al. 2021, DDIM)
    Trailing        a table's integer times counted back from T (Lin et al. 2024)
    Leading         a table's integer times from the start, T left out (Ho et al. 2020, as in most DDIM code)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    if not bool(torch.isfinite(times).all()) or float(times.max()) > 1 or float(times.min()) < 0:
        raise UserError("a grid's times must lie in [0, 1]")
    if not bool((times.diff() < 0).all()):
        where = int((times.diff() >= 0).nonzero()[0])
        raise UserError(
            f"a grid's times must decrease strictly: time {where} is {float(times[where])!r} and the next is "
            f"{float(times[where + 1])!r}"
        )
    return times


def _fractions(steps: int) -> Tensor:
    """1, 1 - 1/n, ..., 0 as float64 (n + 1,).

    Raises:
        UserError: steps < 1.
    """
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"a sampler needs a whole number of steps, at least one, got steps={steps}")
    return torch.arange(steps, -1, -1, dtype=torch.float64) / steps


def _from_ratios(schedule: Schedule, log_ratios: Tensor) -> Tensor:
    """Times of descending log(sigma / alpha), clipped to the schedule's own range, with t = 0 behind them."""
    times = schedule.time(-2 * log_ratios).clamp(0.0, 1.0)
    return check_times(torch.cat([times, torch.zeros(1, dtype=torch.float64)]))


def _range(schedule: Schedule, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    """log(sigma / alpha) at both ends, where the noisy end is no noisier than the schedule can be.

    Raises:
        UserError: the ends are not 0 < sigma_min < sigma_max, or the schedule ends below sigma_min.
    """
    if not 0 < sigma_min < sigma_max:
        raise UserError(f"a grid needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    most = -0.5 * float(schedule.log_snr(torch.ones((), dtype=torch.float64)))
    high = min(math.log(sigma_max), most)
    if high <= math.log(sigma_min):
        raise UserError(f"the schedule's noise-to-signal ratio never exceeds sigma_min={sigma_min}")
    return math.log(sigma_min), high


@dataclass(frozen=True)
class UniformTime:
    """Even steps in t; shift > 1 spends more of them in noise."""

    shift: float = 1.0

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        t = _fractions(steps)
        return check_times(self.shift * t / (1 + (self.shift - 1) * t))


@dataclass(frozen=True)
class UniformLogSNR:
    """Even steps in log(sigma / alpha) from `sigma_max` to `sigma_min`, and one from there to t = 0."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        low, high = _range(schedule, self.sigma_min, self.sigma_max)
        fractions = _fractions(max(steps - 1, 1))[: steps if steps > 1 else 1]
        return _from_ratios(schedule, low + (high - low) * fractions)


@dataclass(frozen=True)
class Karras:
    """Even steps in (sigma / alpha)^(1 / rho): more of them near the data as rho grows."""

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        low, high = (math.exp(end / self.rho) for end in _range(schedule, self.sigma_min, self.sigma_max))
        fractions = _fractions(max(steps - 1, 1))[: steps if steps > 1 else 1]
        return _from_ratios(schedule, self.rho * (low + (high - low) * fractions).log())


@dataclass(frozen=True)
class Quadratic:
    """t = u^2 for even u: short steps near the data."""

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        return check_times(_fractions(steps) ** 2)


def _of_table(integers: Tensor, timesteps: int) -> Tensor:
    times = (integers.double() / timesteps).clamp(0.0, 1.0)
    return check_times(torch.cat([times, torch.zeros(1, dtype=torch.float64)]))


def _check_table(steps: int, timesteps: int) -> None:
    if not isinstance(steps, int) or not 1 <= steps <= timesteps:
        raise UserError(f"a table of {timesteps} times has no grid of {steps} steps; choose 1 to {timesteps}")


@dataclass(frozen=True)
class Trailing:
    """Every (T / n)-th of T integer times counted back from T, so that sampling starts from pure noise."""

    timesteps: int = 1000

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        _check_table(steps, self.timesteps)
        counts = torch.arange(steps, dtype=torch.float64)
        return _of_table((self.timesteps - counts * (self.timesteps / steps)).round(), self.timesteps)


@dataclass(frozen=True)
class Leading:
    """1 + every floor(T / n)-th integer time from 0: the last time T is never visited (kept to match old results)."""

    timesteps: int = 1000

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        _check_table(steps, self.timesteps)
        counts = torch.arange(steps - 1, -1, -1, dtype=torch.float64)
        return _of_table(counts * (self.timesteps // steps) + 1, self.timesteps)


@dataclass(frozen=True)
class Explicit:
    """Times given one by one; `steps` must agree with their number."""

    times: Sequence[float]

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        if steps != len(self.times) - 1:
            raise UserError(f"{len(self.times)} times make {len(self.times) - 1} steps, not {steps}")
        return check_times(torch.as_tensor(list(self.times), dtype=torch.float64))
