r"""What an order is measured from: the endpoint's distance to a reference solution, or the law's to the exact one.

A method with a memory needs a start. From the naive start it begins with steps of lower order, as in use; from the
exact start the states of its first steps, as many as it ever looks back on, are replaced by the reference solution: it
is the order of the formula itself, which is the one that a solver declares. In pure noise the first steps hardly
matter, since the ODE forgets their errors; so the naive start is measured from a noise level at which they do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from framework.certify.bed import ContinuousBed, Reference, draw, key_of
from framework.certify.slope import Order, enough, fit
from framework.certify.variance import GaussianData, terminal_law
from framework.denoiser import Denoiser, Prediction
from framework.sampler import Execution, Loop, sample
from framework.schedules import Schedule
from framework.solvers.plan import Plan, Solver, nodes
from framework.state import Condition, State

DOUBLINGS = (20, 40, 80, 160, 320, 640, 1280, 2560)
LAW_FLOOR = 1e-12
TOLERANCES = tuple(10 ** (-k / 4) for k in range(20, 37))
GAUSSIANS = tuple(GaussianData(mean, std) for mean, std in ((0.0, 0.1), (0.5, 0.2), (1.0, 0.5), (0.3, 0.8), (0.0, 1.5)))


def history(plan: Plan) -> int:
    """How many steps the plan looks back on at most, beyond the one that it is in."""
    asked: list[int] = []  # the stage of each evaluation
    most = 0
    for index, stage in enumerate(plan):
        if stage.evaluate:
            asked.append(index)
        used = [index - lag for lag, a in enumerate(stage.states) if a != 0]
        used += [asked[-1 - lag] for lag, b in enumerate(stage.cleans) if b != 0]
        most = max(most, *(stage.step - plan[past].step for past in used), 0)
    return most


def trajectory_end(
    solver: Solver | Loop, bed: ContinuousBed, schedule: Schedule, times: Tensor, true: Reference
) -> Tensor:
    """The solver's y = x / alpha at the last time, from the reference's state at the first: the naive start."""
    first, last = nodes(schedule, times[[0, -1]])
    initial = first.alpha * true.at(first.ratio)
    return draw(bed, solver, schedule, times, true.samples, initial=initial) / last.alpha


def trajectory_end_from_exact(
    plan: Plan, bed: ContinuousBed, schedule: Schedule, times: Tensor, true: Reference
) -> Tensor:
    """As `trajectory_end`, where the states of the first steps come from the reference: the exact start."""
    first, last = nodes(schedule, times[[0, -1]])
    run = Execution(plan, bed.denoiser(schedule), bed.space, true.condition, key_of(true.samples))
    exact_steps = history(plan)
    x: Tensor = first.alpha * true.at(first.ratio)
    for index, stage in enumerate(plan):
        x = run.advance(index, stage, x)  # type: ignore[assignment]
        if stage.step < exact_steps:
            (at,) = nodes(schedule, [stage.target])
            x = at.alpha * true.at(at.ratio)
    return x / last.alpha


def measure(
    solver: Solver | Loop,
    bed: ContinuousBed,
    schedule: Schedule,
    grids: Iterable[Tensor],
    true: Reference,
    exact_start: bool = True,
) -> Order:
    """The order of a deterministic solver.

    Args:
        solver: a plan's maker, or a loop, which has no exact start.
        bed: what it is measured on.
        schedule: the path from data to noise.
        grids: times (n + 1,) for growing n, along one smooth curve and away from the ends; those beyond the floor are
            not asked for.
        true: the reference of the bed; it begins at the noise-to-signal ratio of the first time or above.
        exact_start: whether a method with a memory is given exact first states.
    """
    steps, errors = [], []
    for times in grids:
        if exact_start and not isinstance(solver, Loop):
            end = trajectory_end_from_exact(solver.plan(schedule, times), bed, schedule, times, true)
        else:
            end = trajectory_end(solver, bed, schedule, times, true)
        distance = (end - true.at(nodes(schedule, times[-1:])[0].ratio)).flatten(1).norm(dim=1)
        steps.append(len(times) - 1)
        errors.append(distance.numpy())
        if enough(steps, errors, bed.floor):
            break
    return fit(steps, np.stack(errors), bed.floor)


def measure_law(
    solver: Solver, schedule: Schedule, grids: Iterable[Tensor], data: Sequence[GaussianData] = GAUSSIANS
) -> Order:
    """The order of a stochastic solver's law on Gaussian data, by the exact recursion of its mean and variance.

    The error is the 2-Wasserstein distance of the terminal law to the exact one, on the worst of `data`: on one of them
    its leading term may all but vanish, and change its sign.
    """
    steps, errors = [], []
    for times in grids:
        plan, (last,) = solver.plan(schedule, times), nodes(schedule, times[-1:])
        steps.append(len(times) - 1)
        errors.append(np.array([max(terminal_law(plan, schedule, d).distance(d.marginal(last)) for d in data)]))
        if enough(steps, errors, LAW_FLOOR):
            break
    return fit(steps, np.stack(errors), LAW_FLOOR)


def measure_adaptive(solver: Any, bed: ContinuousBed, schedule: Schedule, times: Tensor, true: Reference) -> Order:
    """The order of an adaptive solver, a dataclass with `rtol` and `atol`: its error against its evaluations.

    Its steps are its own, so that the tolerance is lowered in place of the steps. Evaluations are the samples' mean: a
    sample that has arrived is asked for as long as others are on their way, which is not counted. The interval is the
    regression's.
    """
    first, last = nodes(schedule, times[[0, -1]])
    end, initial = true.at(last.ratio), first.alpha * true.at(first.ratio)
    counts, medians = [], []
    for tolerance in TOLERANCES:
        denoiser = _Counting(bed.denoiser(schedule), last.time)
        strict, key = replace(solver, rtol=tolerance, atol=tolerance), key_of(true.samples)
        got = sample(denoiser, strict, times, bed.space, true.condition, key, initial=initial)
        assert isinstance(got, Tensor)
        counts.append(denoiser.asked / len(true.samples))
        medians.append(float((got / last.alpha - end).flatten(1).norm(dim=1).median()))
    logs, values = np.log(np.array(counts)), np.log(np.array(medians))
    logs, values = logs - logs.mean(), values - values.mean()
    slope = -float(logs @ values) / float(logs @ logs)
    residuals = values + slope * logs
    error = math.sqrt(float(residuals @ residuals) / (len(logs) - 2) / float(logs @ logs))
    return Order(slope, slope - 1.96 * error, slope + 1.96 * error, tuple(map(round, counts)), tuple(medians))


@dataclass
class _Counting:
    """A denoiser that counts the rows that it is asked for before `end`."""

    denoiser: Denoiser
    end: float
    asked: int = 0

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        self.asked += int((t > self.end * (1 + 1e-9)).sum())
        return self.denoiser(x_t, t, condition)
