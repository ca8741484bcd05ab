r"""Masked sets with their centre of mass at zero: what a solver must never leave, on data with an exact denoiser.

A sample is a set of n <= N points with f numbers each, padded with zeros; its n points have mean zero. Data is a
mixture over such sets: component k is a shape mu_k, projected onto the subspace, with isotropic deviation s_k within
it. The subspace has (n - 1) f dimensions, on which everything is a mixture of isotropic Gaussians:

    D(x) = sum_k r_k(x) [mu_k + alpha s_k^2 (x - alpha mu_k) / v_k],    v_k = alpha^2 s_k^2 + sigma^2,
    log r_k = log w_k - |x - alpha mu_k|^2 / (2 v_k) - (n - 1) f / 2 log v_k + const.

The number of points of sample i is a function of i alone, and so are its shapes: a wider padding changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import ContinuousBed
from framework.denoiser import Prediction
from framework.ledger import Ledger
from framework.schedules import Schedule
from framework.spaces import ZeroCentreOfMass
from framework.state import Condition

WEIGHTS = (0.5, 0.3, 0.2)
STDS = (0.15, 0.25, 0.1)
SMALLEST, SIZES = 3, 4  # sample i has SMALLEST + i % SIZES points


@dataclass
class SetDenoiser:
    """The exact clean mean of the mixture over sets, whose shapes are condition["shapes"] (B, K, N, f)."""

    space: ZeroCentreOfMass
    schedule: Schedule
    ledger: Ledger | None = None

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        if self.ledger is not None:
            self.ledger.count_forward(len(x_t))
        alpha, sigma = self.schedule.alpha_sigma(t)
        return Prediction(self._clean(x_t, alpha, sigma, condition), x_t, alpha, sigma)

    def _clean(self, x: Tensor, alpha: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        weights, stds = torch.tensor(WEIGHTS, dtype=torch.float64), torch.tensor(STDS, dtype=torch.float64)
        variance = (alpha[:, None] * stds) ** 2 + sigma[:, None] ** 2  # (B, K)
        shapes = condition["shapes"]
        deviation = x[:, None] - alpha.reshape(-1, 1, 1, 1) * shapes
        freedom = self.space.degrees_of_freedom(condition)[:, None]
        squares = deviation.square().sum((-1, -2))
        share = (weights.log() - squares / (2 * variance) - freedom / 2 * variance.log()).softmax(-1)
        gain = alpha[:, None] * stds**2 / variance
        part = shapes + gain[..., None, None] * deviation
        return (share[..., None, None] * part).sum(1)


@dataclass(frozen=True)
class SetBed(ContinuousBed):
    """Sets padded to `padded` points."""

    padded: int = 8
    features: int = 3
    name: str = "zero-centre-of-mass sets"

    @property
    def space(self) -> ZeroCentreOfMass:
        return ZeroCentreOfMass(self.features)

    def condition(self, samples: Sequence[int]) -> Condition:
        points = torch.tensor([SMALLEST + i % SIZES for i in samples])
        mask = torch.arange(self.padded) < points[:, None]
        condition = TensorDict({"mask": mask}, batch_size=[len(samples)])
        condition["shapes"] = self._shapes(condition)
        return condition

    def _shapes(self, condition: Condition) -> Tensor:
        """(B, K, N, f): points on Lissajous curves, one curve a component, projected onto each sample's subspace."""
        point = torch.arange(self.padded, dtype=torch.float64)[:, None]
        feature = torch.arange(self.features, dtype=torch.float64)
        curves = [torch.cos((k + 1.7) * (point + 1) + 2.1 * feature * (k + 1)) for k in range(len(WEIGHTS))]
        size = (*condition.batch_size, self.padded, self.features)
        return torch.stack([self.space.project(curve.expand(size), condition) for curve in curves], dim=1)

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> SetDenoiser:
        return SetDenoiser(self.space, schedule, ledger)


SETS = SetBed()
