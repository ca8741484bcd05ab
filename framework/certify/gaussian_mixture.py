r"""An analytic bed: data whose denoiser is known in closed form, so that a solver's error is its own.

Data is a mixture of Gaussians with weights w_k, means mu_k and diagonal standard deviations s_k. Noised to x_t = alpha
x_0 + sigma z it is the mixture with means alpha mu_k and variances v_k = alpha^2 s_k^2 + sigma^2, and the clean mean is

    D(x) = sum_k r_k(x) [mu_k + alpha s_k^2 (x - alpha mu_k) / v_k],
    r    = softmax(log w_k + log N(x; alpha mu_k, v_k)).

`PLANE` is the two-dimensional mixture on which the orders in this repository were first measured: three components of
unequal weight and shape, one of them narrow. `SIXTEEN` has eight components in sixteen dimensions, placed by a rule
and not by a seed, on which benchmarks measure too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import ContinuousBed, integrate, unit_schedule
from framework.denoiser import Prediction
from framework.ledger import Ledger
from framework.schedules import Schedule
from framework.spaces import Euclidean
from framework.state import Condition


@dataclass(frozen=True)
class Mixture:
    """Weights (K,), means (K, d) and standard deviations (K, d) of diagonal Gaussians, as nested sequences."""

    weights: Sequence[float]
    means: Sequence[Sequence[float]]
    stds: Sequence[Sequence[float]]

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(torch.tensor(v, dtype=torch.float64) for v in (self.weights, self.means, self.stds))  # type: ignore[return-value]

    @cached_property
    def _prepared(self) -> tuple[Tensor, Tensor]:
        """log w_k - d / 2 log 2 pi (K,), and variances (K, d)."""
        weights, _, stds = self._tensors
        return weights.log() - self.dimensions / 2 * math.log(2 * math.pi), stds**2

    @property
    def dimensions(self) -> int:
        return len(self.means[0])

    def sample(self, n: int, seed: int) -> Tensor:
        """n exact draws, float64 (n, d)."""
        weights, means, stds = self._tensors
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.dimensions, dtype=torch.float64, generator=generator)
        return means[which] + stds[which] * z

    def responsibilities(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log w_k N(x; ...) (B, K), and each component's variance and deviation (B, K, d)."""
        log_weights, variances = self._prepared
        alpha, sigma = alpha.reshape(-1, 1, 1), sigma.reshape(-1, 1, 1)
        variance = alpha**2 * variances + sigma**2
        deviation = x[:, None] - alpha * self._tensors[1]
        return log_weights - (deviation**2 / variance + variance.log()).sum(-1) / 2, variance, deviation

    def clean_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, member: Tensor | None = None) -> Tensor:
        """E[x_0 | x_t = x] for x (B, d) at alpha, sigma (B,), given that row i is of a component with member[i, k]."""
        log_parts, variance, deviation = self.responsibilities(x, alpha, sigma)
        if member is not None:
            log_parts = torch.where(member, log_parts, -torch.inf)
        part = self._tensors[1] + alpha.reshape(-1, 1, 1) * self._prepared[1] * deviation / variance
        return (log_parts.softmax(-1)[..., None] * part).sum(1)

    def log_density(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log p_t(x) in nats (B,)."""
        return self.responsibilities(x, alpha, sigma)[0].logsumexp(-1)


PLANE = Mixture(
    weights=(0.5, 0.3, 0.2),
    means=((-1.0, 0.0), (0.7, 0.9), (0.8, -0.6)),
    stds=((0.15, 0.35), (0.25, 0.10), (0.10, 0.10)),
)


def _sixteen(components: int = 8, dimensions: int = 16) -> Mixture:
    """Means on cosines of irrational multiples, so that no two components share a direction; weights fall by 0.8."""
    weights = [0.8**k for k in range(components)]
    angles = [[math.sqrt(2) * (k + 1) * (i + 1) for i in range(dimensions)] for k in range(components)]
    return Mixture(
        weights=tuple(w / sum(weights) for w in weights),
        means=tuple(tuple(math.cos(a) for a in row) for row in angles),
        stds=tuple(tuple(0.2 + 0.1 * math.sin(math.sqrt(3) * a) for a in row) for row in angles),
    )


SIXTEEN = _sixteen()


@dataclass
class MixtureDenoiser:
    """The exact denoiser of a mixture on a schedule; conditions are ignored."""

    mixture: Mixture
    schedule: Schedule
    ledger: Ledger | None = None

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        if self.ledger is not None:
            self.ledger.count_forward(len(x_t))
        alpha, sigma = self.schedule.alpha_sigma(t)
        return Prediction(self.mixture.clean_mean(x_t, alpha, sigma), x_t, alpha, sigma)


@dataclass(frozen=True)
class MixtureBed(ContinuousBed):
    """A mixture as a bed of certification; there is nothing to be conditioned on."""

    name: str
    mixture: Mixture

    @property
    def space(self) -> Euclidean:
        return Euclidean((self.mixture.dimensions,))

    def condition(self, samples: Sequence[int]) -> Condition:
        return TensorDict({}, batch_size=[len(samples)])

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> MixtureDenoiser:
        return MixtureDenoiser(self.mixture, schedule, ledger)


PLANE_BED = MixtureBed("mixture in 2-D", PLANE)
SIXTEEN_BED = MixtureBed("mixture in 16-D", SIXTEEN)


def reference_solution(mixture: Mixture, y: Tensor, high: float, low: float, tolerance: float = 1e-11) -> Tensor:
    """The probability-flow ODE from noise-to-signal ratio `high` to `low` on y = x / alpha (B, d), by DOP853."""
    condition = TensorDict({}, batch_size=[len(y)])
    return integrate(MixtureDenoiser(mixture, unit_schedule()), condition, y, high, low, tolerance)
