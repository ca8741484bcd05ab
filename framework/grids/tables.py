"""Grids that are read from a list: a checkpoint's integer times, published noise levels, times of one's own.

Trailing        a table's integer times counted back from T (Lin et al. 2024)
Leading         a table's integer times from the start, T left out (Ho et al. 2020, as in most DDIM code)
Explicit        the times themselves
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.errors import UserError
from framework.grids.grid import check_times
from framework.schedules import Schedule


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
