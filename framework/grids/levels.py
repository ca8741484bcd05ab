r"""Grids on a checkpoint's table of noise levels, and on the straight path, as published samplers place them.

A table of T levels has its level k, from 1 to T, at time k / T. A grid chooses n of them, and the run ends at t = 0
or at the table's first level. Two choices make a grid. `spacing` places n values between the highest and the lowest:

    Linspace               evenly, both ends among them
    LinspaceWithoutLast    evenly in n + 1, the last left out
    LeadingStride          every floor(T / n)-th from the lowest (Ho et al. 2020)
    LeadingStrideWithoutLast    every floor(T / (n + 1))-th, the lowest left out
    TrailingStride         every (T / n)-th counted back from the highest, rounded (Lin et al. 2024, Table 2)
    Rounded                another spacing, to whole levels

and `curve`, where there is one, puts n noise-to-signal ratios u between those of the spacing's two ends instead:

    KarrasCurve        u^(1 / rho) evenly spaced                                      Karras et al. 2022, eq. 5
    ExponentialCurve   log u evenly spaced                                            Lu et al. 2022, uniform lambda
    BetaCurve          u_min + (u_max - u_min) q, q the quantiles of a Beta           Lee et al. 2024, arXiv:2407.12173
                       distribution at even steps

Between whole levels u is linear in the level. Where the last value chosen is where the run ends, n + 1 values are
chosen, so that n steps are n steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from scipy.special import betaincinv
from torch import Tensor

from framework.errors import UserError
from framework.grids.grid import check_steps, check_times
from framework.schedules import Schedule


class Spacing(Protocol):
    """The role: `count` values from `high` towards `low`, float64 (count,), decreasing."""

    def __call__(self, high: float, low: float, count: int) -> Tensor: ...


class Curve(Protocol):
    """The role: `count` positive values from `high` to `low`, both among them, float64 (count,), decreasing."""

    def __call__(self, high: float, low: float, count: int) -> Tensor: ...


def _ramp(count: int) -> Tensor:
    """0, ..., 1 as float64 (count,); one value is 0."""
    return torch.arange(count, dtype=torch.float64) / max(count - 1, 1)


@dataclass(frozen=True)
class Linspace:
    """Evenly, both ends among them; one value is the highest."""

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        return high + _ramp(count) * (low - high)


@dataclass(frozen=True)
class LinspaceWithoutLast:
    """Evenly in one more, the lowest left out."""

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        return Linspace()(high, low, count + 1)[:-1]


@dataclass(frozen=True)
class LeadingStride:
    """Whole strides up from low + offset."""

    offset: int = 0

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        stride = int(high - low + 1) // count
        return low + self.offset + torch.arange(count - 1, -1, -1, dtype=torch.float64) * stride


@dataclass(frozen=True)
class LeadingStrideWithoutLast:
    """Whole strides up from low + offset, of one more, the lowest left out."""

    offset: int = 0

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        return LeadingStride(self.offset)(high, low, count + 1)[:-1]


@dataclass(frozen=True)
class TrailingStride:
    """Strides counted back from the highest, rounded."""

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        stride = (high - low + 1) / count
        return (high - torch.arange(count, dtype=torch.float64) * stride).round()


@dataclass(frozen=True)
class Rounded:
    """`of` to whole distances from the lowest, halves to the even one."""

    of: Spacing

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        return low + (self.of(high, low, count) - low).round()


@dataclass(frozen=True)
class KarrasCurve:
    """Evenly in the power 1 / rho."""

    rho: float = 7.0

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        return Linspace()(high ** (1 / self.rho), low ** (1 / self.rho), count) ** self.rho


@dataclass(frozen=True)
class ExponentialCurve:
    """Evenly in the logarithm."""

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        return high * (low / high) ** _ramp(count)


@dataclass(frozen=True)
class BetaCurve:
    """By the quantiles of Beta(a, b): a, b < 1 crowd both ends."""

    a: float = 0.6
    b: float = 0.6

    def __call__(self, high: float, low: float, count: int) -> Tensor:
        quantiles = torch.from_numpy(betaincinv(self.a, self.b, (1 - _ramp(count)).numpy()))
        return low + quantiles * (high - low)


@dataclass(frozen=True)
class TableLevels:
    """Levels of a table; see the module's docstring.

    Args:
        timesteps: T, the number of levels.
        spacing: where between `highest` and level 1.
        curve: where instead between the ratios of the spacing's ends.
        end: the level at which the run ends: 0 is the data, 1 the table's first.
        highest: the highest level that is used; None is T.

    Raises:
        UserError: end is neither 0 nor 1, or `highest` is no level.
    """

    timesteps: int = 1000
    spacing: Spacing = field(default_factory=Linspace)
    curve: Curve | None = None
    end: int = 0
    highest: int | None = None

    def __post_init__(self) -> None:
        if self.end not in (0, 1):
            raise UserError(f"a run on a table ends at level 0 (the data) or 1, not {self.end}")
        if self.highest is not None and not 1 <= self.highest <= self.timesteps:
            raise UserError(f"a table of {self.timesteps} levels has no level {self.highest}")

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        if check_steps(steps) > self.timesteps:
            raise UserError(f"a table of {self.timesteps} levels has no {steps}; choose 1 to {self.timesteps} steps")
        chosen = self._levels(schedule, steps)
        if float(chosen[-1]) <= self.end:
            chosen = self._levels(schedule, steps + 1)[:-1]
        end = torch.tensor([self.end], dtype=torch.float64)
        return check_times(torch.cat([chosen, end]) / self.timesteps)

    def _levels(self, schedule: Schedule, count: int) -> Tensor:
        """Levels k, so that k / T is the time; not whole where the ratio lies between two."""
        levels = self.spacing(self.timesteps if self.highest is None else self.highest, 1, count).clamp(
            1, self.timesteps
        )
        if self.curve is not None:
            high, low = (float(u) for u in self._ratio(schedule, levels[[0, -1]]))
            return self._level_of(schedule, self.curve(high, low, count))
        if bool((levels == levels.round()).all()):
            return levels
        return self._level_of(schedule, self._ratio(schedule, levels))

    def _ratio(self, schedule: Schedule, levels: Tensor) -> Tensor:
        """sigma / alpha, linear between whole levels."""
        below = levels.floor()
        low, high = (torch.exp(-0.5 * schedule.log_snr(k / self.timesteps)) for k in (below, levels.ceil()))
        return torch.lerp(low, high, levels - below)

    def _level_of(self, schedule: Schedule, ratios: Tensor) -> Tensor:
        return (schedule.time(-2 * ratios.log()) * self.timesteps).clamp(1, self.timesteps)


@dataclass(frozen=True)
class FlowLevels:
    """Times on the straight path: spaced from `high` to `low`, shifted, and the data behind them.

    Args:
        spacing: where between high and low.
        high, low: times in (0, 1].
        shift: s in t' = s t / (1 + (s - 1) t) (Esser et al. 2024).
        terminal: where the last but one of the times is to lie, by stretching 1 - t; None leaves it.
        curve: where instead between the shifted ends.
    """

    spacing: Spacing = field(default_factory=Linspace)
    high: float = 1.0
    low: float = 0.001
    shift: float = 1.0
    terminal: float | None = None
    curve: Curve | None = None

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        t = self.spacing(self.high, self.low, check_steps(steps))
        t = self.shift * t / (1 + (self.shift - 1) * t)
        if self.terminal is not None and steps > 1:
            t = 1 - (1 - t) * (1 - self.terminal) / (1 - t[-1])
        if self.curve is not None:
            t = self.curve(float(t[0]), float(t[-1]), steps)
        return check_times(torch.cat([t, torch.zeros(1, dtype=torch.float64)]))


@dataclass(frozen=True)
class Crash:
    """t = (2 / pi) asin(sin^2(pi u / 2)) for even u: long steps in noise, short near the data ("crash schedule").

    Crowson 2021, v-diffusion; on the Cosine schedule sigma = sin^2(pi u / 2).
    """

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        u = 1 - _ramp(check_steps(steps) + 1)
        return check_times(2 / torch.pi * torch.asin(torch.sin(torch.pi * u / 2) ** 2))
