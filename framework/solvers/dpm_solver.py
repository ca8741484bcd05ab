r"""DPM-Solver, singlestep, in the noise prediction (Lu et al. 2022, arXiv:2206.00927), for any inner times.

A step from t to s of length h in lambda visits inner times with lambda_t + r h. With the weights

    b_k(r) = int theta^k over the first part r of the step, in closed form (framework/solvers/exponential.py),

    DPM-Solver-2   x_1 = kept x_t + b_0(r_1) z_t,
                   x_s = kept x_t + b_0(1) z_t + b_0(1) / (2 r_1) (z_1 - z_t);

    DPM-Solver-3   x_1 as above,
                   x_2 = kept x_t + b_0(r_2) z_t + b_1(r_2) (r_2 / r_1) (z_1 - z_t),
                   x_s = kept x_t + b_0(1) z_t + b_1(1) / r_2 (z_2 - z_t).

The singlestep methods of DPM-Solver++ are the same formulas for the data prediction (framework/solvers/dpmpp.py). A
step from alpha = 0 or to sigma = 0 has no inner time: it is the first-order step, one evaluation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule
from framework.solvers.exponential import NoisePrediction, PredictionKind, power, smooth
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import Form, Walk, first_order


@dataclass(frozen=True)
class DPMSolver2:
    """DPM-Solver-2: second order, two evaluations a step; `r1` in (0, 1] is the inner time's share of the step.

    Raises:
        UserError: r1 lies outside (0, 1].
    """

    r1: float = 0.5
    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_inner_times(self.r1)

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return singlestep_2(Walk(schedule, times), NoisePrediction(), self.r1)


@dataclass(frozen=True)
class DPMSolver3:
    """DPM-Solver-3: third order if r2 = 2/3 and else second, three evaluations a step, for any r1 in (0, r2).

    Raises:
        UserError: not 0 < r1 < r2 <= 1.
    """

    r1: float = 1 / 3
    r2: float = 2 / 3
    evaluations_per_step: ClassVar[int] = 3
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_inner_times(self.r1, self.r2)

    @property
    def order(self) -> int:
        return singlestep_3_order(self.r2)

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return singlestep_3(Walk(schedule, times), NoisePrediction(), self.r1, self.r2)


def check_inner_times(*shares: float) -> None:
    """Raises UserError unless the shares grow within (0, 1]."""
    if any(b <= a for a, b in zip((0.0, *shares), shares, strict=False)) or shares[-1] > 1:
        raise UserError(f"the inner times of a step lie at growing shares of it in (0, 1], got {shares}")


def singlestep_2(walk: Walk, kind: PredictionKind, r1: float) -> Plan:
    """The second-order method in either prediction."""
    _foresee(walk, r1)
    for t, s in walk.steps():
        x, clean = walk.x, walk.clean()
        if not smooth(t, s):
            walk.to(s, first_order(t, s, x, clean))
            continue
        inner = _inner(walk, t, s, r1)
        at_t = kind.of(t, x, clean)
        x_1 = walk.to(inner, _linear(kind, t, inner, x, at_t))
        difference = kind.of(inner, x_1, walk.clean()) - at_t
        walk.to(s, _linear(kind, t, s, x, at_t) + kind.whole(t, s) / (2 * r1) * difference)
    return walk.plan()


def singlestep_3_order(r2: float) -> int:
    """The last stage integrates the line through z_t and z_2; if r2 = 2/3 then theta^2 too, to leading order."""
    return 3 if math.isclose(r2, 2 / 3) else 2


def singlestep_3(walk: Walk, kind: PredictionKind, r1: float, r2: float) -> Plan:
    """The third-order method in either prediction."""
    _foresee(walk, r1, r2)
    for t, s in walk.steps():
        x, clean = walk.x, walk.clean()
        if not smooth(t, s):
            walk.to(s, first_order(t, s, x, clean))
            continue
        first, second = _inner(walk, t, s, r1), _inner(walk, t, s, r2)
        at_t = kind.of(t, x, clean)
        x_1 = walk.to(first, _linear(kind, t, first, x, at_t))
        rise = kind.of(first, x_1, walk.clean()) - at_t
        x_2 = walk.to(second, _linear(kind, t, second, x, at_t) + power(kind, 1, t, second) * r2 / r1 * rise)
        rise = kind.of(second, x_2, walk.clean()) - at_t
        walk.to(s, _linear(kind, t, s, x, at_t) + power(kind, 1, t, s) / r2 * rise)
    return walk.plan()


def _foresee(walk: Walk, *shares: float) -> None:
    steps = [(t, s) for t, s in pairwise(walk.grid) if smooth(t, s)]
    walk.foresee(_at(t, s, share) for t, s in steps for share in shares if share < 1)


def _inner(walk: Walk, t: Node, s: Node, share: float) -> Node:
    return walk.between(_at(t, s, share)) if share < 1 else s


def _at(t: Node, s: Node, share: float) -> float:
    return t.log_ratio + share * (s.log_ratio - t.log_ratio)


def _linear(kind: PredictionKind, t: Node, s: Node, x: Form, prediction: Form) -> Form:
    """The exact step if the prediction did not change: DDIM, in either prediction."""
    return kind.kept(t, s) * x + kind.whole(t, s) * prediction
