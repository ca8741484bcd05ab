r"""A mixture seen through a linear instrument: an inverse problem whose posterior is known.

Data x_0 follows a mixture of Gaussians, x_0 | k ~ N(mu_k, S_k), and y = A x_0 + e is seen, e ~ N(0, r^2 I). Given y the
data is again a mixture, with

    C_k = A S_k A^T + r^2 I,                      K_k = S_k A^T C_k^{-1},
    mu_k' = mu_k + K_k (y - A mu_k),              S_k' = S_k - K_k A S_k,
    w_k' proportional to w_k N(y; A mu_k, C_k).

So E[x_0 | x_t, y] is exact, and a solver that is given it must draw from the posterior; what guidance for inverse
problems makes of E[x_0 | x_t] alone can be held against it. S_k' is not diagonal: components are diagonalised once, and
with S_k' = Q_k diag(s_k^2) Q_k^T the clean mean is that of a diagonal mixture in each component's own axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import ContinuousBed
from framework.certify.gaussian_mixture import PLANE, Mixture
from framework.denoiser import Prediction
from framework.ledger import Ledger
from framework.schedules import Schedule
from framework.spaces import Euclidean
from framework.state import Condition


@dataclass(frozen=True)
class Posterior:
    """A mixture of correlated Gaussians: weights (K,), means (K, d), covariances (K, d, d), float64."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        """Each component's variances (K, d) and axes (K, d, d), an axis a column."""
        variances, axes = torch.linalg.eigh(self.covariances)
        return variances, axes

    @property
    def mean(self) -> Tensor:
        """(d,)."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """(d, d)."""
        deviation = self.means - self.mean
        return torch.einsum("k,kij->ij", self.weights, self.covariances) + torch.einsum(
            "k,ki,kj->ij", self.weights, deviation, deviation
        )

    def clean_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x_t = x, y] for x (B, d) at alpha, sigma (B,)."""
        variances, axes = self._axes
        alpha, sigma = alpha.reshape(-1, 1, 1), sigma.reshape(-1, 1, 1)
        noisy = alpha**2 * variances + sigma**2
        deviation = torch.einsum("bki,kij->bkj", x[:, None] - alpha * self.means, axes)
        log_parts = self.weights.log() - (deviation**2 / noisy + noisy.log()).sum(-1) / 2
        part = self.means + torch.einsum("kij,bkj->bki", axes, alpha * variances / noisy * deviation)
        return (log_parts.softmax(-1)[..., None] * part).sum(1)


@dataclass(frozen=True)
class Observation:
    """y = A x_0 + e of a mixture: `matrix` (m, d) and `seen` (m,) as nested sequences, `noise` the deviation of e."""

    mixture: Mixture = PLANE
    matrix: Sequence[Sequence[float]] = ((0.8, 0.6),)
    seen: Sequence[float] = (0.2,)
    noise: float = 0.3

    @cached_property
    def posterior(self) -> Posterior:
        """The exact law of x_0 given y."""
        weights, means, stds = (
            torch.tensor(v, dtype=torch.float64) for v in (self.mixture.weights, self.mixture.means, self.mixture.stds)
        )
        a, y = (torch.tensor(v, dtype=torch.float64) for v in (self.matrix, self.seen))
        prior = torch.diag_embed(stds**2)
        evidence = a @ prior @ a.T + self.noise**2 * torch.eye(len(y), dtype=torch.float64)
        gain = prior @ a.T @ torch.linalg.inv(evidence)
        residual = y - means @ a.T
        log_weights = weights.log() + torch.distributions.MultivariateNormal(means @ a.T, evidence).log_prob(y)
        return Posterior(
            log_weights.softmax(0), means + torch.einsum("kij,kj->ki", gain, residual), prior - gain @ a @ prior
        )


@dataclass
class PosteriorDenoiser:
    """E[x_0 | x_t, y] on a schedule."""

    posterior: Posterior
    schedule: Schedule
    ledger: Ledger | None = None

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        if self.ledger is not None:
            self.ledger.count_forward(len(x_t))
        alpha, sigma = self.schedule.alpha_sigma(t)
        return Prediction(self.posterior.clean_mean(x_t, alpha, sigma), x_t, alpha, sigma)


@dataclass(frozen=True)
class ObservedBed(ContinuousBed):
    """The posterior of an observation as a bed."""

    floor: ClassVar[float] = 1e-12

    observation: Observation = Observation()
    name: str = "linear observation"

    @property
    def space(self) -> Euclidean:
        return Euclidean((self.observation.mixture.dimensions,))

    def condition(self, samples: Sequence[int]) -> Condition:
        return TensorDict({}, batch_size=[len(samples)])

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> PosteriorDenoiser:
        return PosteriorDenoiser(self.observation.posterior, schedule, ledger)


OBSERVED = ObservedBed()
