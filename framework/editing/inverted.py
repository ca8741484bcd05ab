"""Edits that start from the noise that the model itself would make a sample of (DDIM inversion).

Where SDEdit covers a sample with fresh noise, its own noise holds its layout: sampled again under the words that
describe it, it comes back; under other words, it is changed where they differ (Song et al. 2021, 2010.02502; Mokady et
al. 2023, 2211.09794). Inversion is unguided, and under the words `source`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from framework.editing.inversion import invert
from framework.editing.requests import Resized, check_input, encoded
from framework.editing.start import check_strength
from framework.editing.task import Run, Task, fitted, rows_of
from framework.modality import Modality
from framework.sampler import Loop
from framework.schedules import angle
from framework.solvers.ddim import DDIM
from framework.state import Condition, State


@dataclass(frozen=True)
class Invert:
    """The sample in the file `input`, which the words `source` describe (None says nothing), from its own noise.

    `strength` in (0, 1] is how far up it is led: 1 to pure noise, less keeps more of it.
    """

    input: str
    source: Any = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_input(self.input)
        check_strength(self.strength)

    def tasks(self, modality: Modality) -> Sequence[Task]:
        state, condition = encoded(modality, self.input)
        said = modality.parse([""]) if self.source is None else modality.parse([self.source])
        said = modality.null(said) if self.source is None else said
        return (Resized(modality, condition), FromInverted(modality, state, said, self.strength))


@dataclass(frozen=True)
class FromInverted:
    """Start from the noise of `state` (n rows) under `source` (n rows); before guidance, which would lead it astray.

    The run's solver walks up as it walks down, if it is deterministic and has a plan; else DDIM does.
    """

    modality: Modality
    state: State
    source: Condition
    strength: float = 1.0
    before_guidance: ClassVar[bool] = True

    def __call__(self, run: Run) -> Run:
        angles = angle(run.denoiser.schedule, run.times[:-1])
        first = int((angles - self.strength * math.pi / 2).abs().argmin())
        times = run.times[first:]
        source = self.modality.resized(rows_of(self.source, run), run.condition)  # type: ignore[arg-type]
        clean = fitted(rows_of(self.state, run), run.start())
        solver = DDIM() if isinstance(run.solver, Loop) or run.solver.stochastic else run.solver
        noise = invert(run.denoiser, solver, times, run.space, source, clean)
        return replace(run, times=times, initial=noise)
