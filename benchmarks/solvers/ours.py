"""conf/solver x conf/grid on a bed, through the one loop that everybody samples with."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from benchmarks.groups import group
from benchmarks.solvers.beds import BEDS, RHOS, SHIFTS, Bed
from benchmarks.solvers.theirs import Outcome
from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.grids import Grid, check_times
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.sampler import Loop, sample
from framework.schedules import Flow, Schedule
from framework.solvers.adams import LogRatio, Ratio, Time
from framework.solvers.plan import Solver
from framework.solvers.unipc import BH1, BH2
from framework.spaces import Euclidean
from framework.state import Condition


@dataclass(frozen=True)
class Case:
    """A solver on a grid."""

    solver: str
    grid: str
    method: Solver | Loop
    times: Grid


TURNS: dict[str, tuple[Any, ...]] = {
    "order": (1, 2, 3, 4),
    "points": (2, 3, 4),
    "p": (1, 2, 3),
    "lower_order_final": (0, 2),
    "variable": (Time(), Ratio(), LogRatio()),
    "step_function": (BH1(), BH2()),
}
"""Arguments of solvers that one would turn, one at a time."""


ORDERS = ("order", "points", "p")


def solvers(stochastic: bool, turned: Collection[str] = tuple(TURNS)) -> dict[str, Solver | Loop]:
    """conf/solver, as far as it is of continuous states and steps where it is told to; and with arguments turned."""
    found: dict[str, Any] = {
        name: solver
        for name, solver in group("solver").items()
        if solver.stochastic == stochastic and not getattr(solver, "adaptive", False) and _counts(solver)
    }
    chosen = dict(found)
    for name, solver in found.items():
        for field in fields(solver):
            for value in TURNS[field.name] if field.name in turned else ():
                if value != getattr(solver, field.name) and field.init:
                    said = value if isinstance(value, int) else type(value).__name__
                    chosen[f"{name} {field.name}={said}"] = replace(solver, **{field.name: value})
    return chosen


@dataclass(frozen=True)
class From:
    """A grid that starts a little below pure noise, as diffusers' flow spacings do."""

    grid: Grid
    first: float = 0.999

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        return self.grid(schedule, steps) * self.first


TURNED: dict[str, tuple[float, ...]] = {"shift": SHIFTS, "rho": RHOS, "sigma_min": (0.01, 0.03)}
"""Arguments of grids that one would turn, to what theirs are turned too."""


def grids(kind: str) -> dict[str, Grid]:
    """conf/grid, and some of its arguments turned.

    Left out are Leading, which does not begin at the start, fitted grids, and doubles: on the straight path equal steps
    of time are `flow`'s and, nearly, a table's.
    """
    doubles = ("leading", "flow", "trailing") if kind == "noise" else ("leading",)
    found: dict[str, Any] = {
        name: grid for name, grid in group("grid").items() if callable(grid) and name not in doubles
    }
    turned = dict(found)
    for name, grid in found.items():
        for field in fields(grid):
            if field.name == "sigma_min" and BEDS[kind][1] > 0:
                continue  # it is the end
            for value in TURNED.get(field.name, ()):
                turned[f"{name} {field.name}={value:g}"] = replace(grid, **{field.name: value})
    if kind == "noise":
        early = {name: grid for name, grid in turned.items() if name.startswith(("uniform", "quadratic"))}
        turned |= {f"{name} from 0.999": From(grid) for name, grid in early.items()}
    return turned


def cases(kind: str, stochastic: bool = False, turned: Collection[str] = tuple(TURNS)) -> list[Case]:
    """Every solver on every grid."""
    return [
        Case(solver, grid, method, times)
        for solver, method in solvers(stochastic, turned).items()
        for grid, times in grids(kind).items()
    ]


def times_of(grid: Grid, bed: Bed, steps: int) -> Tensor | None:
    """The grid's times, moved to start and end where the bed does; None where the grid has no such number of steps."""
    known = {field.name for field in fields(grid)}  # type: ignore[arg-type]
    first, most = bed.start
    if "sigma_max" in known and first > 0:
        grid = replace(grid, sigma_max=most / first)  # type: ignore[type-var]
    early = bed.end > 0 and "sigma_min" in known  # its last step but one is the end, without the step to the data
    if early:
        grid = replace(grid, sigma_min=bed.end)  # type: ignore[type-var]
    try:
        times = grid(bed.schedule, steps + 1)[:-1].clone() if early else grid(bed.schedule, steps).clone()
        if not isinstance(grid, From):
            times[0] = 1.0
        if bed.end > 0:
            times[-1] = bed.schedule.time(torch.tensor(-2 * math.log(bed.end)).double())
        return check_times(times)
    except UserError:
        return None


def evaluations(solver: Solver | Loop, schedule: Schedule, times: Tensor) -> int:
    """How often a run asks the denoiser."""
    if not isinstance(solver, Loop):
        return sum(stage.evaluate for stage in solver.plan(schedule, times))
    ledger = Ledger()
    denoiser = Zero(schedule, ledger)
    sample(denoiser, solver, times, Euclidean((1,)), TensorDict({}, batch_size=[1]), SampleKey(0, (0,)))
    return ledger.calls


@dataclass(frozen=True)
class Zero:
    """The denoiser of data that is zero: what is left is the counting."""

    schedule: Schedule
    ledger: Ledger

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        self.ledger.count_forward(len(x_t))
        return Prediction(torch.zeros_like(x_t), x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def _counts(solver: Solver | Loop) -> bool:
    """Whether it is a solver of Gaussian processes: others refuse the one that they are given."""
    try:
        evaluations(solver, Flow(), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    except (UserError, TypeError):
        return False
    return True


def most_steps(case: Case, bed: Bed, budget: int) -> tuple[int, int, Tensor] | None:
    """(steps, evaluations, times) of the most steps that the budget allows."""
    steps = budget
    while steps > 0:
        times = times_of(case.times, bed, steps)
        count = budget + 1 if times is None else evaluations(case.method, bed.schedule, times)
        if times is not None and count <= budget:
            return steps, count, times
        steps = min(steps - 1, max(steps * budget // count + 1, 1))  # as many as that share, and one for the ends
    return None


@torch.no_grad()
def run(case: Case, bed: Bed, budget: int, seed: int = 0) -> Outcome | None:
    """The most steps that `budget` evaluations allow; None if there is no such number of steps."""
    found = most_steps(case, bed, budget)
    return None if found is None else Outcome(walk(case.method, bed, found[2], seed), *found[:2])


@torch.no_grad()
def walk(method: Solver | Loop, bed: Bed, times: Tensor, seed: int = 0, denoiser: Denoiser | None = None) -> Tensor:
    """y = x / alpha at the end of the times, by the bed's denoiser or another."""
    key = SampleKey(seed, tuple(range(len(bed.noise))))
    first = (float(level(times[0])) for level in (bed.schedule.alpha, bed.schedule.sigma))
    asked, initial = denoiser or bed.denoiser, bed.state(*first)
    x = sample(asked, method, times, bed.space, bed.condition, key, initial=initial)
    return x / float(bed.schedule.alpha(times[-1]))  # type: ignore[operator, return-value]
