"""The exact solution that deterministic samplers approximate: the probability-flow ODE from a cell's own noise.

It is solved by an adaptive Runge-Kutta method at a tight tolerance, from t = 1, once for a model, guidance and seed,
and kept. Where states have tokens there is no ODE, and no error to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as parse
from safetensors.numpy import save as format_tensors
from torch import Tensor, from_numpy

from framework.files import write_atomically
from framework.grids import UniformTime
from framework.guidance.classifier_free import Guidance
from framework.model import Model
from framework.processes.gaussian import Gaussian
from framework.solvers.adaptive import DOP853, RK45, Adaptive
from framework.studies.cell import Protocol
from framework.studies.drawing import Sampler, draw

HIGH_ORDER = 1e-6  # the tolerance from which on eighth order takes fewer evaluations than fifth


def exact(tolerance: float) -> Adaptive:
    """The solver of that tolerance, relative and absolute."""
    return (DOP853 if tolerance <= HIGH_ORDER else RK45)(rtol=tolerance, atol=tolerance)


def has_reference(model: Model) -> bool:
    """Whether the model's samples are the end of an ODE."""
    return isinstance(model.process, Gaussian)


def solve(
    model: Model,
    guidance: Guidance | None,
    prompts: Sequence[Any],
    seed: int,
    protocol: Protocol,
    file: Path,
) -> float:
    """Write the states at the end of the ODE; returns the evaluations a sample that it took."""
    sampler = Sampler(exact(protocol.tolerance), UniformTime(), guidance, steps=1)
    rows: dict[str, np.ndarray] = {}
    forward = 0
    for batch in draw(model, sampler, prompts, seed, protocol):
        rows[str(batch.start)] = batch.rows.numpy()
        forward += batch.ledger.forward
    write_atomically(
        file, lambda out: out.write(format_tensors(rows, {"evaluations": f"{forward / len(prompts):.1f}"}))
    )
    return forward / len(prompts)


class Reference:
    """The solution's rows, by the index of the first sample of each batch."""

    def __init__(self, file: Path) -> None:
        self.rows = parse(file.read_bytes())

    def at(self, start: int, like: Tensor) -> Tensor | None:
        """The rows of a batch; None if they are not of the same states."""
        found = self.rows.get(str(start))
        return from_numpy(found) if found is not None and found.shape == tuple(like.shape) else None


def nothing(count: int) -> list[float]:
    """No error is known."""
    return [math.nan] * count
