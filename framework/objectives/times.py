"""At which times to train: each is a quantile function, from uniforms u in [0, 1) to times in [0, 1].

Because they all take uniforms, one wrapper makes any of them stratified, and validation evaluates them at fixed
quantiles.

    Uniform        t = u
    LogitNormal    t = S(mean + std Phi^-1(u))                    Esser et al. 2024
    EDMLogNormal   log(sigma / alpha) = mean + std Phi^-1(u)      Karras et al. 2022
    Stratified     u_i -> frac(u_0 + i / B)                       Kingma et al. 2021: one draw, spread over the batch
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.schedules import Schedule


class TimeSampler(ABC):
    """A law of times on a schedule, by its quantile function; all float64 (B,)."""

    @abstractmethod
    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The times below which a share u of the law lies."""

    def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor:
        """Times drawn with independent uniforms."""
        return self.quantile(uniforms, schedule)


@dataclass(frozen=True)
class Uniform(TimeSampler):
    """All times alike."""

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return u


@dataclass(frozen=True)
class LogitNormal(TimeSampler):
    """A normal in logit(t): most weight at middle times."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


@dataclass(frozen=True)
class EDMLogNormal(TimeSampler):
    """A normal in log(sigma / alpha), cut off where the schedule ends."""

    mean: float = -1.2
    std: float = 1.2

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        log_ratio = self.mean + self.std * torch.special.ndtri(u)
        return schedule.time(-2 * log_ratio).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Stratified(TimeSampler):
    """Another sampler on evenly spread uniforms: the same law for each row, less variance in the batch's mean."""

    of: TimeSampler

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.of.quantile(u, schedule)

    def __call__(self, uniforms: Tensor, schedule: Schedule) -> Tensor:
        spread = torch.arange(len(uniforms), dtype=uniforms.dtype, device=uniforms.device) / len(uniforms)
        return self.of.quantile((uniforms[0] + spread).frac(), schedule)
