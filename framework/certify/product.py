r"""The laws of solvers of product states, on a label and its point, and on padded sets of points and tokens.

    order               how fast the computed law's error falls: the largest of the label's total variation, the share
                        of wrongly labelled points, and the point's moments (framework/certify/label_and_point.py)
    terminal_law        drawn samples have the data's law, within standard errors and a bias
    evaluations, padding, change_of_schedule, ends: as for continuous states (framework/certify/continuous.py)

A law is computed for a splitting whose continuous solver draws no noise; of any other solver only samples are judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.bed import Bed, draw_state
from framework.certify.check import Check, within
from framework.certify.label_and_point import (
    LabelAndPoint,
    LabelAndPointDenoiser,
    Law,
    law_error,
    terminal_law,
)
from framework.certify.laws import distance, finite
from framework.certify.sets import SetBed
from framework.certify.slope import Measurement, enough, fit
from framework.certify.tokens import TokenSetBed
from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.grids import UniformTime
from framework.ledger import Ledger
from framework.processes.product import Product
from framework.sampler import Loop
from framework.schedules import Flow, Schedule, Shifted
from framework.solvers.splitting import Splitting
from framework.spaces import Product as ProductSpace
from framework.spaces import Space
from framework.state import Condition

STEPS = (8, 16, 32, 64, 128)
ROUNDING = 1e-10  # of the quadrature over the point's start
SAMPLES, LAW_STEPS = 8192, 64
BIAS = 0.05


@dataclass(frozen=True)
class PairBed:
    """A label and its point, both on one schedule."""

    data: LabelAndPoint = field(default_factory=LabelAndPoint)
    name: str = "label and point"

    @property
    def space(self) -> Space:
        return _space(self.process(Flow()))

    def condition(self, samples: Sequence[int]) -> Condition:
        return TensorDict({}, batch_size=[len(samples)])

    def process(self, schedule: Schedule) -> Product:
        return self.data.process(schedule, schedule)

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> Denoiser:
        return LabelAndPointDenoiser(self.data, self.process(schedule), ledger)  # type: ignore[return-value]


@dataclass(frozen=True)
class MixedSetBed:
    """Padded sets with a point and a token for each member."""

    padded: int = 8
    name: str = "padded sets of points and tokens"

    @property
    def space(self) -> Space:
        return _space(self.process(Flow()))

    def condition(self, samples: Sequence[int]) -> Condition:
        return SetBed(self.padded).condition(samples)

    def process(self, schedule: Schedule) -> Product:
        return Product(
            {"points": SetBed(self.padded).process(schedule), "tokens": TokenSetBed(self.padded).process(schedule)}
        )

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> Denoiser:
        return _Both(SetBed(self.padded).denoiser(schedule), TokenSetBed(self.padded).denoiser(schedule))  # type: ignore[return-value]


@dataclass(frozen=True)
class _Both:
    points: Denoiser
    tokens: Denoiser

    @property
    def schedule(self) -> Schedule:
        return self.points.schedule

    def __call__(self, x_t: TensorDict, t: Tensor, condition: Condition) -> Prediction:  # type: ignore[override]
        parts = {name: getattr(self, name)(x_t[name], t, condition).clean for name in ("points", "tokens")}
        clean = TensorDict(parts, batch_size=x_t.batch_size)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def _space(process: Product) -> Space:
    return ProductSpace({name: part.space for name, part in process.processes.items()})  # type: ignore[attr-defined,return-value]


def _draw(
    bed: Bed, solver: Loop, schedule: Schedule, times: Tensor, samples: Sequence[int], seed: int = 0
) -> TensorDict:
    """`draw_state` where a state has components."""
    x = draw_state(bed, solver, schedule, times, samples, seed)
    assert isinstance(x, TensorDict)
    return x


PAIR = PairBed()


def orders(solver: Loop, steps: Iterable[int] = STEPS) -> Iterator[Measurement]:
    """The order of the computed law; nothing for a solver whose law cannot be computed."""
    if not isinstance(solver, Splitting) or solver.continuous.stochastic:
        return
    taken: list[int] = []
    errors: list[np.ndarray] = []
    for n in steps:
        law = terminal_law(solver, PAIR.data, PAIR.process(Flow()), UniformTime()(Flow(), n))
        error = law_error(PAIR.data, law)
        taken.append(n)
        errors.append(np.array([max(error.label, abs(error.mismatch), error.point)]))
        if enough(taken, errors, ROUNDING, solver.order):
            break
    yield Measurement(PAIR.name, "flow", "uniform", "law", fit(taken, np.stack(errors), ROUNDING))


def terminal_law_of(solver: Loop) -> Check:
    got = _draw(PAIR, solver, Flow(), UniformTime()(Flow(), LAW_STEPS), range(SAMPLES), seed=5)
    weight = torch.full((SAMPLES,), 1 / SAMPLES, dtype=torch.float64)
    error = law_error(PAIR.data, Law(got["label"][:, 0], got["point"][:, 0].double(), weight))
    limit = BIAS + 4 / math.sqrt(SAMPLES)
    numbers = {"label": error.label, "mismatch": error.mismatch, "point": error.point}
    said = ", ".join(f"{name} {value:+.3f}" for name, value in numbers.items())
    worst = max(error.label, abs(error.mismatch), error.point)
    return Check("terminal_law", worst <= limit, f"off by {said} ({SAMPLES} samples)", worst, limit, numbers)


def evaluations(solver: Loop) -> Check:
    counts = []
    for steps in (8, 16):
        ledger = Ledger()
        draw_state(PAIR, solver, Flow(), UniformTime()(Flow(), steps), range(4), ledger=ledger)
        counts.append(ledger.forward / 4)
    each = (counts[1] - counts[0]) / 8
    return Check("evaluations", each == solver.evaluations_per_step, f"{each:g} joint ones a step", each)


def padding(solver: Loop) -> Check:
    samples, times, wide = tuple(range(8)), UniformTime()(Flow(), 8), MixedSetBed(11)
    a, b = (_draw(bed, solver, Flow(), times, samples) for bed in (MixedSetBed(8), wide))
    out = ~wide.condition(samples)["mask"]
    if float(b["points"][out].abs().max()) != 0 or int(b["tokens"][out].abs().max()) != 0:
        return Check("padding", False, "padding is not exactly 0")
    narrow = TensorDict({name: b[name][:, :8] for name in ("points", "tokens")}, batch_size=b.batch_size)
    worst = max(distance(a, narrow), float(b["points"].sum(1).abs().max()))
    return within("padding", worst, 1e-9, "padding exactly 0; centre of mass and difference to a wider padding")


def change_of_schedule(solver: Loop) -> Check:
    """The same path travelled at other times: both components' clocks change alike."""
    if not getattr(solver, "schedule_free", True):
        return Check("change_of_schedule", None, "declared to depend on the schedule's own time")
    other, times = Shifted(Flow(), 3.0), UniformTime()(Flow(), 10)
    a = _draw(PAIR, solver, Flow(), times, range(64))
    b = _draw(PAIR, solver, other, other.time(Flow().log_snr(times)), range(64))
    return within("change_of_schedule", distance(a, b), 1e-6, "largest difference of samples on another clock")


def ends(solver: Loop, schedules: Mapping[str, Schedule]) -> Check:
    walked = []
    for name, schedule in schedules.items():
        try:
            PAIR.process(schedule)
        except UserError:  # it keeps too much of a token
            continue
        for steps in (1, 2, 3, 10):
            got = _draw(PAIR, solver, schedule, UniformTime()(schedule, steps), range(16))
            if not finite(got) or int(got["label"].max()) >= len(PAIR.data.weights):
                return Check("ends", False, f"{name}: not finite, or a token is noise, after {steps} steps")
        walked.append(name)
    return Check("ends", bool(walked), f"finite, and all tokens data, at t = 0 on {', '.join(walked)}")


def laws(solver: Loop, schedules: Mapping[str, Schedule]) -> dict[str, Callable[[], Check]]:
    """The laws of the module's docstring by name."""
    return {
        "evaluations": lambda: evaluations(solver),
        "padding": lambda: padding(solver),
        "change_of_schedule": lambda: change_of_schedule(solver),
        "ends": lambda: ends(solver, schedules),
        "terminal_law": lambda: terminal_law_of(solver),
    }
