r"""Adams-Bashforth methods on the predicted noise: LMS and DEIS.

With u = sigma / alpha the probability-flow ODE of y = x / alpha is dy/du = z, the predicted noise, on every schedule.
The methods replace z on the step from t to s by the polynomial, in some variable v, through its last q values:

    x_s / alpha_s = x_t / alpha_t + sum_j w_j z_j,     w_j = int_{u_t}^{u_s} L_j(v(u)) du,

with L_j the Lagrange polynomials of the nodes' v. One evaluation a step, order q from an exact start; the variable is
the method:

    v = u          LMS (k-diffusion's name), rho-AB-DEIS in Zhang & Chen: w_j by powers of u
    v = time t     tAB-DEIS (Zhang & Chen 2023, arXiv:2204.13902): w_j by quadrature to rounding
    v = log u      DEIS as in diffusers, DPM-Solver multistep in the noise prediction: w_j by phi functions

In u and in t the noise is smooth to the data itself, and the step to sigma = 0 is like any other: on uniform grids of
20 steps the error was several times smaller than with a first-order last step, which `lower_order_final` = 1 gives.
`order` counts the points; Zhang & Chen count the degree: their tAB3 is order 4 here, and their tAB0 is DDIM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule
from framework.solvers.exponential import NoisePrediction, exact_weights, interpolation_weights
from framework.solvers.multistep import multistep
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import Walk

NOISE = NoisePrediction()
_POINTS, _WEIGHTS = (values.tolist() for values in np.polynomial.legendre.leggauss(16))
_PANEL, _DEPTH = 2.0, 40.0  # lengths in log u: of a panel, and below which nothing weighs (e^-40)


class Variable(Protocol):
    """In what the noise is a polynomial. `schedule_free`: whether weights depend on noise levels alone."""

    @property
    def schedule_free(self) -> bool: ...

    def weights(self, schedule: Schedule, t: Node, s: Node, nodes: Sequence[Node]) -> Sequence[float]:
        """alpha_s w_j for the latest nodes, t first; fewer weights than nodes leave the later ones out."""
        ...


@dataclass(frozen=True)
class Ratio:
    """v = u = sigma / alpha, finite and smooth to the data itself."""

    schedule_free: ClassVar[bool] = True

    def weights(self, schedule: Schedule, t: Node, s: Node, nodes: Sequence[Node]) -> Sequence[float]:
        step = s.ratio - t.ratio
        points = [(node.ratio - t.ratio) / step for node in nodes]
        return interpolation_weights(points, [s.alpha * step / (k + 1) for k in range(len(nodes))])


@dataclass(frozen=True)
class LogRatio:
    """v = log u; the step to u = 0 has no end in it and is first-order."""

    schedule_free: ClassVar[bool] = True

    def weights(self, schedule: Schedule, t: Node, s: Node, nodes: Sequence[Node]) -> Sequence[float]:
        return exact_weights(NOISE, t, s, nodes) if s.sigma > 0 else [NOISE.whole(t, s)]


@dataclass(frozen=True)
class Time:
    """v = t, the schedule's own time, by Gauss-Legendre quadrature over panels of log u.

    As a function of log u the integrand is analytic in a strip of half-width pi / 2 on every schedule in closed form,
    so that 16 nodes on panels of length 2 are exact to rounding; kinks of a tabulated schedule leave their own error.
    """

    schedule_free: ClassVar[bool] = False

    def weights(self, schedule: Schedule, t: Node, s: Node, nodes: Sequence[Node]) -> Sequence[float]:
        high = math.log(t.ratio)
        low = max(math.log(s.ratio), high - _DEPTH) if s.sigma > 0 else high - _DEPTH
        panels = math.ceil((high - low) / _PANEL)
        half = (high - low) / panels / 2
        middles = torch.arange(panels, dtype=torch.float64) * 2 * half + low + half
        log_u = (middles[:, None] + half * torch.tensor(_POINTS, dtype=torch.float64)).flatten()
        du = -s.alpha * log_u.exp() * half * torch.tensor(_WEIGHTS * panels, dtype=torch.float64)
        step = s.time - t.time
        theta = (schedule.time(-2 * log_u) - t.time) / step
        moments = [float((du * theta**k).sum()) for k in range(len(nodes))]
        return interpolation_weights([(node.time - t.time) / step for node in nodes], moments)


@dataclass(frozen=True)
class LMS:
    """The linear multistep method in u = sigma / alpha: order 1 to 4, one evaluation a step.

    Args:
        order: how many predictions of the noise a step uses, and the order of convergence.
        lower_order_final: in how many of the last steps the order is at most the number of steps left.

    Raises:
        UserError: the order is not 1, 2, 3 or 4.
    """

    order: int = 4
    lower_order_final: int = 0
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points(type(self).__name__, "order", self.order)

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return _plan(schedule, times, Ratio(), self.order, self.lower_order_final)


@dataclass(frozen=True)
class DEIS:
    """The diffusion exponential integrator: order 1 to 4, one evaluation a step.

    Args:
        order: how many predictions of the noise a step uses, and the order of convergence.
        variable: in what they are interpolated: Time (tAB, the paper's), LogRatio (diffusers') or Ratio (LMS).
        lower_order_final: in how many of the last steps the order is at most the number of steps left.

    Raises:
        UserError: the order is not 1, 2, 3 or 4.
    """

    order: int = 3
    variable: Variable = Time()
    lower_order_final: int = 0
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_points("DEIS", "order", self.order)

    @property
    def schedule_free(self) -> bool:
        """Whether another schedule with the same noise levels gives the same samples."""
        return self.variable.schedule_free or self.order == 1

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return _plan(schedule, times, self.variable, self.order, self.lower_order_final)


def check_points(name: str, argument: str, value: int) -> None:
    """Raises UserError unless the value is 1, 2, 3 or 4."""
    if value not in (1, 2, 3, 4):
        raise UserError(f"{name}'s {argument} is 1, 2, 3 or 4, got {value}")


def _plan(schedule: Schedule, times: Tensor, variable: Variable, points: int, lower_order_final: int) -> Plan:
    def weights(t: Node, s: Node, nodes: Sequence[Node]) -> Sequence[float]:
        return variable.weights(schedule, t, s, nodes)

    return multistep(Walk(schedule, times), NOISE, points, lower_order_final, weights)
