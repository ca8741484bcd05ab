r"""DPM-Solver++, in the data prediction (Lu et al. 2022, arXiv:2211.01095).

With lambda = log(alpha / sigma) and h = lambda_s - lambda_t the probability-flow ODE has the exact solution

    x_s = (sigma_s / sigma_t) x_t + sigma_s int_{lambda_t}^{lambda_s} e^lambda D(lambda) d lambda.

2S and 3S replace D by what they see at inner times of the step; they are DPM-Solver-2 and -3 for this prediction.
The multistep methods replace it by a polynomial through the last clean means D_0 (at t), D_1, D_2. In theta = (lambda -
lambda_t) / h, with D' and D'' the slope and the second derivative at t of the parabola through all three,

    1       x_s = (sigma_s / sigma_t) x_t + alpha_s h phi_1(-h) D_0                         (DDIM)
    2M      ... + alpha_s h phi_1(-h) / 2 (D_0 - D_1) / r,   r = (lambda_t - lambda_1) / h  (Algorithm 2)
    3M      ... + alpha_s h [phi_2(-h) D' + phi_3(-h) D'' / 2]                              (the authors' code)
    exact   ... + alpha_s h [phi_2(-h) D' + phi_3(-h) D'']                                  (the parabola's integral)

phi_3 integrates theta^2 / 2, so it belongs to D''. The third-order update in the authors' code and in its copies
(diffusers, k-diffusion, DPM-Solver-v3, diff-sampler) has it multiply (D_0' - D_1') / (r_0 + r_1), which is D'' / 2.
`DPMpp3M` is that method under its name: it measures order 2.0, in diffusers as here, and declares it. With few steps
its smaller correction is often no worse. `DPMpp3MExact` measures 3.0 from exact starts.

The first steps have fewer means and are of lower order; a clean mean at alpha = 0, where lambda is infinite, is not
used again; the step from alpha = 0 or to sigma = 0 has no length in lambda: there it is the first-order step, in
closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.dpm_solver import check_inner_times, singlestep_2, singlestep_3, singlestep_3_order
from framework.solvers.exponential import DataPrediction, exact_weights, fractions, interpolation_weights, power
from framework.solvers.multistep import multistep
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import Walk

DATA = DataPrediction()


@dataclass(frozen=True)
class DPMpp2S:
    """DPM-Solver++(2S): second order, two evaluations a step; `r1` in (0, 1] is the inner time's share of the step.

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
        return singlestep_2(Walk(schedule, times), DATA, self.r1)


@dataclass(frozen=True)
class DPMpp3S:
    """DPM-Solver++(3S): third order if r2 = 2/3 and else second, three evaluations a step, for any r1 in (0, r2).

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
        return singlestep_3(Walk(schedule, times), DATA, self.r1, self.r2)


@dataclass(frozen=True)
class DPMpp2M:
    """DPM-Solver++(2M): second order, one evaluation a step.

    Args:
        lower_order_final: in how many of the last steps the order is at most the number of steps left. Where the last
            step reaches sigma = 0 it is first-order anyway, and 2 or more lowers the step before it: with ten steps
            that halved third-order errors on coarse grids (Karras, quadratic) and cost a tenth on log-SNR grids. Where
            the last step ends above sigma = 0 it costs accuracy and order.
    """

    lower_order_final: int = 0
    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return multistep(Walk(schedule, times), DATA, 2, self.lower_order_final, _second)


@dataclass(frozen=True)
class DPMpp3M:
    """DPM-Solver++(3M) as its authors' code has it: second order, one evaluation a step. See `DPMpp2M`'s arguments."""

    lower_order_final: int = 0
    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return multistep(Walk(schedule, times), DATA, 3, self.lower_order_final, _third_as_published)


@dataclass(frozen=True)
class DPMpp3MExact:
    """3M with the parabola's exact integral: third order, one evaluation a step. See `DPMpp2M`'s arguments."""

    lower_order_final: int = 0
    order: ClassVar[int] = 3
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return multistep(Walk(schedule, times), DATA, 3, self.lower_order_final, _third)


def _second(t: Node, s: Node, nodes: Sequence[Node]) -> list[float]:
    """2M, and 1 where there is one clean mean or the step has no length in lambda."""
    whole = DATA.whole(t, s)
    if len(nodes) == 1 or s.sigma == 0:
        return [whole]
    slope = whole / 2 * (s.log_ratio - t.log_ratio) / (t.log_ratio - nodes[1].log_ratio)
    return [whole + slope, -slope]


def _third_as_published(t: Node, s: Node, nodes: Sequence[Node]) -> list[float]:
    if len(nodes) < 3 or s.sigma == 0:
        return _second(t, s, nodes)
    moments = [DATA.whole(t, s), power(DATA, 1, t, s), power(DATA, 2, t, s) / 2]
    return interpolation_weights(fractions(t, s, nodes), moments)


def _third(t: Node, s: Node, nodes: Sequence[Node]) -> list[float]:
    if len(nodes) < 3 or s.sigma == 0:
        return _second(t, s, nodes)
    return exact_weights(DATA, t, s, nodes)
