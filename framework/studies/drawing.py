"""Drawing a cell's samples: the same prompts and noise for every method, a batch at a time, each batch timed.

Sample i of a seed has index i, so that its initial noise, its steps' noise (on one Brownian path a sample, whatever the
steps) and its uniforms are functions of (seed, i) and the same for every method.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from framework.brownian import BrownianKey
from framework.grids import Grid
from framework.grids.fitted import Fitted
from framework.guidance.classifier_free import Guidance
from framework.ledger import Ledger
from framework.memory import Peak
from framework.model import Model
from framework.sampler import Loop, Progress
from framework.solvers.plan import Solver
from framework.state import Condition, State, components
from framework.studies.cell import Protocol


@dataclass(frozen=True)
class Sampler:
    """A method as objects."""

    solver: Solver | Loop
    grid: Grid | Fitted | None
    guidance: Guidance | None
    steps: int


@dataclass(frozen=True)
class Batch:
    """One batch as it came out: where it starts, states as rows (B, D) with their degrees of freedom (B,), seconds."""

    start: int
    samples: Any
    rows: Tensor
    size: Tensor
    seconds: float
    ledger: Ledger
    peak_bytes: int

    def __len__(self) -> int:
        return len(self.rows)


class Last:
    """A hook that keeps the latest state."""

    state: State | None = None

    def __call__(self, progress: Progress) -> None:
        self.state = progress.x


def draw(model: Model, sampler: Sampler, prompts: Sequence[Any], seed: int, protocol: Protocol) -> Iterator[Batch]:
    """The samples of prompts, a batch at a time.

    Raises:
        UserError: the model cannot be sampled so.
    """
    for start in range(0, len(prompts), protocol.batch_size):
        last = Last()
        with Peak(model.device) as peak:
            drawn = model.sample(
                list(prompts[start : start + protocol.batch_size]),
                seed=seed,
                first=start,
                batch_size=protocol.batch_size,
                solver=sampler.solver,
                grid=sampler.grid,
                steps=sampler.steps,
                guidance=sampler.guidance,
                noise=BrownianKey if protocol.brownian else None,
                hooks=[last],
            )
        assert last.state is not None, "every solver shows hooks where it ends"
        rows, size = rows_of(model, last.state, drawn.condition)
        yield Batch(start, drawn.samples, rows, size, drawn.ledger.seconds, drawn.ledger, peak.bytes)


def rows_of(model: Model, state: State, condition: Condition) -> tuple[Tensor, Tensor]:
    """The floating-point numbers of states, a row a sample, and how many of a row are free; no columns for tokens."""
    parts = [part.detach().cpu().float().flatten(1) for _, part in sorted(components(state).items()) if _real(part)]
    count = len(condition) if not parts else len(parts[0])
    rows = torch.cat(parts, dim=1) if parts else torch.zeros(count, 0)
    size = model.modality.space.degrees_of_freedom(condition)
    return rows, torch.as_tensor(size).cpu().double().expand(count)


def _real(part: Tensor) -> bool:
    return part.is_floating_point()


def distances(rows: Tensor, reference: Tensor, size: Tensor) -> list[float]:
    """Root mean square differences over the degrees of freedom of each sample, of rows (B, D)."""
    square = (rows.double() - reference.double()).square().sum(1)
    return [math.sqrt(value) for value in (square / size).tolist()]
