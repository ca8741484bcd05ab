r"""What every analytic bed offers: data whose denoiser is known in closed form, so that a solver's error is its own.

A bed is a space, the condition of each sample, the exact denoiser on any schedule, and the exact flow of the
probability-flow ODE. In y = x / alpha and u = sigma / alpha every schedule's ODE is the same,

    dy / d log u = y - D(y, u),

so one reference solution, by DOP853 at the tolerance of float64, serves all schedules and all grids. Everything here is
float64: `DoubleKey` draws the same normals as the key that it wraps, in double.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from framework.denoiser import Denoiser
from framework.ledger import Ledger
from framework.noise import NoiseKey, SampleKey
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.sampler import Loop, sample
from framework.schedules import EDM, Schedule
from framework.solvers.plan import Solver
from framework.spaces import Space
from framework.state import Condition, State

TOLERANCE = 1e-13  # of the reference solution, relative and absolute


class Bed(Protocol):
    """The role. States are float64 tensors (B, ...), tokens, or both; a sample's index says its condition."""

    @property
    def name(self) -> str: ...

    @property
    def space(self) -> Space: ...

    def condition(self, samples: Sequence[int]) -> Condition:
        """The condition of the samples with these indices, a row each."""
        ...

    def process(self, schedule: Schedule) -> Process:
        """What a solver undoes on a schedule."""
        ...

    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> Denoiser:
        """The exact clean mean, or the exact probabilities of clean tokens, on a schedule."""
        ...


class ContinuousBed(ABC):
    """A Bed of the Gaussian process, whose probability-flow ODE has a reference solution.

    Attributes:
        name: what certificates call it.
        floor: the distance to `flow` below which an error is rounding's and the reference's.
    """

    name: str
    floor: ClassVar[float] = 1e-11

    @property
    @abstractmethod
    def space(self) -> Space: ...

    @abstractmethod
    def condition(self, samples: Sequence[int]) -> Condition: ...

    def noise(self, samples: Sequence[int]) -> Tensor:
        """Standard noise in the space: what samples with these indices start from."""
        z = self.space.noise(key_of(samples), self.condition(samples))
        assert isinstance(z, Tensor)
        return z

    @abstractmethod
    def denoiser(self, schedule: Schedule, ledger: Ledger | None = None) -> Denoiser: ...

    def process(self, schedule: Schedule) -> Gaussian:
        return Gaussian(schedule, self.space)

    def flow(self, y: Tensor, high: float, low: float, condition: Condition) -> Tensor:
        """The ODE's exact map of y = x / alpha from noise-to-signal ratio `high` to `low`."""
        return integrate(self.denoiser(unit_schedule()), condition, y, high, low)


@dataclass(frozen=True)
class DoubleKey:
    """The draws of another key in float64, whatever type is asked for."""

    key: NoiseKey

    def at(self, step: int) -> DoubleKey:
        return DoubleKey(self.key.at(step))

    def along(self, step: int, path: tuple[float, float] | None) -> DoubleKey:
        return DoubleKey(self.key.along(step, path))

    def component(self, name: str) -> DoubleKey:
        return DoubleKey(self.key.component(name))

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.key.normal(shape, like.double())

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.key.uniform(shape, like.double())


def key_of(samples: Sequence[int], seed: int = 0) -> DoubleKey:
    """The key of samples with these indices."""
    return DoubleKey(SampleKey(seed, tuple(samples)))


def draw_state(
    bed: Bed,
    solver: Solver | Loop,
    schedule: Schedule,
    times: Tensor,
    samples: Sequence[int],
    seed: int = 0,
    initial: State | None = None,
    ledger: Ledger | None = None,
) -> State:
    """The solver's samples on a bed, from the prior's draw or from `initial`, through the one loop."""
    return sample(
        bed.denoiser(schedule, ledger),
        solver,
        times,
        bed.space,
        bed.condition(samples),
        key_of(samples, seed),
        process=bed.process(schedule),
        initial=initial,
        ledger=ledger,
    )


def draw(
    bed: ContinuousBed,
    solver: Solver | Loop,
    schedule: Schedule,
    times: Tensor,
    samples: Sequence[int],
    seed: int = 0,
    initial: Tensor | None = None,
    ledger: Ledger | None = None,
) -> Tensor:
    """`draw_state` where a state is a tensor (B, ...)."""
    x = draw_state(bed, solver, schedule, times, samples, seed, initial, ledger)
    assert isinstance(x, Tensor)
    return x


def integrate(
    denoiser: Denoiser, condition: Condition, y: Tensor, high: float, low: float, tolerance: float = TOLERANCE
) -> Tensor:
    """The probability-flow ODE of y (B, ...) from noise-to-signal ratio `high` to `low`, by DOP853.

    The denoiser is the one of `unit_schedule`. In u = log(sigma / alpha) the ODE reads dy/du = y - D(y).
    """
    shape, ones = tuple(y.shape), torch.ones(len(y), dtype=torch.float64)

    def right_hand_side(log_ratio: float, flat: np.ndarray) -> np.ndarray:
        point = torch.from_numpy(flat).reshape(shape)
        clean = denoiser(point, ones * float(np.exp(log_ratio)), condition).clean
        return (point - clean).flatten().numpy()  # type: ignore[operator,union-attr]

    span = (float(np.log(high)), float(np.log(low)))
    start = y.double().flatten().numpy()
    solution = solve_ivp(right_hand_side, span, start, "DOP853", rtol=tolerance, atol=tolerance)
    return torch.from_numpy(solution.y[:, -1]).reshape(shape)


def unit_schedule() -> Schedule:
    """alpha = 1 and sigma = t: on it a state is y and its time is the noise-to-signal ratio, beyond 1 too."""
    return EDM(sigma_max=1.0)


class Reference:
    """The exact trajectories of a bed's first `points` samples from noise-to-signal ratio `high`, each time solved
    once.
    """

    def __init__(self, bed: ContinuousBed, high: float, points: int) -> None:
        self.bed, self.high, self.samples = bed, high, tuple(range(points))
        self.condition = bed.condition(self.samples)
        self.start = high * bed.noise(self.samples)
        self._known: dict[float, Tensor] = {high: self.start}

    def at(self, ratio: float) -> Tensor:
        """y at a noise-to-signal ratio of at most `high`, always solved from the start: it depends on nothing else.

        Ratios are told apart by thirteen digits, since each schedule rounds them in its own way.
        """
        ratio = min(float(f"{ratio:.12e}"), self.high)
        if ratio not in self._known:
            self._known[ratio] = self.bed.flow(self.start, self.high, ratio, self.condition)
        return self._known[ratio]


@lru_cache(maxsize=64)
def reference(bed: ContinuousBed, high: float, points: int) -> Reference:
    """The one reference of these arguments in this process."""
    return Reference(bed, high, points)
