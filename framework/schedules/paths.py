"""Schedules that do not keep the variance: noise that is added, and the straight path."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.schedules.schedule import Schedule, as_times


@dataclass(frozen=True)
class VE(Schedule):
    """The variance-exploding SDE with geometric diffusion, started from the data itself (so that sigma(0) = 0)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def _rate(self) -> float:
        return 2 * math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(as_times(t))

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.expm1(self._rate * as_times(t)).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * self.sigma(t).log()

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.log1p(torch.exp(-log_snr) / self.sigma_min**2) / self._rate

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(as_times(t))

    def d_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * self._rate * self.sigma_min**2 * torch.exp(self._rate * t) / self.sigma(t)


@dataclass(frozen=True)
class EDM(Schedule):
    """sigma grows linearly; Karras et al. call sigma itself the time, here t = sigma / sigma_max."""

    sigma_max: float = 80.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(as_times(t))

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * as_times(t)

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * self.sigma(t).log()

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-0.5 * log_snr) / self.sigma_max

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(as_times(t))

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.full_like(as_times(t), self.sigma_max)


@dataclass(frozen=True)
class Flow(Schedule):
    """The straight path between data and noise (rectified flow, conditional optimal-transport path)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - as_times(t)

    def sigma(self, t: Tensor) -> Tensor:
        return as_times(t)

    def log_snr(self, t: Tensor) -> Tensor:
        return 2 * (torch.log1p(-as_times(t)) - as_times(t).log())

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-0.5 * log_snr)

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(as_times(t))

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(as_times(t))
