r"""Ancestral sampling and its deterministic limit.

DDPM (Ho et al. 2020, eq. 7) draws from the posterior q(x_s | x_t, x_0 = D). With alpha_{t|s} = alpha_t / alpha_s and
sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2,

    mean     = (alpha_{t|s} sigma_s^2 / sigma_t^2) x_t + (alpha_s sigma_{t|s}^2 / sigma_t^2) D,
    variance = sigma_{t|s}^2 sigma_s^2 / sigma_t^2.

DDIM (Song et al. 2021, eq. 12) scales the posterior's standard deviation by eta and keeps the marginal by shortening
the noise that it reuses: with c = eta sigma_s sigma_{t|s} / sigma_t,

    x_s = alpha_s D + sqrt(sigma_s^2 - c^2) (x_t - alpha_t D) / sigma_t + c z.

eta = 0 is the first-order exponential integrator of the probability-flow ODE; eta = 1 is DDPM, term by term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.plan import Node, Plan, Stage, nodes


def step_variance(t: Node, s: Node) -> float:
    """sigma_{t|s}^2, the variance that the forward process adds from s to t; alpha_s = 0 would leave it undefined."""
    return max(t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2, 0.0)


def drawing(step: int, t: Node, s: Node, state: float, clean: float, noise: float) -> Stage:
    """The one-evaluation stage from t to s; it draws only if the noise weighs."""
    if noise == 0:
        return Stage(step, t.time, s.time, (state,), (clean,))
    return Stage(step, t.time, s.time, (state,), (clean,), (noise,), draw=True, path=(t.snr, s.snr))


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling by the posterior of the clean mean."""

    order: ClassVar[int] = 1
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return tuple(self._stage(i, t, s) for i, (t, s) in enumerate(pairwise(nodes(schedule, times))))

    def _stage(self, step: int, t: Node, s: Node) -> Stage:
        added = step_variance(t, s)
        state = t.alpha / s.alpha * s.sigma**2 / t.sigma**2
        clean = s.alpha * added / t.sigma**2
        return drawing(step, t, s, state, clean, math.sqrt(added) * s.sigma / t.sigma)


@dataclass(frozen=True)
class DDIM:
    """`eta` in [0, 1] scales the posterior's standard deviation: 0 is deterministic, 1 is DDPM.

    Raises:
        ValueError: eta lies outside [0, 1].
    """

    eta: float = 0.0
    order: ClassVar[int] = 1
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM's eta lies in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return tuple(self._stage(i, t, s) for i, (t, s) in enumerate(pairwise(nodes(schedule, times))))

    def _stage(self, step: int, t: Node, s: Node) -> Stage:
        fresh = self.eta * s.sigma * math.sqrt(step_variance(t, s)) / t.sigma
        kept = math.sqrt(max(s.sigma**2 - fresh**2, 0.0)) / t.sigma
        return drawing(step, t, s, kept, s.alpha - t.alpha * kept, fresh)
