r"""ER-SDE-Solver (Cui et al. 2023, "Elucidating the solution space of extended reverse-time SDE", arXiv:2309.06169).

In y = x / alpha at noise level u = sigma / alpha, any phi that grows as u or faster gives a reverse SDE with the right
marginals, solved from u to w exactly by

    y_w = r y_u + phi(w) int_w^u phi'(q) / phi(q)^2 D(q) dq + sqrt(w^2 - r^2 u^2) z,      r = phi(w) / phi(u).

phi = u is the ODE, phi = u^2 the reverse SDE, and d log phi / d log u - 1 is the variance of the noise in units of the
latter's (SDE-DPM-Solver++'s eta). The authors found phi(u) = u (e^{u^0.3} + 10) by search: nearly the SDE in noise and
nearly the ODE close to the data. D is replaced by a Taylor series in q - u whose derivatives are finite differences of
the last two and three means; by parts, D' and D'' enter with

    w - u + int_w^u phi(w) / phi(q) dq,        (w - u)^2 / 2 + int_w^u (q - u) phi(w) / phi(q) dq.

The integrals have no closed form. The authors sum 100 rectangles; here Gauss-Legendre in log q leaves rounding only.
With 0, 1 and 2 derivatives these are ER-SDE-Solver-1, -2 and -3. The third's D' is the plain difference (its D'' is not
taken out), so it has a smaller error and not a higher order: 1, 2, 2 of the law.

Why it is here: with few steps it is the best stochastic solver that was measured. From sigma = 80 on a Karras grid of
10 steps, the mean negative log density of 16384 samples of the plane mixture exceeds the data's by 0.44 nat, where
SDE-DPM-Solver++(2M) is 3.6 above it, SA-Solver's default 23 and DPM-Solver++(2M) 1.4; with 20 steps by 0.07, 0.33, 2.1
and 0.13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule
from framework.solvers.ancestral import drawn
from framework.solvers.plan import Plan
from framework.solvers.walk import ZERO, Form, Walk

NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)


def log_phi(u: np.ndarray | float) -> np.ndarray:
    """log of u (e^{u^0.3} + 10), which does not overflow."""
    return np.asarray(np.log(u) + np.logaddexp(np.power(u, 0.3), math.log(10.0)))


def taylor_weights(u: float, w: float) -> tuple[float, float]:
    """What D' and D'' weigh in the step from u to w."""
    middle, half = math.log(u * w) / 2, math.log(u / w) / 2
    q = np.exp(middle + half * NODES)
    density = half * WEIGHTS * q * np.exp(log_phi(w) - log_phi(q))
    return float(w - u + density.sum()), float((w - u) ** 2 / 2 + (density * (q - u)).sum())


@dataclass(frozen=True)
class ERSDE:
    """One evaluation a step.

    Args:
        derivatives: how many derivatives of the clean mean the step's Taylor series has, 0 to 2.

    Raises:
        UserError: `derivatives` is out of range.
    """

    derivatives: int = 2
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.derivatives not in (0, 1, 2):
            raise UserError(f"ERSDE has 0, 1 or 2 derivatives, got {self.derivatives}")

    @property
    def order(self) -> int:
        return min(self.derivatives, 1) + 1

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        seen: list[tuple[float, Form]] = []  # (u, clean mean), latest first, where u is finite
        for t, s in walk.steps():
            clean, u, w = walk.clean(), t.ratio, s.ratio
            if t.alpha == 0 or w == 0:  # r = 0: nothing of the state is kept
                walk.to(s, s.alpha * clean + drawn(walk, s.sigma, t))
                continue
            seen.insert(0, (u, clean))
            r = float(np.exp(log_phi(w) - log_phi(u)))
            y = r / t.alpha * walk.x + (1 - r) * clean + self._correction(u, w, seen)
            walk.to(s, s.alpha * y + drawn(walk, s.alpha * math.sqrt(max(w**2 - (r * u) ** 2, 0.0)), t))
        return walk.plan()

    def _correction(self, u: float, w: float, seen: list[tuple[float, Form]]) -> Form:
        """The terms of D' and D'', by finite differences."""
        slopes = [(d0 - d1) / (u0 - u1) for (u0, d0), (u1, d1) in pairwise(seen[:3])]
        first, second = taylor_weights(u, w)
        total = ZERO
        if slopes and self.derivatives > 0:
            total = total + first * slopes[0]
        if len(slopes) > 1 and self.derivatives > 1:
            total = total + second * (2 / (u - seen[2][0]) * (slopes[0] - slopes[1]))
        return total
