r"""Restart sampling (Xu et al. 2023, "Restart sampling for improving generative processes", arXiv:2306.14878).

A solver walks down; when it reaches the noise level `low` of an interval, fresh noise takes the state up to `high`, and
the solver walks down again, K times:

    x_high = (alpha_high / alpha_low) x_low + sqrt(sigma_high^2 - (alpha_high / alpha_low)^2 sigma_low^2) z.

The way up is the forward process and has no error; the large noise contracts the error that the way down has gathered,
and what discretisation adds on the ways down is the solver's own. So the law has the solver's order, if the ways down
are refined with the grid; a fixed number of steps on them leaves their error.

The plan is the solver's own plans one after the other: no stage looks back over a border, and a multistep method starts
anew on each way down. Repeated ways draw noise of their own: they are on no Brownian path, since the path's increment
between two noise levels is used up by the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from framework.errors import UserError
from framework.schedules import Schedule
from framework.solvers.edm import Heun
from framework.solvers.plan import Node, Plan, Solver, Stage, nodes

RHO = 7.0  # of the inner grids, as in the paper


@dataclass(frozen=True)
class Interval:
    """Where to restart.

    Args:
        low: the noise-to-signal ratio sigma / alpha at which the state is noised: that of the grid's nearest time.
        high: the one up to which, or the schedule's highest, if that is less.
        times: K, how often; 0 is never.
        steps: of each way down from `high`, on a Karras grid with rho = 7, as in the paper. None walks the grid's own
            times from the noisiest one within the interval (from `high` in one step, if there is none), so that the
            ways down are refined with the grid.

    Raises:
        UserError: not 0 < low < high, K is negative, or there is not even one step.
    """

    low: float
    high: float
    times: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise UserError(f"a restart interval needs 0 < low < high, got {self.low} and {self.high}")
        if self.times < 0 or (self.steps is not None and self.steps < 1):
            raise UserError(
                f"a restart interval needs times >= 0 and steps >= 1 or None, got {self.times} and {self.steps}"
            )

    def place(self, grid: Sequence[Node]) -> int | None:
        """Which of the grid's times is nearest to `low`; None if none after the first lies below `high`."""
        inner = [i for i, node in enumerate(grid) if i > 0 and 0 < node.ratio < self.high]
        return min(inner, key=lambda i: abs(math.log(grid[i].ratio / self.low)), default=None)

    def way_down(self, schedule: Schedule, times: Tensor, place: int) -> Tensor:
        """The times from `high` down to the grid's time at `place`: float64 (steps + 1,)."""
        above = [node.ratio for node in nodes(schedule, times[:place]) if node.ratio <= self.high]
        if self.steps is None and above:
            return times[place - len(above) : place + 1]
        most = math.exp(min(-0.5 * float(schedule.log_snr(torch.ones((), dtype=torch.float64))), 700.0))
        low, high = nodes(schedule, times[place : place + 1])[0].ratio, min(self.high, most)
        share = torch.linspace(1, 0, (self.steps or 1) + 1, dtype=torch.float64)[:-1]
        ratios = (low ** (1 / RHO) + share * (high ** (1 / RHO) - low ** (1 / RHO))) ** RHO
        down = schedule.time(-2 * ratios.log()).clamp(0.0, 1.0)
        return torch.cat([down, times[place : place + 1]])


@dataclass(frozen=True)
class Restart:
    """`solver` with restarts; without intervals, or with K = 0, it is the solver itself.

    Args:
        solver: a solver with a plan, deterministic or not; the paper's is EDM's Heun.
        intervals: where, how far and how often. An interval that lies above all of the grid's times is passed over, and
            of intervals at one time of the grid each has its turn, in the order given.
    """

    solver: Solver = field(default_factory=Heun)
    intervals: Sequence[Interval] = (Interval(0.06, 0.3, 2),)

    @property
    def order(self) -> int:
        return self.solver.order

    @property
    def evaluations_per_step(self) -> int:
        """Of each step, on the grid and on the ways down: an interval adds times * steps of them."""
        return self.solver.evaluations_per_step

    @property
    def stochastic(self) -> bool:
        return self.solver.stochastic or any(interval.times > 0 for interval in self.intervals)

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        times = torch.as_tensor(times, dtype=torch.float64)
        grid = nodes(schedule, times)
        found = [(interval.place(grid), interval) for interval in self.intervals if interval.times > 0]
        restarts = sorted(((place, each) for place, each in found if place is not None), key=lambda pair: pair[0])
        parts: list[Sequence[Stage]] = []
        done = 0
        for place, interval in restarts:
            if place > done:
                parts.append(self.solver.plan(schedule, times[done : place + 1]))
                done = place
            down = interval.way_down(schedule, times, place)
            if bool((down.diff() < 0).all()):  # not so where the schedule ends at this time of the grid
                up = _noised(grid[place], nodes(schedule, down[:1])[0])
                again = [replace(stage, path=None) for stage in self.solver.plan(schedule, down)]
                parts += [[up, *again]] * interval.times
        if done < len(grid) - 1:
            parts.append(self.solver.plan(schedule, times[done:]))
        return _in_a_row(parts)


def _noised(low: Node, high: Node) -> Stage:
    """The forward process from one node to a noisier one."""
    kept = high.alpha / low.alpha
    fresh = math.sqrt(high.sigma**2 - (kept * low.sigma) ** 2)
    return Stage(0, low.time, high.time, (kept,), (), (fresh,), evaluate=False, draw=True)


def _in_a_row(parts: Sequence[Sequence[Stage]]) -> Plan:
    """The plans as one, with their steps counted on."""
    stages: list[Stage] = []
    for part in parts:
        first = stages[-1].step + 1 if stages else 0
        stages += [replace(stage, step=first + stage.step) for stage in part]
    return tuple(stages)
