r"""Exact log-likelihood by the probability-flow ODE (Song et al. 2021, 2011.13456, eq. 39; Chen et al. 2018).

The ODE dv/dtheta = (cos(theta) v - D) / sin(theta) (framework/probability_flow.py) carries densities with its states,

    log p(v_low, theta_low) = log p(v_high, theta_high) + int_low^high div(dv/dtheta) dtheta,
    div(dv/dtheta) = (m cos(theta) - tr dD/dv) / sin(theta),    m = degrees of freedom,

and with x = s v, s = sqrt(alpha^2 + sigma^2), log p(x) = log p(v) - m log s. It starts at the law that samples start
from, x = sigma z at the first time: so p is the density, with respect to volume in the space, of what the ODE makes of
that prior at the last time t > 0, in nats. For an exact denoiser on a schedule with alpha(1) = 0 this is the density of
alpha x_0 + sigma z at t. Clean data x_0 has the density of x = alpha x_0 at a small t, plus m log alpha.

The trace is over the space: tr(P dD/dv P) with P the projection, so that padding and a centre of mass add nothing.

    ExactDivergence        sum over coordinates i of (P e_i)^T dD/dv (P e_i): a backward pass a coordinate
    HutchinsonDivergence   the mean over probes e of e^T dD/dv e (Hutchinson 1990; Grathwohl et al. 2019, FFJORD)

A probe is standard noise of the space scaled to length sqrt(m): E e e^T = P as for a Gaussian, and multiples of the
identity, most of dD/dv at the data's end, have no variance, as for signs; but signs have no meaning in a subspace. A
sample keeps its probes along its whole path, which leaves the ODE smooth, and a path a probe gives the standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.grids import check_times
from framework.ledger import Ledger
from framework.noise import NoiseKey
from framework.ode import segments
from framework.probability_flow import ProbabilityFlow, flatten, unflatten
from framework.schedules import angle
from framework.solvers.adaptive import RK45, Adaptive
from framework.spaces import Space
from framework.state import Condition, State, batch_size, device_of, map_state


class Divergence(Protocol):
    """The role: the directions e along which e^T dD/dv e is taken, and what these numbers tell of the trace."""

    def directions(self, space: Space, condition: Condition, like: State) -> list[Tensor]:
        """Directions in the space, each float64 (B, n)."""
        ...

    def estimates(self, probed: Tensor) -> Tensor:
        """Independent estimates (B, e) of the trace from its k numbers a sample (B, k)."""
        ...

    def standard_error(self, values: Tensor) -> Tensor:
        """The standard error (B,) of the mean of estimates (B, e)."""
        ...


@dataclass(frozen=True)
class ExactDivergence:
    """Every coordinate, projected onto the space: exact, at a backward pass a coordinate."""

    def directions(self, space: Space, condition: Condition, like: State) -> list[Tensor]:
        rows = flatten(like)
        found = []
        for i in range(rows.shape[1]):
            basis = torch.zeros_like(rows)
            basis[:, i] = 1.0
            found.append(flatten(space.project(unflatten(basis, as_double(like)), condition)))
        return [e for e in found if bool((e != 0).any())]  # what is padding in every sample needs no pass

    def estimates(self, probed: Tensor) -> Tensor:
        return probed.sum(1, keepdim=True)

    def standard_error(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values[:, 0])


@dataclass(frozen=True)
class HutchinsonDivergence:
    """`probes` random directions a sample from `key`: unbiased, at a backward pass a probe.

    Raises:
        ValueError: there is no probe.
    """

    key: NoiseKey
    probes: int = 8

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ValueError(f"a divergence needs at least one probe, got {self.probes}")

    def directions(self, space: Space, condition: Condition, like: State) -> list[Tensor]:
        length = space.degrees_of_freedom(condition).sqrt()[:, None]
        draws = (space.noise(self.key.component("divergence").at(i), condition) for i in range(self.probes))
        exact = (flatten(space.project(as_double(z), condition)) for z in draws)
        return [length * e / e.norm(dim=1, keepdim=True).clamp(min=1e-300) for e in exact]

    def estimates(self, probed: Tensor) -> Tensor:
        return probed

    def standard_error(self, values: Tensor) -> Tensor:
        return values.std(1) / math.sqrt(self.probes) if self.probes > 1 else values[:, 0] * math.nan


def as_double(state: State) -> State:
    """The state in float64, in which a projection is exact."""
    return map_state(lambda leaf: leaf.double(), state)


@dataclass(frozen=True)
class Likelihood:
    """Log-densities of samples.

    Attributes:
        nats: log p(x), float64 (B,).
        standard_error: of `nats`, from the probes, float64 (B,): 0 for the exact divergence, NaN for a single probe.
        degrees_of_freedom: the dimensions of each sample's space, float64 (B,).
    """

    nats: Tensor
    standard_error: Tensor
    degrees_of_freedom: Tensor

    def bits_per_dimension(self, bin_width: float = 1.0) -> Tensor:
        """-log2 of the probability of a bin of `bin_width` a dimension, per dimension (B,).

        For images of 256 levels in [-1, 1], bin_width = 2 / 256.
        """
        return -self.nats / (self.degrees_of_freedom * math.log(2)) - math.log2(bin_width)


def log_likelihood(
    denoiser: Denoiser,
    x: State,
    times: Tensor,
    space: Space,
    condition: Condition,
    divergence: Divergence,
    *,
    solver: Adaptive = RK45(),  # noqa: B008  (a frozen value)
    ledger: Ledger | None = None,
) -> Likelihood:
    """log p(x) of each row of x, a state at the last of the times.

    Args:
        denoiser: the clean mean, guided or not; its derivative is taken, so it must not detach its input.
        x: float states at times[-1], B rows.
        times: float64 (n + 1,), strictly decreasing; the first is the prior's, the last that of x. Those between have
            no effect.
        space: where states live.
        condition: TensorDict with batch_size [B].
        divergence: exact or Hutchinson's.
        solver: whose tolerances the integration keeps to, in the state and in nats.
        ledger: the denoiser's own, if it has one: samples, seconds and backward passes are entered.

    Returns:
        Nats with their standard error; no gradient flows through them. See the module's docstring for which density.

    Raises:
        UserError: the last time has no noise, the rows of x and the condition differ, the denoiser cannot be
            differentiated, or the tolerances cannot be met.
    """
    times = check_times(times)
    rows, schedule = condition.batch_size[0], denoiser.schedule
    if batch_size(x) != rows:
        raise UserError(f"the states have {batch_size(x)} rows and the condition {rows}")
    if float(schedule.sigma(times[-1])) == 0:
        raise UserError(
            f"the likelihood is that of a state with some noise, and at t = {float(times[-1])!r} there is none; end "
            "the times at a small t > 0 and pass alpha(t) x_0"
        )
    ledger = ledger or Ledger()
    # Inference tensors cannot be differentiated, so that under inference_mode clones of them are.
    with ledger.timed(device_of(condition)), torch.inference_mode(False):
        x, condition = map_state(Tensor.clone, x), condition.clone()
        with torch.no_grad():
            result = _integrate(denoiser, x, times, space, condition, divergence, solver, ledger)
    ledger.samples += rows
    return result


def _integrate(
    denoiser: Denoiser,
    x: State,
    times: Tensor,
    space: Space,
    condition: Condition,
    divergence: Divergence,
    solver: Adaptive,
    ledger: Ledger,
) -> Likelihood:
    flow = ProbabilityFlow(denoiser, space, condition, x)
    freedom = space.degrees_of_freedom(condition)
    directions = divergence.directions(space, condition, x)
    v = flow.enter(x, times[-1])
    width = v.shape[1]

    def joint(theta: Tensor, y: Tensor) -> Tensor:
        """dv/dtheta and the estimates of its divergence, (B, n + e)."""
        v = y[:, :width].detach().requires_grad_()
        before = ledger.forward
        with torch.enable_grad():
            clean = flow.clean(theta, v)
        passed = ledger.forward - before  # a guided denoiser passes more rows than it was given
        probed = torch.stack([(pull_back(clean, v, e) * e).sum(1) for e in directions], 1)
        ledger.count_backward(passed * len(directions))
        trace = divergence.estimates(probed)
        cos, sin = torch.cos(theta)[:, None], torch.sin(theta)[:, None]
        return torch.cat([(cos * v.detach() - clean.detach()) / sin, (cos * freedom[:, None] - trace) / sin], 1)

    none = divergence.estimates(v.new_zeros(len(v), len(directions)))
    low, high = (float(angle(denoiser.schedule, t)) for t in times[[-1, 0]])
    y = torch.cat([v, none], 1)
    for segment in segments(joint, low, high, y, solver.tableau, solver.rtol, solver.atol, freedom + none.shape[1]):
        y = segment.y_stop
    v, changes = y[:, :width], y[:, width:]
    variance = math.sin(high) ** 2
    prior = -0.5 * (v.square().sum(1) / variance + freedom * math.log(2 * math.pi * variance))
    nats = prior + changes.mean(1) - freedom * math.log(float(flow.scale(times[-1])))
    return Likelihood(nats, divergence.standard_error(changes), freedom)


def pull_back(clean: Tensor, v: Tensor, e: Tensor) -> Tensor:
    """(dD/dv)^T e (B, n).

    Raises:
        UserError: D does not depend on v, as far as autograd can tell.
    """
    found = None
    if clean.requires_grad:
        (found,) = torch.autograd.grad(clean, v, e, retain_graph=True, allow_unused=True)
    if found is None:
        raise UserError(
            "the denoiser gives no derivative of its clean mean: it detaches its input, or forbids gradients"
        )
    return found
