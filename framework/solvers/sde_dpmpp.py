r"""SDE-DPM-Solver++ (Lu et al. 2022, "DPM-Solver++", section 5 and appendix B), with k-diffusion's eta.

For every eta >= 0 the marginals of x_t = alpha x_0 + sigma z are also those of a reverse SDE that adds eta times the
noise of the time-reversed forward process in variance. In lambda = log(alpha / sigma), h = lambda_s - lambda_t, it is
solved exactly by

    x_s = (sigma_s / sigma_t) e^{-eta h} x_t + alpha_s int_0^h (1 + eta) e^{-(1 + eta)(h - l)} D(lambda_t + l) dl
          + sigma_s sqrt(1 - e^{-2 eta h}) z.

eta here multiplies the variance of the noise: it is tau^2 in SA-Solver's notation and no other solver's eta; 0 is the
ODE, 1 the reverse SDE itself. With r = h_previous / h and Delta = (D_0 - D_1) / r, D is replaced on the step by

    1            D_0
    2M           D_0 + Delta / 2        the line through the last two means, at the step's middle
    2M Heun      D_0 + (l / h) Delta    that line, integrated exactly: Delta weighs 1 - (1 - e^{-z}) / z
    3M           D_0 + ...              k-diffusion's dpmpp_3m_sde: a parabola, but with half its second derivative

for z = (1 + eta) h. The parabola integrated exactly is SASolver(predictor_order=3, corrector_order=0). At eta = 0 these
are DDIM, DPM-Solver++(2M) and their kin. The first step has one mean only; a step from alpha = 0 or to sigma = 0 has
infinite h and is the first-order step, which there is exact in its noise and needs no logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.ancestral import check_noise, drawn, noise_decay
from framework.solvers.plan import Node, Plan
from framework.solvers.walk import ZERO, Form, Walk


@dataclass(frozen=True)
class SDEStep:
    """The numbers of the exact step with a constant clean mean: x_s = kept x_t + clean D + fresh z."""

    kept: float
    clean: float
    fresh: float

    @classmethod
    def of(cls, t: Node, s: Node, eta: float) -> SDEStep:
        k = noise_decay(t, s)
        kept = s.sigma / t.sigma * k**eta
        return cls(kept, s.alpha * (1 - k ** (1 + eta)), s.sigma * math.sqrt(1 - k ** (2 * eta)))


@dataclass(frozen=True)
class _SDEDPMpp:
    """What the family shares: the exact step, and a correction from the differences of earlier means.

    Args:
        eta: the variance of the noise in units of the reverse SDE's (k-diffusion's eta for this family).
        noise_scale: k-diffusion's s_noise, a factor on the noise that is added; only 1 keeps the law.

    Raises:
        UserError: eta or noise_scale is negative.
    """

    eta: float = 1.0
    noise_scale: float = 1.0
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_noise(self, self.eta, self.noise_scale)

    @property
    def stochastic(self) -> bool:
        return self.eta * self.noise_scale > 0

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        seen: list[tuple[float, Form]] = []  # (lambda, clean mean), latest first, where lambda is finite
        for t, s in walk.steps():
            step, clean = SDEStep.of(t, s, self.eta), walk.clean()
            form = step.kept * walk.x + step.clean * clean + drawn(walk, step.fresh * self.noise_scale, t)
            if t.alpha > 0:
                seen.insert(0, (t.log_ratio, clean))
                if s.sigma > 0:
                    form = form + s.alpha * self._correction(s.log_ratio - t.log_ratio, seen)
            walk.to(s, form)
        return walk.plan()

    def _correction(self, h: float, seen: Sequence[tuple[float, Form]]) -> Form:
        """What the earlier means add to the step of a constant mean, in units of alpha_s."""
        raise NotImplementedError


def _differences(h: float, seen: Sequence[tuple[float, Form]]) -> list[Form]:
    """h times the divided differences of neighbouring means: Delta_0 = (D_0 - D_1) h / (lambda_0 - lambda_1), ..."""
    return [h / (l0 - l1) * (d0 - d1) for (l0, d0), (l1, d1) in pairwise(seen)]


@dataclass(frozen=True)
class SDEDPMpp1(_SDEDPMpp):
    """SDE-DPM-Solver++(1): the first-order exponential step; at eta = 1 DDPM and k-diffusion's euler_ancestral."""

    order: ClassVar[int] = 1

    def _correction(self, h: float, seen: Sequence[tuple[float, Form]]) -> Form:
        return ZERO


@dataclass(frozen=True)
class SDEDPMpp2M(_SDEDPMpp):
    """SDE-DPM-Solver++(2M), k-diffusion's dpmpp_2m_sde with the midpoint rule."""

    order: ClassVar[int] = 2

    def _correction(self, h: float, seen: Sequence[tuple[float, Form]]) -> Form:
        weight = -math.expm1(-(1 + self.eta) * h) / 2
        return weight * _differences(h, seen)[0] if len(seen) > 1 else ZERO


@dataclass(frozen=True)
class SDEDPMpp2MHeun(_SDEDPMpp):
    """SDE-DPM-Solver++(2M) with the line integrated exactly, k-diffusion's dpmpp_2m_sde with "heun"."""

    order: ClassVar[int] = 2

    def _correction(self, h: float, seen: Sequence[tuple[float, Form]]) -> Form:
        z = (1 + self.eta) * h
        return (1 + math.expm1(-z) / z) * _differences(h, seen)[0] if len(seen) > 1 else ZERO


@dataclass(frozen=True)
class SDEDPMpp3M(_SDEDPMpp):
    """k-diffusion's dpmpp_3m_sde as published: second order, since D'' enters with half its weight."""

    order: ClassVar[int] = 2

    def _correction(self, h: float, seen: Sequence[tuple[float, Form]]) -> Form:
        z = (1 + self.eta) * h
        phi_2 = 1 + math.expm1(-z) / z
        phi_3 = phi_2 / z - 0.5
        match _differences(h, seen):
            case []:
                return ZERO
            case [first]:
                return phi_2 * first
            case [first, second, *_]:
                r0, r1 = (seen[0][0] - seen[1][0]) / h, (seen[1][0] - seen[2][0]) / h
                bend = 1 / (r0 + r1) * (first - second)
                return phi_2 * (first + r0 * bend) - phi_3 * bend
        raise AssertionError
