r"""Euler and Heun in the coordinates of Karras et al. 2022, with their churn.

The state y = x / alpha at noise level u = sigma / alpha obeys dy/du = (y - D) / u, whatever the schedule, so these
solvers see only signal-to-noise ratios. A step from (t, u) to (s, w):

    Euler   y_w = y_u + (w - u) d_u,                 d_u = (y_u - D_u) / u
    Heun    y_w = y_u + (w - u) (d_u + d_w) / 2,     d_w at the Euler point; not where w = 0, as in Algorithm 2

Euler in these coordinates is DDIM. From alpha = 0, u is infinite and the first step is the first-order exponential
step, which is Euler's limit.

Churn (Algorithm 2) first raises the noise from u to u' = u (1 + gamma), gamma = min(churn / n, sqrt(2) - 1), by fresh
noise of variance churn_noise^2 (u'^2 - u^2), where churn_min <= u <= churn_max.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.plan import Node, Plan, Stage, first_order, nodes


@dataclass(frozen=True)
class Euler:
    """Euler's method on dy/du: one evaluation a step."""

    order: ClassVar[int] = 1
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return tuple(_euler(i, t, s) for i, (t, s) in enumerate(pairwise(nodes(schedule, times))))


def _euler(step: int, t: Node, s: Node) -> Stage:
    """y_w = y_u + (w - u)(y_u - D) / u, in terms of x: the state keeps the share w / u of its noise."""
    if t.alpha == 0:
        return first_order(step, t, s)
    share = s.ratio / t.ratio
    return Stage(step, t.time, s.time, (s.alpha / t.alpha * share,), (s.alpha * (1 - share),))


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
        grid = nodes(schedule, times)
        stages: list[Stage] = []
        for i, (t, s) in enumerate(pairwise(grid)):
            raised = self._raise(schedule, t, len(grid) - 1)
            if raised is not None:
                fresh = t.alpha * math.sqrt(raised.ratio**2 - t.ratio**2) * self.churn_noise
                scale = raised.alpha / t.alpha
                noises = (scale * fresh,)
                stages.append(Stage(i, t.time, raised.time, (scale,), (), noises, evaluate=False, draw=True))
                t = raised
            stages.append(_euler(i, t, s))
            if s.sigma > 0 and t.alpha > 0:
                stages.append(_trapezoid(i, t, s))
        return tuple(stages)

    def _raise(self, schedule: Schedule, t: Node, steps: int) -> Node | None:
        """The node at which the step starts after churn; None where no noise is added."""
        gamma = min(self.churn / steps, math.sqrt(2) - 1)
        if gamma == 0 or t.alpha == 0 or not self.churn_min <= t.ratio <= self.churn_max:
            return None
        log_snr = torch.tensor(-2 * math.log(t.ratio * (1 + gamma)), dtype=torch.float64)
        time = float(schedule.time(log_snr))
        # A schedule in t <= 1 may not reach the raised level; then no noise is added there.
        return nodes(schedule, [time])[0] if time <= 1 else None


def _trapezoid(step: int, t: Node, s: Node) -> Stage:
    """The corrected state from the one before (j = 1) and the Euler point (j = 0), with both clean means.

    y = y_1 + (w - u) / 2 [(y_1 - D_1) / u + (y_0 - D_0) / w], times alpha_s.
    """
    u, w = t.ratio, s.ratio
    half = (w - u) / 2
    states = (half / w, s.alpha / t.alpha * (1 + half / u))
    return Stage(step, s.time, s.time, states, (-s.alpha * half / w, -s.alpha * half / u))
