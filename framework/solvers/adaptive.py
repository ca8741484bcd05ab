r"""Adaptive Runge-Kutta methods on the probability-flow ODE: as many evaluations as a tolerance asks for.

The ODE is solved on the quarter circle, dv/dtheta = (cos(theta) v - D) / sin(theta) with v = x / sqrt(alpha^2 +
sigma^2) (framework/probability_flow.py), from the first time to the last, by the method of Dormand & Prince 1980 (RK45)
or of Hairer, Norsett & Wanner 1993 (DOP853). The times in between are where hooks look, and change nothing. Where the
last time has sigma = 0, the ODE ends at sigma / alpha = `smallest_ratio` = w, and the clean mean there is the sample:
for data of deviation s that leaves an error below w min(1, w / (2 s)), at no evaluation more.

Every sample has its own step size and meets the tolerance by itself, so that it is the same in any batch
(framework/ode.py). The batch walks in lockstep until its last sample has arrived, and the ledger counts what the
denoiser was asked: evaluations per sample are those of the batch's slowest sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.ode import DOP853_TABLEAU, DORMAND_PRINCE, Segment, Tableau, segments
from framework.probability_flow import ProbabilityFlow
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.sampler import Hook, Progress
from framework.schedules import angle
from framework.solvers.plan import Stage
from framework.spaces import Space
from framework.state import Condition, State


@dataclass(frozen=True)
class Adaptive:
    """What RK45 and DOP853 share: a Loop (framework/sampler.py) that chooses its own steps.

    Args:
        rtol, atol: each step's error stays below atol + rtol |v| in root mean square over a sample's degrees of
            freedom. v has about unit size; a float32 network has noise of 1e-6, below which tolerances only cost.
        smallest_ratio: sigma / alpha at which the ODE ends if the last time is free of noise.

    Raises:
        ValueError: an argument is not positive.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    smallest_ratio: float = 1e-4
    tableau: ClassVar[Tableau]
    order: ClassVar[int]
    evaluations_per_step: ClassVar[int]
    """Of an attempted step; how many there are is the tolerance's matter and not the grid's."""
    stochastic: ClassVar[bool] = False
    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.rtol, self.atol, self.smallest_ratio) <= 0:
            raise ValueError(f"an adaptive solver's tolerances and smallest_ratio must be positive, got {self}")

    def run(
        self,
        denoiser: Denoiser,
        process: Process,
        times: Tensor,
        x: State,
        condition: Condition,
        key: NoiseKey,
        hooks: Sequence[Hook],
    ) -> State:
        """From the state x at times[0] to the one at times[-1]; gradients flow through the accepted steps.

        Raises:
            UserError: the process is not Gaussian, or the tolerances cannot be met.
        """
        if not isinstance(process, Gaussian):
            raise UserError(f"{type(self).__name__} solves the ODE of a Gaussian process, not of {process}")
        flow = ProbabilityFlow(denoiser, process.space, condition, x)
        watcher = _Watcher(flow, times, hooks) if hooks else None
        v, clean = self.solve(flow, times[0], times[-1], flow.enter(x, times[0]), watcher)
        x = leave(flow, v, clean, times[-1])
        if watcher is not None:
            watcher.show(len(times) - 1, x, clean)
        return x

    def solve(
        self, flow: ProbabilityFlow, t: Tensor, s: Tensor, v: Tensor, see: Callable[[Segment], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The rows v (B, n) and the clean means there at time s (), or at `smallest_ratio` where s has no noise."""
        schedule = flow.denoiser.schedule
        start, stop = float(angle(schedule, t)), float(angle(schedule, s))
        if float(schedule.sigma(s)) == 0:
            stop = min(start, math.atan(self.smallest_ratio))
        size = flow.space.degrees_of_freedom(flow.condition)
        for segment in segments(flow.velocity, start, stop, v, self.tableau, self.rtol, self.atol, size):
            if see is not None:
                see(segment)
        return segment.y_stop, flow.clean_of(segment.stop, segment.y_stop, segment.f_stop)


@dataclass(frozen=True)
class RK45(Adaptive):
    """Fifth order with a fourth-order error estimate (Dormand & Prince 1980): for tolerances down to 1e-5."""

    tableau: ClassVar[Tableau] = DORMAND_PRINCE
    order: ClassVar[int] = DORMAND_PRINCE.order
    evaluations_per_step: ClassVar[int] = DORMAND_PRINCE.evaluations


@dataclass(frozen=True)
class DOP853(Adaptive):
    """Eighth order with error estimates of fifth and third (Hairer et al. 1993): for reference solutions."""

    rtol: float = 1e-8
    atol: float = 1e-8
    tableau: ClassVar[Tableau] = DOP853_TABLEAU
    order: ClassVar[int] = DOP853_TABLEAU.order
    evaluations_per_step: ClassVar[int] = DOP853_TABLEAU.evaluations


def leave(flow: ProbabilityFlow, v: Tensor, clean: Tensor, t: Tensor) -> State:
    """The state at a time t () from the rows v there; without noise it is the clean mean."""
    alpha, sigma = (float(f(t)) for f in (flow.denoiser.schedule.alpha, flow.denoiser.schedule.sigma))
    return flow.state(alpha * clean if sigma == 0 else math.hypot(alpha, sigma) * v)


def reference(
    denoiser: Denoiser, x: State, times: Tensor, space: Space, condition: Condition, *, tolerance: float = 1e-10
) -> list[State]:
    """The ODE's solution at each of the decreasing `times`, from x at times[0]: what other solvers are measured by.

    A sample is the same in any batch; states are of the type of x, so float64 for a reference beyond 1e-7.
    """
    solver = DOP853(tolerance, tolerance, 0.1 * math.sqrt(tolerance))
    flow = ProbabilityFlow(denoiser, space, condition, x)
    states, v = [x], flow.enter(x, times[0])
    for t, s in pairwise(times):
        v, clean = solver.solve(flow, t, s, v)
        states.append(leave(flow, v, clean, s))
    return states


class _Watcher:
    """Shows hooks the state at the grid's times, from the cubic through each step's ends and slopes.

    The cubic is third order in the step: good for pictures, and free. All rows are shown a time together, once the last
    has passed it.
    """

    def __init__(self, flow: ProbabilityFlow, times: Tensor, hooks: Sequence[Hook]) -> None:
        self.flow, self.times, self.hooks = flow, times, hooks
        self.angles = angle(flow.denoiser.schedule, times).tolist()
        self.seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.next = 1

    def __call__(self, segment: Segment) -> None:
        """Keep what the rows passed in this segment; show the times that all have passed."""
        start, stop = segment.start, segment.stop
        for i, theta in enumerate(self.angles[1:-1], start=1):
            passed = (start > theta) & (stop <= theta)
            if not bool(passed.any()):
                continue
            v, slope = _cubic(segment, theta)
            done, old_v, old_slope = self.seen.get(i, (torch.zeros_like(passed), v, slope))
            keep = passed[:, None]
            self.seen[i] = (done | passed, torch.where(keep, v, old_v), torch.where(keep, slope, old_slope))
        while self.next in self.seen and bool(self.seen[self.next][0].all()):
            _, v, slope = self.seen.pop(self.next)
            clean = self.flow.clean_of(torch.full_like(start, self.angles[self.next]), v, slope)
            self.show(self.next, leave(self.flow, v, clean, self.times[self.next]), clean)
            self.next += 1

    def show(self, i: int, x: State, clean: Tensor) -> None:
        """Call the hooks with the state x at time i."""
        schedule, time = self.flow.denoiser.schedule, self.times[i]
        stage = Stage(i - 1, float(self.times[i - 1]), float(time), (), evaluate=False)
        prediction = Prediction(self.flow.state(clean), x, float(schedule.alpha(time)), float(schedule.sigma(time)))
        for hook in self.hooks:
            hook(Progress(i - 1, len(self.times) - 1, stage, x, prediction))


def _cubic(segment: Segment, theta: float) -> tuple[Tensor, Tensor]:
    """v and dv/dtheta at an angle by Hermite's interpolation; rows of no length give numbers that nobody uses."""
    h = segment.stop - segment.start
    h = torch.where(h == 0, 1.0, h)[:, None]
    r = (theta - segment.start)[:, None] / h
    a, b = h * segment.f_start, h * segment.f_stop
    rise = segment.y_stop - segment.y_start
    v = segment.y_start + r * (a + r * (3 * rise - 2 * a - b + r * (a + b - 2 * rise)))
    slope = (a + r * (2 * (3 * rise - 2 * a - b) + 3 * r * (a + b - 2 * rise))) / h
    return v, slope
