r"""Tau-leaping: the jumps' rates are frozen over the step (Campbell et al. 2022, arXiv:2205.14987, section 4.3).

With the reverse rates R(y) = R_t(x_t -> y) of a position at the step's start and their sum R, in a step of length h

    x_s = x_t with probability exp(-R h),      x_s = y with probability (1 - exp(-R h)) R(y) / R,

which is the published leap with two jumps of one position taken as one: classes have no order in which jumps add up.
Where the rates are infinite (alpha_t = 0, unless noise is a mask) there is no leap, and the last step (to alpha_s =
1) must leave no noise behind: both draw from the posterior, as Campbell et al. end with a draw from p(x_0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from framework.solvers.categorical.kernels import KernelSolver, Step


@dataclass(frozen=True)
class TauLeaping(KernelSolver):
    """Jumps at the rates of the step's start."""

    order: ClassVar[float] = 1
    schedule_free: ClassVar[bool] = False  # a rate times a length of t: the leap knows the schedule's own time

    def transition(self, step: Step) -> Tensor:
        exact = step.process.posterior(step.x, step.probabilities, step.t, step.s)
        if step.alpha_s == 1:
            return exact
        rates = step.process.rates(step.x, step.probabilities, step.t)
        total = rates.sum(-1, keepdim=True)
        leave = -torch.expm1(-total * (step.t - step.s))
        leap = leave * rates / torch.where(total > 0, total, 1.0) + (1 - leave) * step.one_hot(step.x)
        return torch.where(total.isfinite(), leap, exact)
