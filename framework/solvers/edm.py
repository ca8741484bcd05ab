r"""Euler and Heun in the coordinates of Karras et al. 2022, with their churn.

The state y = x / alpha at noise level u = sigma / alpha obeys dy/du = (y - D) / u, whatever the schedule, so these
solvers see only signal-to-noise ratios. A step from (t, u) to (s, w):

    Euler   y_w = y_u + (w - u) d_u,                 d_u = (y_u - D_u) / u: the predicted noise
    Heun    y_w = y_u + (w - u) (d_u + d_w) / 2,     d_w at the Euler point; not where w = 0, as in Algorithm 2

Euler in these coordinates is DDIM. From alpha = 0, u is infinite and the first step is the first-order exponential
step, which is Euler's limit.

Churn (Algorithm 2) first raises the noise from u to u' = u (1 + gamma), gamma = min(churn / n, sqrt(2) - 1), by fresh
noise of variance churn_noise^2 (u'^2 - u^2), where churn_min <= u <= churn_max.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import Form, Walk, first_order


@dataclass(frozen=True)
class Euler:
    """Euler's method on dy/du: one evaluation a step."""

    order: ClassVar[int] = 1
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        for t, s in walk.steps():
            walk.to(s, _euler(t, s, walk.x, walk.clean()))
        return walk.plan()


def _euler(t: Node, s: Node, x: Form, clean: Form) -> Form:
    """y keeps the share w / u of its noise, and nothing of it at w = 0."""
    if t.alpha == 0:
        return first_order(t, s, x, clean)
    share = s.ratio / t.ratio
    return s.alpha / t.alpha * share * x + s.alpha * (1 - share) * clean


@dataclass(frozen=True)
class Heun:
    """Heun's method on dy/du: two evaluations a step, one in the last; stochastic if `churn` > 0.

    Args:
        churn: S_churn, the noise added over the whole run in units of steps.
        churn_min: S_min, the lowest noise-to-signal ratio at which noise is added.
        churn_max: S_max, the highest.
        churn_noise: S_noise, the standard deviation of what is added.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0
    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 2

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        for t, s in walk.steps():
            t = self._raise(walk, t)
            x, clean = walk.x, walk.clean()
            euler = walk.to(s, _euler(t, s, x, clean))
            if s.sigma > 0 and t.alpha > 0:
                # y + (w - u) / 2 (slope at t + slope at s), where y + (w - u) (slope at t) is Euler's step.
                half = (s.ratio - t.ratio) / (2 * s.ratio)
                kept = s.alpha / (2 * t.alpha) * x
                walk.to(s, kept + (0.5 + half) * euler - s.alpha * half * walk.clean())
        return walk.plan()

    def _raise(self, walk: Walk, t: Node) -> Node:
        """Add noise and return the node at which the step then starts: t itself where none is added."""
        gamma = min(self.churn / (len(walk.grid) - 1), math.sqrt(2) - 1)
        if gamma == 0 or t.alpha == 0 or not self.churn_min <= t.ratio <= self.churn_max:
            return t
        raised = walk.between(t.log_ratio - math.log1p(gamma))
        if not math.isclose(raised.ratio, t.ratio * (1 + gamma), rel_tol=1e-6):  # beyond the schedule's t = 1
            return t
        fresh = math.sqrt(raised.ratio**2 - t.ratio**2) * self.churn_noise
        walk.to(raised, raised.alpha * (walk.x / t.alpha + fresh * walk.noise()))
        return raised
