"""The schedule of a checkpoint that was trained on a table of betas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framework.schedules.schedule import as_times
from framework.schedules.variance_preserving import VariancePreserving


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
