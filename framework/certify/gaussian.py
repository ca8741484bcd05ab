r"""The simplest bed: one Gaussian, on which a deterministic plan is an affine map and the exact one is known.

For data N(m, s^2) in each dimension the probability-flow ODE takes y = x / alpha from noise-to-signal ratio u to w by

    y_w = m + (y_u - m) sqrt((s^2 + w^2) / (s^2 + u^2)),

and the clean mean is affine in the state. So the whole map of a solver, the product of its stages, is held against the
exact one to rounding, with no reference solution between them (Pierret & Galerne 2025, arXiv:2405.14250). Linear
problems hide the nonlinear order conditions of Runge-Kutta methods, which is what the mixtures are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from framework.certify.gaussian_mixture import Mixture, MixtureBed
from framework.state import Condition


@dataclass(frozen=True)
class GaussianBed(MixtureBed):
    """A mixture of one; `flow` is the closed form."""

    floor: ClassVar[float] = 1e-12

    def flow(self, y: Tensor, high: float, low: float, condition: Condition) -> Tensor:
        mean, std = (torch.tensor(v[0], dtype=torch.float64) for v in (self.mixture.means, self.mixture.stds))
        return mean + (y - mean) * ((std**2 + low**2) / (std**2 + high**2)).sqrt()


def gaussian(means: Sequence[float], stds: Sequence[float], name: str = "Gaussian") -> GaussianBed:
    """The bed of one Gaussian with these means and standard deviations."""
    return GaussianBed(name, Mixture((1.0,), (tuple(means),), (tuple(stds),)))


GAUSSIAN = gaussian((1.0, -0.5, 0.2, 0.0), (0.1, 0.3, 0.6, 1.0))
