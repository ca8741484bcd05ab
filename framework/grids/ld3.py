r"""LD3, learning to discretise (Tong et al. 2025, arXiv 2405.15506): times by descent on a solver's own endpoint error.

A teacher with many steps says where the noise of each training sample should end; the student is the solver that is to
be used, with n steps. With f = sigma / (alpha + sigma), which is finite at both ends, and p = softmax(theta) the shares
of n segments (and a little to keep each from vanishing),

    f_k = f_0 (1 - p_1 - ... - p_k),    k = 1 ... n - 1,    and t = 0 behind them,

which decrease whatever theta is. Adam minimises the mean distance between the two endpoints over theta.

The gradient (framework/grids/differentiable.py) serves every solver with a plan as it is. It takes a denoiser that is
differentiable in its time, as networks with sinusoidal embeddings are; where a network looks the time up in a table,
that part of the gradient is missing and the descent goes in an approximate direction.

Learning starts from the best of several grids and returns the best times met, both judged on noise of their own, so
that it does not end behind where it began by learning the training samples by heart. The paper's soft constraint, which
lets the training noise move within a ball so that few times can reach more endpoints, and its second set of times for
the network are left out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.grids.differentiable import Student
from framework.grids.fitted import Fitted
from framework.grids.formulas import Karras, UniformFlow, UniformLogSNR
from framework.grids.gits import GITS
from framework.grids.grid import Grid, check_steps, from_log_ratios
from framework.grids.teacher import endpoint_error, walk_path
from framework.noise import NoiseKey
from framework.processes.gaussian import Gaussian
from framework.processes.process import Process
from framework.sampler import Loop
from framework.schedules import Schedule
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.plan import Solver
from framework.spaces import Space
from framework.state import Condition

logger = logging.getLogger(__name__)

LEAST_SHARE = 1e-4  # of a segment: keeps times apart by more than the differences by which plans are derived
JUDGEMENTS = 10  # how often the times are judged on held-out noise


def _starts() -> tuple[Grid | Fitted, ...]:
    return UniformFlow(), UniformLogSNR(), Karras(), GITS()


@dataclass(frozen=True)
class LD3:
    """The grid on which a deterministic solver ends nearest to where many steps end.

    Args:
        samples: training pairs of noise and endpoint, and as many held out.
        iterations: steps of Adam, each one run of the solver forward and backward.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        starts: grids from the best of which learning starts.
        fine: the teacher's grid.
        fine_steps: its number of steps.
        teacher: the solver that walks it, of the probability-flow ODE.

    Raises:
        UserError: there is no sample, no iteration or no start.
    """

    samples: int = 64
    iterations: int = 100
    learning_rate: float = 0.1
    starts: Sequence[Grid | Fitted] = field(default_factory=_starts)
    fine: Grid = field(default_factory=Karras)
    fine_steps: int = 120
    teacher: Solver = field(default_factory=DPMpp2M)

    def __post_init__(self) -> None:
        if self.samples < 1 or self.iterations < 1 or not self.starts:
            raise UserError(
                f"LD3 needs samples, iterations and a grid to start from, got samples={self.samples}, "
                f"iterations={self.iterations} and {len(self.starts)} starts"
            )

    def fit(
        self,
        denoiser: Denoiser,
        solver: Solver | Loop,
        steps: int,
        space: Space,
        condition: Condition,
        key: NoiseKey,
        process: Process | None = None,
    ) -> Tensor:
        """Times float64 (steps + 1,).

        Raises:
            UserError: the solver draws noise, or has no plan; the process has tokens.
        """
        check_steps(steps)
        if process is not None and not isinstance(process, Gaussian):
            raise UserError(
                "LD3 descends along the derivative of samples by times, which a token that is drawn has not; choose "
                "grid=gits, or a grid in closed form (grid=flow, log_snr, karras, ...)"
            )
        if isinstance(solver, Loop) or solver.stochastic:
            raise UserError(
                f"LD3 learns times for a deterministic solver with a plan, which {type(solver).__name__} is not; "
                "GITS serves every solver"
            )
        schedule = denoiser.schedule
        with torch.no_grad():
            times = self.fine(schedule, self.fine_steps)
            held_out_key = key.component("held-out")
            path = walk_path(denoiser, self.teacher, times, space, condition, key)
            held_out = walk_path(denoiser, self.teacher, times, space, condition, held_out_key)

            def judge(times: Tensor) -> float:
                return endpoint_error(denoiser, solver, times, held_out, space, condition, held_out_key)

            starts = [self._start(grid, denoiser, solver, steps, space, condition, key) for grid in self.starts]
            judged = [(judge(grid), grid) for grid in starts]
        best = min(judged, key=lambda pair: pair[0])
        if steps == 1:
            return best[1]
        student = Student(denoiser, solver, space, condition, key, path)
        for iteration, times in enumerate(self._descend(student, best[1])):
            if iteration % max(self.iterations // JUDGEMENTS, 1) == 0 or iteration == self.iterations:
                with torch.no_grad():
                    best = min(best, (judge(times), times), key=lambda pair: pair[0])
                logger.info("LD3: %d of %d, distance %.4g", iteration, self.iterations, best[0])
        return best[1]

    def _start(self, grid: Grid | Fitted, denoiser: Denoiser, solver: Solver, steps: int, *rest: Any) -> Tensor:
        if isinstance(grid, Fitted):
            return grid.fit(denoiser, solver, steps, *rest)
        return grid(denoiser.schedule, steps)

    def _descend(self, student: Student, times: Tensor) -> Iterator[Tensor]:
        """The times that Adam comes to, the first ones included."""
        grid = Segments.of(student.denoiser.schedule, times)
        theta = grid.theta.clone().requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=self.learning_rate, betas=(0.9, 0.99))
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations)
        for _ in range(self.iterations):
            with torch.enable_grad():
                log_ratios = grid.log_ratios(theta)
                yield grid.times(log_ratios.detach())
                _, gradient = student.loss_and_gradient(grid.times, log_ratios.detach())
                if not bool(torch.isfinite(gradient).all()):
                    break
                optimizer.zero_grad()
                log_ratios.backward(gradient)
            optimizer.step()
            decay.step()
        yield grid.times(grid.log_ratios(theta.detach()))


@dataclass(frozen=True)
class Segments:
    """The times of n steps by the shares of n segments of f = sigma / (alpha + sigma); see the module's docstring.

    Attributes:
        schedule: whose times they are.
        first: log(sigma / alpha) of the first time, which stays; it may be infinite.
        theta: float64 (n,), the logarithms of the shares.
    """

    schedule: Schedule
    first: float
    theta: Tensor

    @classmethod
    def of(cls, schedule: Schedule, times: Tensor) -> Segments:
        """The shares of a grid; segments that are next to nothing are widened."""
        log_ratios = -0.5 * schedule.log_snr(times[:-1])
        f = torch.cat([torch.sigmoid(log_ratios), torch.zeros(1, dtype=torch.float64)])
        shares = (-f.diff() / f[0]).clamp(min=2 * LEAST_SHARE)
        return cls(schedule, float(log_ratios[0]), (shares / shares.sum() - LEAST_SHARE).log())

    def log_ratios(self, theta: Tensor) -> Tensor:
        """log(sigma / alpha) of the n - 1 times between the first and the last, differentiable."""
        first = 1 / (1 + math.exp(-self.first))
        shares = LEAST_SHARE + (1 - LEAST_SHARE * len(theta)) * theta.softmax(0)
        remaining = shares.flip(0).cumsum(0).flip(0)[1:]  # summed from the data's end, where shares are small
        return torch.logit(first * remaining)

    def times(self, log_ratios: Tensor) -> Tensor:
        """The grid's n + 1 times for the n - 1 levels between its ends."""
        first = torch.tensor([self.first], dtype=torch.float64)
        return from_log_ratios(self.schedule, torch.cat([first, log_ratios]))
