r"""SA-Solver (Xue et al. 2023, "SA-Solver: Stochastic Adams solver", arXiv:2309.05019), in the data prediction.

For every tau(lambda) >= 0 the reverse SDE with tau^2 times the variance of the reversed process' noise has the right
marginals. On a step of constant tau and h = lambda_s - lambda_t it is solved exactly by

    x_s = (sigma_s / sigma_t) e^{-tau^2 h} x_t + alpha_s int_0^1 z e^{-z (1 - p)} D(lambda_t + p h) dp
          + sigma_s sqrt(1 - e^{-2 tau^2 h}) xi,       z = (1 + tau^2) h.

D is replaced by the polynomial through clean means at p_j = (lambda_j - lambda_t) / h and integrated exactly, from
the moments int_0^1 z e^{-z (1 - p)} p^k dp = z k! phi_{k+1}(-z). The predictor takes the latest means (p_j <= 0); the
corrector adds the one at the predicted x_s (p = 1) and keeps the step's xi, so that it moves x_s by the difference of
the two integrals alone. In the paper's PEC mode the mean is not asked for again after the correction: one evaluation a
step, and none more for the last step, which is not corrected.

tau = 0 is the Adams method of the ODE with exact coefficients (DPM-Solver++ multistep; UniPC from order 3 on), of order
min(predictor + 1, corrector). With noise the law measures order 2 at most, whatever the polynomials' degrees: the
step has one normal, where third order needs more of the path. Higher degrees lower the error's constant. tau is that
of the step's start, as in the authors' code, whose weights of order 2 differ from the exact ones by O(h^3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule
from framework.solvers.ancestral import drawn
from framework.solvers.exponential import interpolation_weights, phi, smooth
from framework.solvers.plan import Plan
from framework.solvers.sde_dpmpp import SDEStep
from framework.solvers.walk import ZERO, Form, Walk

ORDERS = range(1, 5)


def weights(z: float, positions: Sequence[float]) -> list[float]:
    """w_j that integrate the polynomial through the positions (in units of the step, from its start) exactly."""
    moments = [z * math.factorial(k) * phi(k + 1, -z) for k in range(len(positions))]
    return interpolation_weights(positions, moments)


@dataclass(frozen=True)
class SASolver:
    """Stochastic Adams predictor and corrector.

    Args:
        predictor_order: how many clean means the predictor takes, 1 to 4.
        corrector_order: how many the corrector takes with the one at the predicted state, 1 to 4; 0 is no corrector.
        tau: the deviation of the noise in units of the reverse SDE's: 0 is the ODE, 1 the SDE itself.
        tau_min: the lowest noise-to-signal ratio sigma / alpha at which a step may start and have noise.
        tau_max: the highest.

    Raises:
        UserError: an order is out of range or tau is negative.
    """

    predictor_order: int = 3
    corrector_order: int = 3
    tau: float = 1.0
    tau_min: float = 0.0
    tau_max: float = math.inf
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.predictor_order not in ORDERS or self.corrector_order not in (0, *ORDERS):
            raise UserError(
                "SASolver has predictors of order 1 to 4 and correctors of order 1 to 4 or 0 for none, got "
                f"{self.predictor_order} and {self.corrector_order}"
            )
        if not self.tau >= 0:
            raise UserError(f"SASolver needs tau >= 0, got {self.tau}")

    @property
    def order(self) -> int:
        """Of the law; without noise, of the endpoint: the corrector lifts the predictor by one at most."""
        deterministic = min(self.predictor_order + 1, self.corrector_order or self.predictor_order)
        return min(deterministic, 2) if self.stochastic else deterministic

    @property
    def stochastic(self) -> bool:
        return self.tau > 0

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        seen: list[tuple[float, Form]] = []  # (lambda, clean mean), latest first, where lambda is finite
        predicted: tuple[float, Form] | None = None  # z and integral of the last step, if it had a length in lambda
        for t, s in walk.steps():
            clean, x = walk.clean(), walk.x
            if t.alpha > 0:
                seen = [(t.log_ratio, clean), *seen[: max(ORDERS) - 1]]
            if predicted is not None and self.corrector_order > 0:
                z, before = predicted
                x = x + t.alpha * (_integral(z, seen[1][0], t.log_ratio, seen[: self.corrector_order]) - before)
            tau = self.tau if self.tau_min <= t.ratio <= self.tau_max else 0.0
            step, predicted = SDEStep.of(t, s, tau**2), None
            if smooth(t, s):
                z = (1 + tau**2) * (s.log_ratio - t.log_ratio)
                predicted = z, _integral(z, t.log_ratio, s.log_ratio, seen[: self.predictor_order])
            mean = s.alpha * predicted[1] if predicted else step.clean * clean
            walk.to(s, step.kept * x + mean + drawn(walk, step.fresh, t))
        return walk.plan()


def _integral(z: float, start: float, end: float, means: Sequence[tuple[float, Form]]) -> Form:
    """The integral over the step from lambda = start to end of the polynomial through the means."""
    positions = [(at - start) / (end - start) for at, _ in means]
    total = ZERO
    for weight, (_, mean) in zip(weights(z, positions), means, strict=True):
        total = total + weight * mean
    return total
