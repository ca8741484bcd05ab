"""A sampler as its parts, and the two small parts that only other software's conventions need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from framework.clipping import Clipping
from framework.denoiser import Angle, NoiseLevel
from framework.errors import UserError
from framework.grids import Grid
from framework.parametrizations import Parametrization
from framework.sampler import Loop
from framework.schedules import Schedule
from framework.solvers.plan import Plan, Solver


@dataclass(frozen=True)
class Sampling:
    """How a network's samples are drawn.

    Attributes:
        schedule: what the network's times refer to.
        parametrization: what it predicts.
        grid: where the solver steps.
        solver: how.
        noise_level: how the network is told the time.
        clipping: how its clean mean is kept in range; None leaves it.
        notes: what of the original is done otherwise here, a sentence each; they do not count in comparisons.
    """

    schedule: Schedule
    parametrization: Parametrization
    grid: Grid
    solver: Solver | Loop
    noise_level: NoiseLevel = field(default_factory=Angle)
    clipping: Clipping | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class ScaledTime:
    """scale * t: what networks on straight paths are told."""

    scale: float = 1000.0

    def __call__(self, schedule: Schedule, t: Tensor) -> Tensor:
        return self.scale * t


@dataclass(frozen=True)
class ByLength:
    """The solver `few` in runs of fewer than `below` steps, and else `many`: two variants of one method.

    Raises:
        UserError: their declarations differ.
    """

    few: Solver
    many: Solver
    below: int = 15
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("order", "evaluations_per_step", "stochastic"):
            if getattr(self.few, name) != getattr(self.many, name):
                raise UserError(f"ByLength chooses between variants of one method, but their {name} differs")

    @property
    def order(self) -> int:
        return self.many.order

    @property
    def stochastic(self) -> bool:
        return self.many.stochastic

    def plan(self, schedule: Schedule, times: Tensor) -> Plan:
        return (self.few if len(times) - 1 < self.below else self.many).plan(schedule, times)
