"""The role of a schedule, and what all of them are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


def as_times(t: float | Tensor) -> Tensor:
    """Times as a float64 tensor."""
    return torch.as_tensor(t, dtype=torch.float64)


class Schedule(ABC):
    """alpha, sigma and what follows from them; arguments and results are float64 tensors of one shape."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The scale of the data at times t in [0, 1]."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The scale of the noise."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both, of which a schedule may find one from the other."""
        return self.alpha(t), self.sigma(t)

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2): +inf at t = 0, and -inf where alpha = 0."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """The derivative of alpha with respect to t."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """The derivative of sigma with respect to t."""

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether nothing of the data is left at t = 1 (alpha = 0)."""
        return bool(self.alpha(as_times(1.0)) == 0)


def angle(schedule: Schedule, t: Tensor) -> Tensor:
    """atan(sigma / alpha) in [0, pi / 2]: a measure of the noise level that no schedule makes infinite."""
    return torch.atan2(schedule.sigma(t), schedule.alpha(t))
