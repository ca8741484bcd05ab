r"""DPM-Solver++ (stochastic), k-diffusion's dpmpp_sde: a midpoint method whose two draws share one Brownian path.

In y = x / alpha, u = sigma / alpha, an ancestral step with the clean mean D (framework/solvers/ancestral.py),

    A(u -> w; D, z):    y_w = D + (down / u)(y_u - D) + up z,    up = min(w, eta w sqrt(1 - w^2 / u^2)),

is taken twice from the same y_u: to the middle m of the step in log u with D(y_u), and to w with D(y_m):

    y_m = A(u -> m; D(y_u), z_um),    y_w = A(u -> w; D(y_m), z_uw).

eta scales the deviation of the posterior's noise, as in the other ancestral steps. z_um and z_uw are the normalised
increments of one Brownian motion B over (u, m) and (u, w), so they are correlated: with z_mw fresh,

    z_uw = sqrt(c) z_um + sqrt(1 - c) z_mw,    c = (B's clock from u to m) / (B's clock from u to w).

Independent draws (c = 0) make the law first order. k-diffusion's clock is u, so c = (u - m) / (u - w) = 1 / (1 + sqrt(w
/ u)); any clock has c -> 1/2 in short steps, and with it second order. Of a BrownianKey's path (framework/brownian.py),
whose clock is 1 / u^2, z_um and z_mw are the increments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from framework.schedules import Schedule
from framework.solvers.ancestral import Split, check_noise, drawn, noise_decay
from framework.solvers.plan import Plan
from framework.solvers.walk import Walk


@dataclass(frozen=True)
class DPMppSDE:
    """Two evaluations a step, one at either infinite end, where the step is EulerAncestral's.

    Args:
        eta: the share of the posterior's deviation that is fresh noise (k-diffusion's eta); 0 is DPM-Solver++(2S).
        noise_scale: k-diffusion's s_noise, a factor on the noise that is added; only 1 keeps the law.

    Raises:
        UserError: eta or noise_scale is negative.
    """

    eta: float = 1.0
    noise_scale: float = 1.0
    order: ClassVar[int] = 2
    evaluations_per_step: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_noise(self, self.eta, self.noise_scale)

    @property
    def stochastic(self) -> bool:
        return self.eta * self.noise_scale > 0

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        walk = Walk(schedule, times)
        walk.foresee((t.log_ratio + s.log_ratio) / 2 for t, s in pairwise(walk.grid) if t.alpha * s.sigma > 0)
        for t, s in walk.steps():
            x, clean = walk.x, walk.clean()
            whole = Split.of(t, s, self.eta)
            weight = s.sigma * whole.fresh * self.noise_scale
            if t.alpha == 0 or s.sigma == 0:
                walk.to(s, whole.step(t, s, x, clean) + drawn(walk, weight, t))
                continue
            middle = walk.between((t.log_ratio + s.log_ratio) / 2)
            half = Split.of(t, middle, self.eta)
            first = drawn(walk, middle.sigma * half.fresh * self.noise_scale, t)
            walk.to(middle, half.step(t, middle, x, clean) + first)
            share = 1 / (1 + math.sqrt(noise_decay(t, s)))
            unit = 1 / (middle.sigma * half.fresh * self.noise_scale) if weight > 0 else 0.0
            noise = (weight * math.sqrt(share) * unit) * first + drawn(walk, weight * math.sqrt(1 - share), middle)
            walk.to(s, whole.step(t, s, x, walk.clean()) + noise)
        return walk.plan()
