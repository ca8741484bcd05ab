r"""The order of convergence as it is measured: how fast the error falls when the steps are halved.

A solver of order p has error e(n) = C n^-p (1 + O(1 / n)) after n steps of one smooth grid. The steps are doubled until
the error meets the floor of rounding, its slope has settled or the grids end, and the order is the slope

    p = - d log e / d log n,    e(n) = median over starting points of the endpoint's distance to the reference solution,

fitted through the finest WINDOW numbers of steps whose errors are clear of the floor. The median and not the mean,
because the few trajectories that pass between two modes converge late. The interval says two things at once: its
inner part is the 95 % bootstrap over the starting points, and it is widened to hold the slopes of both of the window's
doublings, so that a slope which still drifts is seen to drift.

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
from framework.certify.variance import GaussianData, terminal_law
from framework.denoiser import Denoiser, Prediction
from framework.sampler import Execution, Loop, sample
from framework.schedules import Schedule
from framework.solvers.plan import Plan, Solver, nodes
from framework.state import Condition, State

DOUBLINGS = (20, 40, 80, 160, 320, 640, 1280)
WINDOW = 3
LAW_FLOOR = 1e-12
SETTLED = 0.04  # by which the last three slopes may differ for the doubling to end
RESAMPLES = 500
TOLERANCES = tuple(10 ** (-k / 4) for k in range(20, 37))
GAUSSIANS = tuple(GaussianData(mean, std) for mean, std in ((0.0, 0.1), (0.5, 0.2), (1.0, 0.5), (0.3, 0.8), (0.0, 1.5)))


@dataclass(frozen=True)
class Order:
    """A measured order with its interval, and what it was measured from.

    Attributes:
        value: the slope; infinite where every error is below the floor.
        low: the lower end of the interval.
        high: the upper end.
        steps: the numbers of steps, all of them.
        errors: the median error at each.
    """

    value: float
    low: float
    high: float
    steps: tuple[int, ...]
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """One measured order: where, and how.

    `start` is "exact" or "naive"; "law" is the order of a law, "tolerances" that of an adaptive solver.
    """

    bed: str
    schedule: str
    grid: str
    start: str
    order: Order


def fit(steps: Sequence[int], errors: np.ndarray, floor: float, seed: int = 0) -> Order:
    """The order from the errors (numbers of steps, points); medians below the floor are not the solver's own."""
    medians = np.median(errors, axis=1)
    clean = [i for i in range(len(steps)) if medians[i] > floor and np.isfinite(medians[i])][-WINDOW:]
    numbers = tuple(int(n) for n in steps), tuple(float(m) for m in medians)
    if not np.isfinite(medians).all():
        return Order(-math.inf, -math.inf, -math.inf, *numbers)
    if len(clean) < 2:
        return Order(math.inf, math.inf, math.inf, *numbers)
    logs, rows = np.log(np.asarray(steps, dtype=float)[clean]), errors[clean]
    generator = np.random.default_rng(seed)
    chosen = generator.integers(errors.shape[1], size=(RESAMPLES, errors.shape[1]))
    resampled = np.log(np.median(rows[:, chosen], axis=2))  # (window, resamples)
    low, high = np.quantile(_slope(logs, resampled), [0.025, 0.975])
    successive = -np.diff(np.log(medians[clean])) / np.diff(logs)
    value = float(_slope(logs, np.log(medians[clean])[:, None])[0])
    return Order(value, float(min(low, *successive)), float(max(high, *successive)), *numbers)


def _slope(logs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Minus the least-squares slope of each column of `values` over `logs`."""
    centred = logs - logs.mean()
    return -(centred @ values) / (centred @ centred)


def enough(steps: Sequence[int], errors: Sequence[np.ndarray], floor: float, goal: float = math.inf) -> bool:
    """Whether finer grids would say nothing new: the errors are at the floor, or their slope has settled.

    Or it lies above `goal`, and still does if its latest drift goes on for ever, halved at each doubling.
    """
    medians = np.array([np.median(row) for row in errors])
    if len(medians) > 1 and medians[-1] < floor:
        return True
    if len(medians) < 5 or not (medians > 0).all():
        return False
    slopes = -np.diff(np.log(medians[-4:])) / np.diff(np.log(np.asarray(steps[-4:], dtype=float)))
    limit = 2 * slopes[-1] - slopes[-2]
    return bool(np.ptp(slopes) < SETTLED or min(*slopes, limit) > goal)


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

    Each of `data` is a point of the fit; the error is the 2-Wasserstein distance of the terminal law to the exact one.
    """
    steps, errors = [], []
    for times in grids:
        plan, (last,) = solver.plan(schedule, times), nodes(schedule, times[-1:])
        steps.append(len(times) - 1)
        errors.append(np.array([terminal_law(plan, schedule, d).distance(d.marginal(last)) for d in data]))
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
    slope = float(_slope(logs, values[:, None])[0])
    residuals = values - values.mean() + slope * (logs - logs.mean())
    error = math.sqrt(float((residuals**2).sum()) / (len(logs) - 2) / float(((logs - logs.mean()) ** 2).sum()))
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
