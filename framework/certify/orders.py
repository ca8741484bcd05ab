"""On which beds and paths the order of a solver of the Gaussian process is measured, and from which start.

A deterministic solver: on every bed at the base path from the exact start, on the first bed at every other path, and,
if it looks back on earlier steps, from both starts at a path that begins midway, where the start is felt. A stochastic
one: the order of its law on Gaussian data, at every path. An adaptive one: its error against its evaluations, at the
base path, since it looks at no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from framework.certify.bed import ContinuousBed, Reference, reference
from framework.certify.gaussian import GAUSSIAN
from framework.certify.gaussian_mixture import PLANE_BED, SIXTEEN_BED
from framework.certify.labelled import LabelledBed
from framework.certify.observation import OBSERVED
from framework.certify.order import history, measure, measure_adaptive, measure_law
from framework.certify.paths import BASE, MIDWAY, Path
from framework.certify.sets import SETS
from framework.certify.slope import Measurement
from framework.errors import UserError
from framework.guidance.classifier_free import ClassifierFree
from framework.sampler import Loop
from framework.solvers.plan import Solver, nodes

GUIDED = LabelledBed(ClassifierFree(2.0), name="labelled mixture, guidance 2")
BEDS: tuple[ContinuousBed, ...] = (PLANE_BED, SIXTEEN_BED, GAUSSIAN, SETS, GUIDED, OBSERVED)
ADAPTIVE_BEDS = 2  # the mixtures in 2 and in 16 dimensions
START = 80.0  # the noise-to-signal ratio at which reference solutions begin


@runtime_checkable
class Adaptive(Protocol):
    """A Loop that chooses its own steps by tolerances; a dataclass."""

    @property
    def adaptive(self) -> bool: ...

    @property
    def rtol(self) -> float: ...

    @property
    def atol(self) -> float: ...


def continuous_orders(
    solver: Solver | Loop, beds: Sequence[ContinuousBed], paths: Sequence[Path], steps: Sequence[int], points: int
) -> Iterator[Measurement]:
    """All orders of a solver: on the `beds` at the base path, and on the first bed at the other `paths`."""
    if isinstance(solver, Adaptive):
        yield from _adaptive_orders(solver, beds, points)
    elif solver.stochastic:
        yield from _law_orders(solver, paths, steps)
    else:
        yield from _orders(solver, beds, paths, steps, points)


def _orders(
    solver: Solver | Loop, beds: Sequence[ContinuousBed], paths: Sequence[Path], steps: Sequence[int], points: int
) -> Iterator[Measurement]:
    for bed in beds:
        yield _order(solver, bed, BASE, steps, points, "exact")
    if not isinstance(solver, Loop) and history(solver.plan(BASE.schedule, next(iter(BASE.times((20,)))))) > 0:
        for start in ("exact", "naive"):
            yield _order(solver, beds[0], MIDWAY, steps, points, start)
    for path in paths:
        try:
            yield _order(solver, beds[0], path, steps, points, "exact")
        except UserError:  # the grid does not serve the schedule
            continue


def _order(
    solver: Solver | Loop, bed: ContinuousBed, path: Path, steps: Sequence[int], points: int, start: str
) -> Measurement:
    grids = path.times(steps)
    true = _reference(bed, path, points)
    order = measure(solver, bed, path.schedule, grids, true, exact_start=start == "exact")
    return Measurement(bed.name, path.schedule_name, path.grid_name, start, order)


def _reference(bed: ContinuousBed, path: Path, points: int) -> Reference:
    first = nodes(path.schedule, next(iter(path.times((40, 80))))[:1])[0]
    return reference(bed, max(START, float(f"{first.ratio:.12e}")), points)


def _law_orders(solver: Any, paths: Sequence[Path], steps: Sequence[int]) -> Iterator[Measurement]:
    if isinstance(solver, Loop):
        return
    for path in (BASE, *paths):
        try:
            order = measure_law(solver, path.schedule, path.times(steps))
        except UserError:
            continue
        yield Measurement("Gaussian data, exact law", path.schedule_name, path.grid_name, "law", order)


def _adaptive_orders(solver: Adaptive, beds: Sequence[ContinuousBed], points: int) -> Iterator[Measurement]:
    times = next(BASE.times((20,)))
    for bed in beds[:ADAPTIVE_BEDS]:
        order = measure_adaptive(solver, bed, BASE.schedule, times, _reference(bed, BASE, points))
        yield Measurement(bed.name, BASE.schedule_name, "its own steps", "tolerances", order)
