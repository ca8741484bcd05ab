"""Grids that are computed for a denoiser: their role, and what a fit comes to.

A fit comes to numbers: the log-SNR at each time, so that a grid that was fitted on one schedule serves every other, and
a record of what it was fitted to and what that gained. They are kept as JSON, in which null stands for the infinite
ends: pure noise at the first place, data at the last.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.files import write_text
from framework.grids.align_your_steps import LogLinear
from framework.grids.formulas import Karras, UniformFlow, UniformLogSNR, UniformTime
from framework.grids.grid import Grid, check_times, noisiest
from framework.grids.teacher import endpoint_error, walk_path
from framework.noise import NoiseKey
from framework.processes.process import Process
from framework.sampler import Loop
from framework.schedules import Schedule
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.plan import Solver
from framework.spaces import Space
from framework.state import Condition

FORMAT = 1
REFERENCE_STEPS = 100  # of the samples from which a fit's errors are measured


@runtime_checkable
class Fitted(Protocol):
    """The role: a grid that is made for one denoiser, one solver and one number of steps.

    Attributes:
        samples: how many rows its condition should have.
    """

    @property
    def samples(self) -> int: ...

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
        """Times float64 (steps + 1,) on the denoiser's schedule; a function of the arguments alone.

        `process` is what is undone; None is the Gaussian process of the denoiser's schedule in `space`.
        """
        ...


@dataclass(frozen=True)
class FittedGrid:
    """The log-SNRs of n + 1 times, from noise (-inf where alpha = 0) to data (+inf), and how they were found.

    Raises:
        UserError: they do not rise strictly to +inf.
    """

    log_snr: Sequence[float]
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        levels = torch.tensor(list(self.log_snr), dtype=torch.float64)
        if len(levels) < 2 or not bool((levels.diff() > 0).all()) or levels[-1] != math.inf:
            raise UserError(f"a fitted grid's log-SNRs rise strictly and end at infinity, got {list(self.log_snr)}")

    @classmethod
    def of(cls, schedule: Schedule, times: Tensor, record: Mapping[str, Any]) -> FittedGrid:
        """The levels at times of a schedule that end at t = 0."""
        return cls((*schedule.log_snr(times[:-1]).tolist(), math.inf), record)

    @property
    def steps(self) -> int:
        return len(self.log_snr) - 1

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """Its times on a schedule, which starts where it can: where it cannot reach the second level, the levels that
        it can reach are interpolated.

        Raises:
            UserError: another number of steps than it was fitted for.
        """
        if steps != self.steps:
            raise UserError(f"this grid was fitted for {self.steps} steps, not {steps}; fit one for {steps}")
        levels = torch.tensor(list(self.log_snr)[:-1], dtype=torch.float64)
        if steps > 1 and -0.5 * float(levels[1]) >= noisiest(schedule):
            ratios = (-0.5 * levels[int(levels[0].isinf()) :]).exp()
            return LogLinear([*ratios.tolist(), 0.1 * float(ratios[-1])])(schedule, steps)
        times = torch.where(levels.isinf(), 1.0, schedule.time(levels).clamp(0.0, 1.0))
        return check_times(torch.cat([times, torch.zeros(1, dtype=torch.float64)]))

    def save(self, path: Path) -> None:
        """Write it as JSON, in place of what may be there."""
        levels = [level if math.isfinite(level) else None for level in self.log_snr]
        write_text(path, json.dumps({"format": FORMAT, "log_snr": levels, **self.record}, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> FittedGrid:
        """Read what `save` wrote.

        Raises:
            UserError: it is not such a file.
        """
        try:
            record = json.loads(path.read_text())
            version, levels = record.pop("format"), record.pop("log_snr")
            ends = [-math.inf, *[math.nan] * (len(levels) - 2), math.inf]
            numbers = [end if level is None else float(level) for level, end in zip(levels, ends, strict=True)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not a fitted grid: {error!r}") from error
        if version != FORMAT:
            raise UserError(f"{path} has format {version}, and this version of Diffract reads format {FORMAT}")
        return cls(tuple(numbers), record)


def fit(
    grid: Fitted,
    denoiser: Denoiser,
    solver: Solver | Loop,
    steps: int,
    space: Space,
    condition: Condition,
    key: NoiseKey,
    process: Process | None = None,
) -> FittedGrid:
    """Fit a grid, and measure what that gained.

    Args:
        grid: how.
        denoiser: to which, guided or not.
        solver: the one that is to walk the grid.
        steps: how many.
        space: where noise lives.
        condition: of the samples from which it is fitted; its rows should be `grid.samples`.
        key: their noise.
        process: what is undone; None is the Gaussian process of the denoiser's schedule in `space`.

    Returns:
        The grid; its record holds the seconds that fitting took and, for deterministic solvers, the mean distance of
        the samples on it and on the grids in closed form from those of many steps, on noise that was not fitted to.
    """
    start = time.perf_counter()
    times = check_times(grid.fit(denoiser, solver, steps, space, condition, key, process))
    seconds = time.perf_counter() - start
    record: dict[str, Any] = {"samples": condition.batch_size[0], "seconds": round(seconds, 3)}
    fitted = FittedGrid.of(denoiser.schedule, times, record)
    if not solver.stochastic:
        rivals: tuple[Grid, ...] = (UniformTime(), UniformLogSNR(), UniformFlow(), Karras())
        fresh = key.component("judged")
        with torch.no_grad():
            fine = Karras()(denoiser.schedule, REFERENCE_STEPS)
            path = walk_path(denoiser, DPMpp2M(), fine, space, condition, fresh)
            record["error"] = {
                type(rival).__name__: endpoint_error(
                    denoiser, solver, rival(denoiser.schedule, steps), path, space, condition, fresh
                )
                for rival in (*rivals, fitted)
            }
    return fitted
