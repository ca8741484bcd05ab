"""Another schedule at other times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.schedules.schedule import Schedule, angle, as_times


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


def _d_angle(schedule: Schedule, t: Tensor) -> Tensor:
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return (schedule.d_sigma(t) * alpha - schedule.d_alpha(t) * sigma) / (alpha**2 + sigma**2)
