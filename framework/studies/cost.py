"""What a run costs on this machine, measured before a study begins, and what its cells will cost.

    seconds of a batch = overhead + rows * evaluations * (seconds of one)

from the model's own sampler with few and with more steps, after a first call that is not counted. Floating-point
operations are counted once, of one forward pass, and of the pass back to its input, which is what guidance by an energy
costs on top: a backward pass counts as that many evaluations.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from framework.brownian import BrownianKey
from framework.grids import UniformTime
from framework.guidance.off import Off
from framework.model import Model
from framework.noise import SampleKey
from framework.state import components, of_components
from framework.studies.cell import Protocol
from framework.studies.reference import exact, has_reference

FEW, MORE = 2, 8
TRIAL = 1  # samples of the trial of a reference solution
SLOWEST = 1.3  # by so much the slowest sample of a batch, on which the others wait, takes more evaluations than one
VERSION = 2


@dataclass(frozen=True)
class Probe:
    """A run's cost on this machine.

    Attributes:
        parameters: of the network.
        flops: floating-point operations of one evaluation of one sample (a multiplication and an addition are two).
        backward: those of the pass back to the input, in evaluations.
        per_evaluation: seconds of one evaluation of one sample, in a batch of the protocol's size.
        per_batch: seconds of a batch beside that.
        judging: seconds a sample for scores and features.
        per_cell: seconds a cell for the samples that are kept as files.
        reference: evaluations a sample of the reference solution without guidance; 0 where there is none.
    """

    parameters: int
    flops: float
    backward: float
    per_evaluation: float
    per_batch: float
    judging: float
    per_cell: float
    reference: float
    version: int = VERSION

    @classmethod
    def of(cls, stored: Any) -> Probe | None:
        """What was stored before; None if it was nothing of this version."""
        try:
            found = cls(**stored)
        except TypeError:
            return None
        return found if found.version == VERSION else None

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def seconds(self, n: int, evaluations: float, batch_size: int) -> float:
        """Of n samples, judged, on one process."""
        batches = -(-n // batch_size)
        return n * (evaluations * self.per_evaluation + self.judging) + batches * self.per_batch + self.per_cell

    def per_sample(self, evaluations: float, batch_size: int) -> float:
        """Seconds that drawing one sample of a full batch takes."""
        return evaluations * self.per_evaluation + self.per_batch / batch_size


def probe(model: Model, prompts: Sequence[Any], protocol: Protocol, judging: float, per_cell: float) -> Probe:
    """Measure a run, from a batch of prompts and the seconds that a sample's judging and a cell's files took."""
    rows = list(prompts[: protocol.batch_size])
    flops, backward = count_flops(model, rows[:2])
    few, more = (min(_timed(model, rows, steps, protocol) for _ in range(3)) for steps in (FEW, MORE))
    further = more[1] - few[1]  # none by a solver whose evaluations are not its steps
    slope = max((more[0] - few[0]) / further if further else few[0] / few[1], 1e-9)
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    evaluations = _reference_evaluations(model, rows[:TRIAL], protocol) if has_reference(model) else 0.0
    overhead = max(few[0] - few[1] * slope, 0.0)
    return Probe(parameters, flops, backward, slope / len(rows), overhead, judging, per_cell, evaluations)


def warm_up(model: Model, prompts: Sequence[Any], protocol: Protocol) -> None:
    """A call that is not counted: what is made at the first is made."""
    _timed(model, list(prompts[: protocol.batch_size]), 1, protocol)


def _timed(model: Model, prompts: list[Any], steps: int, protocol: Protocol) -> tuple[float, float]:
    """Seconds of a batch, and evaluations a sample, by the model's own solver."""
    noise = BrownianKey if protocol.brownian else None
    start = time.perf_counter()
    drawn = model.sample(prompts, grid=UniformTime(), steps=steps, guidance=Off(), batch_size=len(prompts), noise=noise)
    return time.perf_counter() - start, drawn.ledger.evaluations_per_sample


def _reference_evaluations(model: Model, prompts: list[Any], protocol: Protocol) -> float:
    solver = exact(protocol.tolerance)
    drawn = model.sample(prompts, solver=solver, grid=UniformTime(), steps=1, guidance=Off())
    return SLOWEST * drawn.ledger.evaluations_per_sample


def count_flops(model: Model, prompts: Sequence[Any]) -> tuple[float, float]:
    """Floating-point operations of one evaluation of one sample, and those of the pass back to its input over them."""
    modality = model.modality
    complete = modality.complete(list(prompts), 0, tuple(range(len(prompts))))
    condition = model.condition(list(complete))
    middle = torch.full((len(prompts),), 0.5, dtype=torch.float64)
    x = model.process.prior(torch.ones((), dtype=torch.float64), SampleKey(0, tuple(range(len(prompts)))), condition)
    given = {name: part.clone() for name, part in components(x).items()}
    start = of_components({
        name: part.requires_grad_() if part.is_floating_point() else part for name, part in given.items()
    })  # fmt: skip
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model.denoiser()(start, middle, condition)
    with FlopCounterMode(display=False) as both:
        clean = components(model.denoiser()(start, middle, condition).clean)
        led = [part.float().sum() for part in clean.values() if part.requires_grad]
        if led:  # of tokens alone there is no way back
            torch.stack(led).sum().backward()  # type: ignore[no-untyped-call]
    each = forward.get_total_flops()
    return each / len(prompts), (both.get_total_flops() - each) / max(each, 1)
