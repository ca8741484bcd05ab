r"""The order of convergence from errors: how fast they fall when the steps are halved, and where that is going.

A solver of order p has error e(n) = C n^-p (1 + a / n + ...) after n steps of one smooth grid, so that the slope
between two numbers of steps, s = -d log e / d log n, is p + O(1 / n): from doubling to doubling its distance to p
halves. The order is the last slope s_2 before errors meet the floor of rounding. Its interval is the 95 % bootstrap
over the starting points, widened to hold the limit (Richardson's) of it and the slope before,

    s_2 + (s_2 - s_1),

so that a slope which still drifts is seen to drift, and to where.

e(n) is the median over starting points and not the mean, because the few trajectories that pass between two modes
converge late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SETTLED = 0.04  # by which the last three slopes may differ for the doubling to end
RESAMPLES = 500


@dataclass(frozen=True)
class Order:
    """A measured order with its interval, and what it was measured from.

    Attributes:
        value: the finest slope; infinite where every error is below the floor, minus infinity where the finest
            is not a number.
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
    numbers = tuple(int(n) for n in steps), tuple(float(m) for m in medians)
    if not np.isfinite(medians[-1]):
        return Order(-math.inf, -math.inf, -math.inf, *numbers)
    clean = [i for i in range(len(steps)) if np.isfinite(medians[i]) and medians[i] > floor][-3:]
    if len(clean) < 2:
        return Order(math.inf, math.inf, math.inf, *numbers)
    logs, rows = np.log(np.asarray(steps, dtype=float)[clean]), errors[clean]
    generator = np.random.default_rng(seed)
    chosen = generator.integers(errors.shape[1], size=(RESAMPLES, errors.shape[1]))
    resampled = np.log(np.median(rows[:, chosen], axis=2))  # (up to 3, resamples)
    values = np.log(medians[clean])[:, None]
    low, high = np.quantile(_slopes(logs, resampled)[-1], [0.025, 0.975])
    value, limit = float(_slopes(logs, values)[-1, 0]), float(_limit(logs, values)[0])
    return Order(value, min(float(low), value, limit), max(float(high), value, limit), *numbers)


def _slopes(logs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Minus the slopes of each column of `values` between neighbours of `logs`."""
    return np.asarray(-np.diff(values, axis=0) / np.diff(logs)[:, None])


def _limit(logs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What the slopes of each column tend to; with one slope alone, that one."""
    slopes = _slopes(logs, values)
    return np.asarray(slopes[-1] if len(slopes) == 1 else 2 * slopes[-1] - slopes[-2])


def enough(steps: Sequence[int], errors: Sequence[np.ndarray], floor: float, goal: float = math.inf) -> bool:
    """Whether finer grids would say nothing new: the errors are at the floor, or their slope has settled, or it and
    its limit lie above `goal`.
    """
    medians = np.array([np.median(row) for row in errors])
    if len(medians) > 1 and medians[-1] < floor:
        return True
    if len(medians) < 5 or not (medians > 0).all():
        return False
    slopes = -np.diff(np.log(medians[-4:])) / np.diff(np.log(np.asarray(steps[-4:], dtype=float)))
    return bool(np.ptp(slopes) < SETTLED or min(*slopes, 2 * slopes[-1] - slopes[-2]) > goal)
