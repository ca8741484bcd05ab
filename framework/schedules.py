r"""How much of the data and how much noise there is at time t: x_t = alpha(t) x_0 + sigma(t) z.

Time runs from t = 0, data (alpha = 1, sigma = 0 exactly), to t = 1, noise. All that a sampler needs follows from the
log-signal-to-noise ratio

    log_snr(t) = log(alpha(t)^2 / sigma(t)^2),

which falls strictly from +inf; a schedule gives it, its inverse `time`, and the derivatives of alpha and sigma in
closed form. Everything is float64, of any shape. A schedule says nothing about where a sampler steps: that is a grid.

    LinearVP     Ho et al. 2020; Song et al. 2021      log alpha = -(beta_min t + (beta_max - beta_min) t^2 / 2) / 2
    Cosine       Nichol & Dhariwal 2021 (s = 0)        alpha = cos(pi t / 2), sigma = sin(pi t / 2)
    Sigmoid      Jabri et al. 2022; Chen 2023          alpha^2 = (S(e) - S(s + t (e - s))) / (S(e) - S(s)), S logistic
    VE           Song et al. 2021                      alpha = 1, sigma^2 = smin^2 ((smax / smin)^(2 t) - 1)
    EDM          Karras et al. 2022                    alpha = 1, sigma = sigma_max t
    Flow         Liu et al. 2023; Lipman et al. 2023   alpha = 1 - t, sigma = t
    TabulatedBetas  a checkpoint's betas               log alpha^2 linear between the table's times k / T
    Shifted      Hoogeboom et al. 2023; Esser et al. 2024   another schedule with log_snr lowered by 2 log(shift)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class TabulatedBetas(VariancePreserving):
    """A checkpoint's beta_1 ... beta_T: alpha(k / T)^2 is the product of 1 - beta_1 ... 1 - beta_k, and alpha(0) = 1.

    Between the table's times log alpha^2 is linear: the variance-preserving SDE whose beta is constant over each step.
    The last beta may be 1 (Lin et al. 2024, zero terminal SNR): then alpha itself falls linearly to 0 over its step.

    Raises:
        ValueError: a beta lies outside (0, 1), or the last outside (0, 1].
    """

    betas: Sequence[float]
    _knots: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        betas = torch.as_tensor(self.betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) == 0 or not bool(((betas > 0) & (betas <= 1)).all() & (betas[:-1] < 1).all()):
            raise ValueError("betas must be a list of numbers strictly between 0 and 1, of which the last may be 1")
        steps = torch.log1p(-betas).cumsum(0) / 2
        object.__setattr__(self, "betas", tuple(betas.tolist()))
        object.__setattr__(self, "_knots", torch.cat([torch.zeros(1, dtype=torch.float64), steps]))

    def _segment(self, position: Tensor) -> Tensor:
        return position.floor().clamp(0, len(self.betas) - 1).long()

    def _knots_at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        knots = self._knots.to(index.device)
        return knots[index], knots[index + 1]

    def log_alpha(self, t: Tensor) -> Tensor:
        position = as_times(t) * len(self.betas)
        index = self._segment(position)
        low, high = self._knots_at(index)
        share = position - index
        return low + torch.where(high.isinf(), torch.log1p(-share), share * (high - low))

    def d_log_alpha(self, t: Tensor) -> Tensor:
        position = as_times(t) * len(self.betas)
        index = self._segment(position)
        low, high = self._knots_at(index)
        return len(self.betas) * torch.where(high.isinf(), -1 / (1 - (position - index)), high - low)

    def time_of_log_alpha(self, log_alpha: Tensor) -> Tensor:
        knots = self._knots.to(log_alpha.device)
        index = self._segment((torch.searchsorted(-knots, -log_alpha) - 1).double())
        low, high = self._knots_at(index)
        share = torch.where(high.isinf(), -torch.expm1(log_alpha - low), (log_alpha - low) / (high - low))
        return (index + share) / len(self.betas)

    def d_alpha(self, t: Tensor) -> Tensor:
        position = as_times(t) * len(self.betas)
        low, high = self._knots_at(self._segment(position))
        # In the step to alpha = 0 the slope of alpha is constant, where that of log alpha has no bound.
        return torch.where(high.isinf(), -len(self.betas) * low.exp(), super().d_alpha(t))

    def d_sigma(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)


class DDPMBetas(TabulatedBetas):
    """DDPM's table: `steps` betas from `beta_start` to `beta_end`, evenly spaced (Ho et al. 2020)."""

    def __init__(self, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        super().__init__(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64).tolist())


@dataclass(frozen=True)
class Shifted(Schedule):
    """`base` with its noise-to-signal ratio sigma / alpha multiplied by `shift` at every time.

    Larger canvases average noise away, so an image of twice the side wants shift = 2 to be destroyed as much at each t.
    The path is the base's own, travelled at other times: on Flow this is t' = shift t / (1 + (shift - 1) t).
    """

    base: Schedule
    shift: float | str = 1.0  # a number, in whose place a training's configuration may say auto

    def __post_init__(self) -> None:
        if isinstance(self.shift, str) or self.shift <= 0:
            raise ValueError(
                f"shift must be a positive number, got {self.shift!r}; schedule.shift=auto is for `diffract train`, "
                "which measures it and writes the number into the run's configuration"
            )

    @property
    def _shift(self) -> float:
        return float(self.shift)

    def _inner(self, t: Tensor) -> Tensor:
        return self.base.time(self.log_snr(t))

    def log_snr(self, t: Tensor) -> Tensor:
        return self.base.log_snr(as_times(t)) - 2 * math.log(self._shift)

    def time(self, log_snr: Tensor) -> Tensor:
        return self.base.time(log_snr + 2 * math.log(self._shift))

    def alpha(self, t: Tensor) -> Tensor:
        return self.base.alpha(self._inner(t))

    def sigma(self, t: Tensor) -> Tensor:
        return self.base.sigma(self._inner(t))

    def _d_inner(self, t: Tensor) -> Tensor:
        """dt'/dt through the angle atan(sigma / alpha), whose rate is finite at both ends.

        tan(angle') = shift tan(angle), so d angle' / d angle = shift / (cos^2 + shift^2 sin^2) of the angle at t.
        """
        here = angle(self.base, as_times(t))
        turn = self._shift / (torch.cos(here) ** 2 + self._shift**2 * torch.sin(here) ** 2)
        return turn * _d_angle(self.base, as_times(t)) / _d_angle(self.base, self._inner(t))

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.base.d_alpha(self._inner(t)) * self._d_inner(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.base.d_sigma(self._inner(t)) * self._d_inner(t)


def angle(schedule: Schedule, t: Tensor) -> Tensor:
    """atan(sigma / alpha) in [0, pi / 2]: a measure of the noise level that no schedule makes infinite."""
    return torch.atan2(schedule.sigma(t), schedule.alpha(t))


def _d_angle(schedule: Schedule, t: Tensor) -> Tensor:
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return (schedule.d_sigma(t) * alpha - schedule.d_alpha(t) * sigma) / (alpha**2 + sigma**2)
