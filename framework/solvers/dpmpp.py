r"""DPM-Solver++ in the data prediction (Lu et al. 2022, "DPM-Solver++", Algorithm 2).

With lambda = log(alpha / sigma) and h = lambda_s - lambda_t the probability-flow ODE has the exact solution

    x_s = (sigma_s / sigma_t) x_t + sigma_s int_{lambda_t}^{lambda_s} e^lambda D(lambda) d lambda.

2M replaces D on the step by the line through the last two clean means, evaluated at the midpoint: with r = h_previous /
h,

    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^{-h}) [(1 + 1 / (2 r)) D_0 - 1 / (2 r) D_1].

The first step has one mean only, a step from alpha = 0 leaves r infinite, and the step to sigma = 0 has no length in
lambda: there it is the first-order step, in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.plan import Plan, Stage, first_order, nodes


@dataclass(frozen=True)
class DPMpp2M:
    """DPM-Solver++(2M): second order, one evaluation a step."""

    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        grid = nodes(schedule, times)
        stages = []
        for i, (t, s) in enumerate(pairwise(grid)):
            stage = first_order(i, t, s)
            before = grid[i - 1].log_ratio if i > 0 else -math.inf
            if math.isfinite(before) and s.sigma > 0:
                slope = (s.log_ratio - t.log_ratio) / (t.log_ratio - before) / 2  # 1 / (2 r)
                (b,) = stage.cleans
                stage = Stage(i, t.time, s.time, stage.states, (b * (1 + slope), -b * slope))
            stages.append(stage)
        return tuple(stages)
