"""At which times to train: each is a quantile function, from uniforms u in [0, 1) to times in [0, 1].

Because they all take uniforms, one wrapper makes any of them stratified, and validation evaluates them at fixed
quantiles.

    Uniform        t = u
    LogitNormal    t = S(mean + std Phi^-1(u))                    Esser et al. 2024
    EDMLogNormal   log(sigma / alpha) = mean + std Phi^-1(u)      Karras et al. 2022
    Stratified     u_i -> frac(u_0 + i / B)                       Kingma et al. 2021: one draw, spread over the batch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.schedules import Schedule


class TimeSampler(Protocol):
    """The role: float64 uniforms (B,) to float64 times (B,) on a schedule."""

    def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor: ...


@dataclass(frozen=True)
class Uniform:
    """All times alike."""

    def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor:
        return uniforms


@dataclass(frozen=True)
class LogitNormal:
    """A normal in logit(t): most weight at middle times."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(uniforms))


@dataclass(frozen=True)
class EDMLogNormal:
    """A normal in log(sigma / alpha), cut off where the schedule ends."""

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor:
        log_ratio = self.mean + self.std * torch.special.ndtri(uniforms)
        return schedule.time(-2 * log_ratio).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Stratified:
    """Another sampler on evenly spread uniforms: the same law for each row, less variance in the batch's mean."""

    of: TimeSampler

    def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor:
        spread = torch.arange(len(uniforms), dtype=uniforms.dtype, device=uniforms.device) / len(uniforms)
        return self.of((uniforms[0] + spread).frac(), schedule)
