"""alpha^2 + sigma^2 = 1: by the logarithm of alpha, by its angle, by its square."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.schedules.schedule import Schedule, as_times


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, written in terms of log alpha and its derivative."""

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def d_log_alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def time_of_log_alpha(self, log_alpha: Tensor) -> Tensor: ...

    def alpha(self, t: Tensor) -> Tensor:
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return _sigma(self.log_alpha(t))

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = self.log_alpha(t)
        return log_alpha.exp(), _sigma(log_alpha)

    def log_snr(self, t: Tensor) -> Tensor:
        return -torch.log(torch.expm1(-2 * self.log_alpha(t)))

    def time(self, log_snr: Tensor) -> Tensor:
        return self.time_of_log_alpha(-0.5 * torch.nn.functional.softplus(-log_snr, threshold=1e9))

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.alpha(t) * self.d_log_alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -(self.alpha(t) ** 2) * self.d_log_alpha(t) / self.sigma(t)


def _sigma(log_alpha: Tensor) -> Tensor:
    """sqrt(1 - alpha^2), to full precision where it is small."""
    return (-torch.expm1(2 * log_alpha)).sqrt()


@dataclass(frozen=True)
class LinearVP(VariancePreserving):
    """beta(t) = beta_min + t (beta_max - beta_min), the continuous limit of DDPM's betas."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * (self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2)

    def d_log_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * (self.beta_min + (self.beta_max - self.beta_min) * t)

    def time_of_log_alpha(self, log_alpha: Tensor) -> Tensor:
        # The root of a t^2 / 2 + beta_min t + 2 log alpha = 0, written without cancellation near t = 0.
        slope = self.beta_max - self.beta_min
        integral = -2 * log_alpha
        time = 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt())
        return torch.where(integral.isinf(), integral, time)  # pure noise is infinitely late


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): the angle grows uniformly."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * (1 - t))  # exactly zero at t = 1, which cos(pi / 2) is not

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * t)

    def log_snr(self, t: Tensor) -> Tensor:
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time(self, log_snr: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(torch.exp(-0.5 * log_snr))

    def d_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi * self.sigma(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * self.alpha(t)


@dataclass(frozen=True)
class Sigmoid(Schedule):
    """alpha^2 falls from 1 to 0 along a logistic curve from `start` to `end`; `tau` is its temperature."""

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def _powers(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha^2 and sigma^2, each a difference of logistic values without cancellation at its own end."""
        s, e = self.start / self.tau, self.end / self.tau
        u = s + t * (e - s)
        total = _logistic_difference(as_times(e), as_times(s))
        return _logistic_difference(as_times(e), u) / total, _logistic_difference(u, as_times(s)) / total

    def alpha(self, t: Tensor) -> Tensor:
        return self._powers(as_times(t))[0].sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return self._powers(as_times(t))[1].sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        signal, noise = self._powers(as_times(t))
        return signal.log() - noise.log()

    def time(self, log_snr: Tensor) -> Tensor:
        s, e = self.start / self.tau, self.end / self.tau
        low, high = torch.sigmoid(as_times(s)), torch.sigmoid(as_times(e))
        value = high * torch.sigmoid(-log_snr) + low * torch.sigmoid(log_snr)  # S(u) = high - alpha^2 (high - low)
        return ((torch.logit(value) - s) / (e - s)).clamp(0.0, 1.0)

    def _d_power(self, t: Tensor) -> Tensor:
        s, e = self.start / self.tau, self.end / self.tau
        value = torch.sigmoid(s + t * (e - s))
        return -(e - s) * value * (1 - value) / _logistic_difference(as_times(e), as_times(s))

    def d_alpha(self, t: Tensor) -> Tensor:
        return 0.5 * self._d_power(t) / self.alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -0.5 * self._d_power(t) / self.sigma(t)


def _logistic_difference(a: Tensor, b: Tensor) -> Tensor:
    """S(a) - S(b) = sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)), exact where a is close to b."""
    return torch.sinh((a - b) / 2) / (2 * torch.cosh(a / 2) * torch.cosh(b / 2))
