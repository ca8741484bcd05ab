"""A solver's certificate: its measured order and every law that it keeps or breaks.

    certificate = certify(Heun())
    certificate.passed, certificate.measured.value, certificate.checks["ends"].detail

What a solver samples is found by its roles and not by its name: one with a `plan`, or a Loop that walks a Gaussian
process, is measured on continuous beds; a Loop that walks a categorical process on chains; one that walks a product on
a label and its point. A Loop says which by running there: the others refuse.

A solver passes if its measured order is at least the declared one less SLACK, the interval's lower end at least the
declared one less 2 SLACK, and no law is broken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from framework.certify import continuous, product, tokens
from framework.certify.bed import Bed, ContinuousBed, draw_state
from framework.certify.check import Check, attempt
from framework.certify.gaussian_mixture import PLANE_BED
from framework.certify.laws import COMMON, Bench
from framework.certify.order import DOUBLINGS
from framework.certify.orders import BEDS, continuous_orders
from framework.certify.paths import Path
from framework.certify.slope import Measurement, Order
from framework.errors import UserError
from framework.grids import UniformTime
from framework.sampler import Loop
from framework.schedules import EDM, VE, Cosine, DDPMBetas, Flow, LinearVP, Schedule, Shifted, Sigmoid
from framework.solvers.plan import Solver

SLACK = 0.15
SCHEDULES: Mapping[str, Schedule] = {
    "cosine": Cosine(),
    "edm": EDM(),
    "flow": Flow(),
    "flow_shifted": Shifted(Flow(), 3.0),
    "linear_vp": LinearVP(),
    "sigmoid": Sigmoid(),
    "tabulated_ddpm": DDPMBetas(),
    "ve": VE(),
}
KINDS: Mapping[str, Bed] = {"continuous": PLANE_BED, "categorical": tokens.MASKED, "product": product.PAIR}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        steps: the numbers of steps of an order, doubled until the slope has settled.
        points: starting points of each bed.
        beds: where the order of a solver of the Gaussian process is measured; the worst counts.
        paths: schedules and grids beyond the base on which it is measured too, on the first bed.
        schedules: on which both ends are walked.
        laws: the names of the laws that are asked; empty is all.
    """

    steps: Sequence[int] = DOUBLINGS
    points: int = 64
    beds: Sequence[ContinuousBed] = BEDS
    paths: Sequence[Path] = ()
    schedules: Mapping[str, Schedule] = field(default_factory=lambda: SCHEDULES)
    laws: Sequence[str] = ()


@dataclass(frozen=True)
class Certificate:
    """What was measured of one solver.

    Attributes:
        kind: continuous, categorical or product.
        declared_order, declared_evaluations, stochastic: as the solver declares them.
        measured: the lowest order of all beds and paths, from exact starts where there are any; None if there is none.
        naive: the order from the naive start, on the first bed; where a solver has no other start, `measured`.
        evaluations: denoiser evaluations in a step; not a number for a solver that chooses its own steps.
        measurements: all orders.
        checks: the laws by name.
        seconds: how long it took.
    """

    kind: str
    declared_order: float
    declared_evaluations: int
    stochastic: bool
    measured: Order | None
    naive: Order | None
    evaluations: float
    measurements: tuple[Measurement, ...]
    checks: Mapping[str, Check]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no law is broken; the order is one of them."""
        return all(check.passed is not False for check in self.checks.values())


def certify(solver: Solver | Loop, effort: Effort | None = None) -> Certificate:
    """Measure a solver.

    Raises:
        UserError: it fills no solver's role.
    """
    effort, begun = effort or Effort(), time.perf_counter()
    kind = kind_of(solver)
    bench = Bench(solver, KINDS[kind], Flow())
    laws: dict[str, Callable[[], Check]] = {law.__name__: _bound(law, bench) for law in COMMON}
    if kind == "continuous":
        orders = continuous_orders(solver, effort.beds, effort.paths, effort.steps, effort.points)
        laws |= continuous.laws(solver, effort.schedules)
    else:
        assert isinstance(solver, Loop)
        family = tokens if kind == "categorical" else product
        orders = family.orders(solver)
        laws |= family.laws(solver, effort.schedules)
    measurements: list[Measurement] = []

    def order() -> Check:
        measurements.extend(orders)
        return order_check(solver.order, measurements)

    asked = {name: law for name, law in laws.items() if not effort.laws or name in effort.laws}
    checks = {"order": attempt("order", order), **{name: attempt(name, law) for name, law in asked.items()}}
    measured = _lowest(m.order for m in measurements if m.start != "naive")
    evaluations = checks["evaluations"].value if "evaluations" in checks else None
    return Certificate(
        kind=kind,
        declared_order=solver.order,
        declared_evaluations=solver.evaluations_per_step,
        stochastic=solver.stochastic,
        measured=measured,
        naive=next((m.order for m in measurements if m.start == "naive"), measured),
        evaluations=math.nan if evaluations is None else evaluations,
        measurements=tuple(measurements),
        checks=checks,
        seconds=time.perf_counter() - begun,
    )


def order_check(declared: float, measurements: Sequence[Measurement]) -> Check:
    """Whether every measured order reaches the declared one less SLACK, and its interval's lower end less 2 SLACK.

    Of an adaptive solver the value alone: its error jumps with the steps that it happens to choose.
    """
    asked = [(_surest(m), m) for m in measurements if m.start != "naive"]
    if not asked:
        return Check("order", None, "its law cannot be computed; see terminal_law")
    least, worst = min(asked, key=lambda pair: pair[0])
    where = f"{worst.bed}, {worst.schedule} schedule, {worst.grid} grid"
    order = f"{worst.order.value:.2f} [{worst.order.low:.2f}, {worst.order.high:.2f}]"
    said = f"lowest of {len(asked)} beds and paths: {order} on {where}; declared {declared:g}"
    return Check("order", bool(least >= declared - SLACK), said, least, declared)


def _surest(measurement: Measurement) -> float:
    """The number that must reach the declared order less SLACK."""
    order = measurement.order
    return order.value if measurement.start == "tolerances" else min(order.value, order.low + SLACK)


def kind_of(solver: object) -> str:
    """continuous, categorical or product.

    Raises:
        UserError: it has not what a solver declares, or walks none of the three kinds of process.
    """
    name = type(solver).__name__
    lacking = [part for part in ("order", "evaluations_per_step", "stochastic") if not hasattr(solver, part)]
    if lacking or isinstance(solver, type):
        raise UserError(
            f"{name} is no solver: it has no {', '.join(lacking) or 'instance'}; a solver has order, "
            "evaluations_per_step, stochastic, and `plan` (framework/solvers/plan.py) or `run` (framework/sampler.py)"
        )
    if callable(getattr(solver, "plan", None)):
        return "continuous"
    if not isinstance(solver, Loop):
        raise UserError(f"{name} is no solver: it has neither `plan` nor `run`")
    refusals = []
    for kind, bed in KINDS.items():
        try:
            draw_state(bed, solver, Flow(), UniformTime()(Flow(), 2), (0,))
        except Exception as error:
            refusals.append(f"{kind}: {error}")
        else:
            return kind
    raise UserError(f"{name} walks no process that there is a bed for:\n  " + "\n  ".join(refusals))


def _bound(law: Callable[[Bench], Check], bench: Bench) -> Callable[[], Check]:
    return lambda: law(bench)


def _lowest(orders: Iterable[Order]) -> Order | None:
    return min(orders, key=lambda order: order.value, default=None)
