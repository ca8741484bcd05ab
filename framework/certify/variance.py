r"""The exact law of a plan on Gaussian data, without Monte Carlo.

For data N(m, c^2) the clean mean is affine in the state,

    D(x) = m + g (x - alpha m),    g = alpha c^2 / (alpha^2 c^2 + sigma^2),

and a plan is linear in what it has seen. So every state of a run is a fixed combination of the constant 1, the initial
normal z_0 and the normals z_k drawn under way. The one loop runs here on those coefficients in place of tensors: the
"state" is the row (coefficient of 1, of z_0, of z_1, ...), the noise of stage k is a unit row. The last row holds the
terminal law to rounding: its mean is the first entry, its variance the sum of the others' squares. The distance from
the exact law N(alpha m, alpha^2 c^2 + sigma^2) is the solver's own error, and how that falls with the number of steps
is the order of the law (the weak order on this family).

From the exact marginal only discretisation errs, and only the deviation: the mean alpha m is a fixed point D(alpha m) =
m, which a plan follows exactly if it follows a point mass. From the prior N(0, sigma^2) the error has a floor, what is
left of the data at the first time. A multistep method has no history at its first step and takes one of lower order
there; that one local error is part of what is measured, as it is part of every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Prediction
from framework.noise import NoiseKey, SampleKey
from framework.sampler import execute
from framework.schedules import Schedule
from framework.solvers.plan import Node, Plan, Solver, nodes
from framework.state import Condition, State


@dataclass(frozen=True)
class Law:
    """A Gaussian on the line."""

    mean: float
    std: float

    def distance(self, other: Law) -> float:
        """The 2-Wasserstein distance, sqrt((difference of means)^2 + (difference of deviations)^2)."""
        return math.hypot(self.mean - other.mean, self.std - other.std)


@dataclass(frozen=True)
class GaussianData:
    """Data N(mean, std^2), the same in every dimension; it is its own exact denoiser."""

    mean: float = 1.0
    std: float = 0.5

    def marginal(self, at: Node) -> Law:
        """The exact law of x_t."""
        return Law(at.alpha * self.mean, math.hypot(at.alpha * self.std, at.sigma))

    def gain(self, at: Node) -> float:
        """g, by which the clean mean follows the state."""
        return at.alpha * self.std**2 / self.marginal(at).std ** 2


def prior(at: Node) -> Law:
    """What a sampler starts from that knows nothing of the data: N(0, sigma^2)."""
    return Law(0.0, at.sigma)


def terminal_laws(
    plan: Plan, schedule: Schedule, data: Sequence[GaussianData], starts: Sequence[Law] | None = None
) -> list[Law]:
    """The exact laws of the plan's last state, one for each of the Gaussians.

    Args:
        plan: what a solver made for `schedule` and some times.
        schedule: what the plan's times refer to.
        data: the Gaussians whose exact denoisers are asked.
        starts: the laws of the first state; None is the exact marginals at the first time.
    """
    (first,) = nodes(schedule, [plan[0].time])
    starts = starts or [each.marginal(first) for each in data]
    x = torch.zeros(len(data), len(plan) + 2, dtype=torch.float64)
    x[:, :2] = torch.tensor([(start.mean, start.std) for start in starts], dtype=torch.float64)
    space, denoiser = _Symbols(x.shape[1]), _AffineDenoiser(data, schedule)
    key, condition = SampleKey(0, tuple(range(len(data)))), TensorDict({}, batch_size=[len(data)])
    last: Tensor = execute(plan, denoiser, x, space, condition, key)  # type: ignore[assignment]
    return [Law(mean, std) for mean, std in zip(last[:, 0].tolist(), last[:, 1:].norm(dim=1).tolist(), strict=True)]


def terminal_law(plan: Plan, schedule: Schedule, data: GaussianData, start: Law | None = None) -> Law:
    """`terminal_laws` of one Gaussian."""
    (law,) = terminal_laws(plan, schedule, [data], None if start is None else [start])
    return law


@dataclass(frozen=True)
class Convergence:
    """Errors of the terminal law at several numbers of steps.

    Attributes:
        steps: the numbers of steps.
        means: |error of the mean| at each, the largest over the Gaussians.
        stds: |error of the standard deviation| at each, likewise.
    """

    steps: tuple[int, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """The 2-Wasserstein distance to the exact law at each, or a bound where means and deviations err apart."""
        return tuple(math.hypot(mean, std) for mean, std in zip(self.means, self.stds, strict=True))

    @property
    def order(self) -> float:
        """The fitted slope of log error against log steps, with its sign turned."""
        return _slope(self.steps, self.errors)

    @property
    def order_of_mean(self) -> float:
        return _slope(self.steps, self.means)

    @property
    def order_of_std(self) -> float:
        return _slope(self.steps, self.stds)


def _slope(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Infinite where the error is nothing but rounding."""
    if max(errors) < 1e-12:
        return math.inf
    logs = np.log(np.maximum(np.asarray(errors), 1e-300))
    return float(-np.polyfit(np.log(np.asarray(steps, dtype=float)), logs, 1)[0])


def convergence(
    solver: Solver,
    schedule: Schedule,
    times: Callable[[int], Tensor],
    data: Sequence[GaussianData] = (GaussianData(),),
    steps: Sequence[int] = (40, 80, 160, 320),
    start: Callable[[Node], Law] | None = None,
) -> Convergence:
    """How the terminal law approaches the exact one; on several Gaussians an error's change of sign does not show.

    Args:
        solver: what is measured.
        schedule: the path from data to noise.
        times: n steps -> float64 (n + 1,) times, along one smooth curve as n grows.
        data: the Gaussians.
        steps: the numbers of steps.
        start: the law of the first state at its node (`prior`, say); None is the exact marginal.
    """
    means, stds = [], []
    for n in steps:
        grid = times(n)
        first, last = nodes(schedule, grid[[0, -1]])
        starts = None if start is None else [start(first)] * len(data)
        laws = terminal_laws(solver.plan(schedule, grid), schedule, data, starts)
        exact = [each.marginal(last) for each in data]
        means.append(max(abs(law.mean - true.mean) for law, true in zip(laws, exact, strict=True)))
        stds.append(max(abs(law.std - true.std) for law, true in zip(laws, exact, strict=True)))
    return Convergence(tuple(steps), tuple(means), tuple(stds))


@dataclass(frozen=True)
class _Symbols:
    """A space of rows of coefficients, in which the noise of step k is the unit row of z_k, whatever the Gaussian."""

    width: int

    def noise(self, key: NoiseKey, condition: Condition) -> Tensor:
        assert isinstance(key, SampleKey)
        row = torch.zeros(1, self.width, dtype=torch.float64)
        row[0, 1 + key.step] = 1.0
        return row

    def project(self, x: State, condition: Condition) -> State:
        return x

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        return torch.ones(1, dtype=torch.float64)


@dataclass(frozen=True)
class _AffineDenoiser:
    """The exact clean mean, on rows of coefficients: a constant adds to the first entry alone."""

    data: Sequence[GaussianData]
    schedule: Schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        (at,) = nodes(self.schedule, t[:1])
        gain = torch.tensor([each.gain(at) for each in self.data], dtype=torch.float64)
        mean = torch.tensor([each.mean for each in self.data], dtype=torch.float64)
        clean: Tensor = gain[:, None] * x_t  # type: ignore[operator]
        clean[:, 0] += (1 - gain * at.alpha) * mean
        return Prediction(clean, x_t, at.alpha, at.sigma)
