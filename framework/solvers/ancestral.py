r"""Ancestral steps of k-diffusion: walk the ODE a little too far, then add noise back.

In y = x / alpha at noise level u = sigma / alpha, a step from u to w ends at w^2 = down^2 + up^2. The ODE is walked to
`down`, and noise of deviation `up` is added, which is the forward process from `down` to w and so exact:

    up = min(w, eta w sqrt(1 - w^2 / u^2)),    y_w = ODE(y_u; u -> down) + up z.

eta here scales the deviation of the posterior q(y_w | y_u, y_0), as in DDIM: 0 is the ODE, 1 the posterior itself, and
from eta = 1 / sqrt(1 - w^2 / u^2) on, nothing of the old noise is kept. With the ODE walked by Euler's step the method
is k-diffusion's euler_ancestral, which is DDIM(eta) on every schedule and SDE-DPM-Solver++(1) at eta = 1. With
DPM-Solver++(2S) (Lu et al. 2022, Algorithm 1, with the midpoint in log(alpha / sigma)) it is dpmpp_2s_ancestral. The
only error is the ODE's, so the law has the order of the ODE's step: 1 and 2.

In terms of x, nothing is infinite at either end: with k = w / u = alpha_t sigma_s / (alpha_s sigma_t), up = w fresh and
down = w kept for fresh = min(1, eta sqrt(1 - k^2)) and kept = sqrt(1 - fresh^2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import ZERO, Form, Walk, first_order


def noise_decay(t: Node, s: Node) -> float:
    """k = e^{-h} = (sigma_s / alpha_s) / (sigma_t / alpha_t), in [0, 1): 0 from alpha = 0 and to sigma = 0."""
    return t.alpha * s.sigma / (s.alpha * t.sigma)


def drawn(walk: Walk, weight: float, since: Node) -> Form:
    """weight * z, with z an increment from `since` of the path; nothing is drawn that does not weigh."""
    return weight * walk.noise(since) if weight > 0 else ZERO


def check_noise(solver: object, eta: float, noise_scale: float) -> None:
    """Refuse negative amounts of noise.

    Raises:
        UserError: eta or noise_scale is negative.
    """
    for name, value in (("eta", eta), ("noise_scale", noise_scale)):
        if not value >= 0:
            raise UserError(f"{type(solver).__name__} needs {name} >= 0, got {value}")


@dataclass(frozen=True)
class Split:
    """A step's noise level w as w^2 = (w kept)^2 + (w fresh)^2."""

    kept: float
    fresh: float

    @classmethod
    def of(cls, t: Node, s: Node, eta: float) -> Split:
        k = noise_decay(t, s)
        fresh = min(1.0, eta * math.sqrt((1 - k) * (1 + k)))
        return cls(math.sqrt(1 - fresh**2), fresh)

    def step(self, t: Node, s: Node, x: Form, clean: Form) -> Form:
        """The ODE's exponential step to the lower level, at the scale alpha_s: without the noise to be added."""
        share = s.sigma * self.kept / t.sigma
        return share * x + (s.alpha - t.alpha * share) * clean


@dataclass(frozen=True)
class EulerAncestral:
    """Euler's step to the lower level and noise back: one evaluation a step.

    Args:
        eta: the share of the posterior's deviation that is fresh noise (k-diffusion's eta; DDIM's, where eta <= 1).
        noise_scale: k-diffusion's s_noise, a factor on the noise that is added; only 1 keeps the law.

    Raises:
        UserError: eta or noise_scale is negative.
    """

    eta: float = 1.0
    noise_scale: float = 1.0
    order: ClassVar[int] = 1
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_noise(self, self.eta, self.noise_scale)

    @property
    def stochastic(self) -> bool:
        return self.eta * self.noise_scale > 0

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        for t, s in walk.steps():
            split = Split.of(t, s, self.eta)
            noise = drawn(walk, s.sigma * split.fresh * self.noise_scale, t)
            walk.to(s, split.step(t, s, walk.x, walk.clean()) + noise)
        return walk.plan()


@dataclass(frozen=True)
class DPMpp2SAncestral:
    """DPM-Solver++(2S) to the lower level and noise back: two evaluations a step, one at either infinite end.

    Args:
        eta: the share of the posterior's deviation that is fresh noise (k-diffusion's eta).
        noise_scale: k-diffusion's s_noise, a factor on the noise that is added; only 1 keeps the law.

    Raises:
        UserError: eta or noise_scale is negative.
    """

    eta: float = 1.0
    noise_scale: float = 1.0
    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_noise(self, self.eta, self.noise_scale)

    @property
    def stochastic(self) -> bool:
        return self.eta * self.noise_scale > 0

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        for t, s in walk.steps():
            split = Split.of(t, s, self.eta)
            x, clean = walk.x, walk.clean()
            if t.alpha > 0 and s.sigma * split.kept > 0:
                down = s.log_ratio - math.log(split.kept)
                middle = walk.between((t.log_ratio + down) / 2)
                walk.to(middle, first_order(t, middle, x, clean))
                clean = walk.clean()
            noise = drawn(walk, s.sigma * split.fresh * self.noise_scale, t)
            walk.to(s, split.step(t, s, x, clean) + noise)
        return walk.plan()
