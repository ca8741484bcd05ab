r"""From a sample back to its noise, and from one noise to another.

invert (DDIM inversion; Song et al. 2021, 2010.02502, Section 4.3): a deterministic solver walks the probability-flow
ODE up the grid, from x = alpha x_0 at its last time with noise, where the ODE has moved x by O(sigma^2) alone, to the
first. Walked down again with the same solver the state leads back to x_0 up to the solver's error, which falls with the
steps. To alpha = 0 leads the first-order step, as it does from there.

slerp: noises of one length between two, on the arc and not on the chord, since standard normals in many dimensions all
have nearly the same length and the middle of a chord has not (Shoemake 1985; White 2016, 1609.04468).
"""

from __future__ import annotations

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.noise import SampleKey
from framework.sampler import Loop, execute
from framework.solvers.plan import Solver
from framework.solvers.walk import Walk, first_order
from framework.spaces import Space
from framework.state import Condition, State, combine, expand, map_state


def invert(
    denoiser: Denoiser, solver: Solver | Loop, times: Tensor, space: Space, condition: Condition, state: State
) -> State:
    """The states at times[0] from which `solver` would make `state`.

    Args:
        denoiser: guided or not; inversion is most faithful without guidance.
        solver: a deterministic one with a plan; DDIM is the usual one.
        times: float64 (n + 1,), strictly decreasing, as for sampling.
        space, condition: as for sampling.
        state: clean states, B rows.

    Raises:
        UserError: the solver draws noise, or has no plan.
    """
    if isinstance(solver, Loop) or solver.stochastic:
        raise UserError(
            f"{type(solver).__name__} does not invert: that needs a deterministic solver with a plan, as DDIM or Heun"
        )
    schedule = denoiser.schedule
    up = times[schedule.sigma(times) > 0].flip(0)
    x = combine([(float(schedule.alpha(up[0])), state)])
    key = SampleKey(0, ())  # from which nothing is drawn
    inside = up[schedule.alpha(up) > 0]
    if len(inside) > 1:
        x = execute(solver.plan(schedule, inside), denoiser, x, space, condition, key)
    if len(inside) < len(up):
        walk = Walk(schedule, up[-2:])
        for t, s in walk.steps():
            walk.to(s, first_order(t, s, walk.x, walk.clean()))
        x = execute(walk.plan(), denoiser, x, space, condition, key)
    return x


def slerp(first: State, second: State, share: float | Tensor) -> State:
    """States on the great arc from `first` (share 0) to `second` (share 1), each component and each row by itself.

    `share` is a number or float (B,). Lengths go from the one to the other evenly.
    """

    def arc(a: Tensor, b: Tensor) -> Tensor:
        lengths = [part.flatten(1).double().norm(dim=1).clamp(min=1e-300) for part in (a, b)]
        cosine = (a.flatten(1).double() * b.flatten(1).double()).sum(1) / (lengths[0] * lengths[1])
        theta = torch.acos(cosine.clamp(-1, 1))
        s = torch.as_tensor(share, dtype=torch.float64, device=a.device).expand(len(a))
        parallel = theta.sin() < 1e-9  # no arc is named; the chord is the limit where they agree
        turn = torch.where(parallel, 1.0, theta.sin())
        weights = [
            torch.where(parallel, 1 - s, torch.sin((1 - s) * theta) / turn),
            torch.where(parallel, s, torch.sin(s * theta) / turn),
        ]
        length = (1 - s) * lengths[0] + s * lengths[1]
        return sum(expand(length * w / n, part) * part for w, n, part in zip(weights, lengths, (a, b), strict=True))  # type: ignore[return-value]

    return map_state(arc, first, second)
