r"""What errors are measured on: a network, noise, and the exact solution of its probability-flow ODE.

Every deterministic solver approximates the same map, from the state x_T = sigma_T z to the sample. On a bed all runs
start from the same z at the same noise level, are held against the same exact solution, and ask the same network, whose
clean mean is handed out at whatever (alpha, sigma) the caller's state has, on its schedule and not on a rounded time.
There are up to three beds of a network:

    noise           from alpha = 0 to the data: straight paths (rectified flow), and diffusers' iPNDM
    table           from sigma / alpha = 157.4, where DDPM's table of 1000 betas ends, to the data
    table to 0.01   from there to the table's first entry, where some of diffusers' schedulers end: the mixture's alone

A run that starts a little below that (diffusers' flow spacings start at sigma = 0.999) gets the state there on the
exact trajectory: the one first-order step from the start, which is exact to the square of alpha.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.solvers.packed import packed
from framework.certify.gaussian_mixture import SIXTEEN_BED
from framework.denoiser import Denoiser, Rescheduled
from framework.model import Model
from framework.noise import SampleKey
from framework.schedules import DDPMBetas, Flow, Schedule
from framework.solvers.adaptive import reference
from framework.spaces import Space
from framework.state import Condition

TABLE = DDPMBetas()
"""alpha and sigma where diffusers' default schedulers have them."""


def ratio(schedule: Schedule, t: float) -> float:
    """sigma / alpha at a time."""
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = float(schedule.alpha(time)), float(schedule.sigma(time))
    return sigma / alpha if alpha else math.inf


LOW = ratio(TABLE, 1 / 1000)
"""The noise-to-signal ratio of the table's first entry."""
# What both sides' grids are turned to: shifts of the straight path, and Karras' rho, which at -50 is a little denser in
# the noise than equal steps of log-SNR.
SHIFTS, RHOS = (0.5, 0.6, 0.75, 2.0, 3.0), (-50.0,)
BEDS: dict[str, tuple[Schedule, float]] = {"noise": (Flow(), 0.0), "table": (TABLE, 0.0), "table to 0.01": (TABLE, LOW)}
"""What ours runs on, and the noise-to-signal ratio at which runs end."""


@dataclass(frozen=True)
class Bed:
    """One network, one start and one end; states are of the type of `noise`, in which the network computes.

    `solution` is the exact y = x / alpha (B, ...) at the end, a noise-to-signal ratio.
    """

    network: str
    kind: str
    denoiser: Denoiser
    space: Space
    condition: Condition
    noise: Tensor
    schedule: Schedule
    end: float
    solution: Tensor

    @property
    def name(self) -> str:
        return f"{self.network}, {self.kind}"

    @property
    def start(self) -> tuple[float, float]:
        """(alpha, sigma) of the start."""
        one = torch.ones((), dtype=torch.float64)
        return float(self.schedule.alpha(one)), float(self.schedule.sigma(one))

    def clean(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """The network's clean mean of a state alpha x_0 + sigma z of any schedule."""
        inner = self.denoiser.schedule
        log_snr = torch.tensor(2 * (math.log(alpha) - math.log(sigma)) if alpha > 0 else -math.inf).double()
        time = inner.time(log_snr).clamp(0.0, 1.0)
        scaled = x * float(inner.sigma(time) / sigma)
        clean: Tensor = self.denoiser(scaled, time.expand(len(x)), self.condition).clean  # type: ignore[assignment]
        return clean

    def state(self, alpha: float, sigma: float) -> Tensor:
        """The state at a level close to the start, on the exact trajectory to first order."""
        first, most = self.start
        x = most * self.noise
        if math.isclose(sigma * first, alpha * most, rel_tol=1e-5):
            return x * (sigma / most)
        kept = sigma / most
        return kept * x + (alpha - first * kept) * self.clean(x, first, most)

    def errors(self, y: Tensor) -> Tensor:
        """Root mean square over the elements of each sample (B,) of y = x / alpha against the exact solution."""
        return (y.double() - self.solution).flatten(1).square().mean(1).sqrt()


def make_beds(
    network: str,
    denoisers: Mapping[Schedule, Denoiser],
    space: Space,
    condition: Condition,
    noise: Tensor,
    tolerance: float,
    kinds: Sequence[str] = tuple(BEDS),
    cache: Path | None = None,
) -> list[Bed]:
    """The beds; `denoisers` has the network on each schedule. Solutions are kept in files named `cache` and more."""
    beds, solutions = [], {}
    for kind in kinds:
        schedule, end = BEDS[kind]
        denoiser = denoisers[schedule]
        if schedule not in solutions:
            file = cache.with_name(f"{cache.name}_{type(schedule).__name__}.pt") if cache else None
            solutions[schedule] = solve(denoiser, schedule, space, condition, noise, tolerance, file)
        beds.append(Bed(network, kind, denoiser, space, condition, noise, schedule, end, solutions[schedule][end]))
    return beds


def solve(
    denoiser: Denoiser,
    schedule: Schedule,
    space: Space,
    condition: Condition,
    noise: Tensor,
    tolerance: float,
    file: Path | None,
) -> dict[float, Tensor]:
    """The exact y at LOW and at 0, from `file` if it is there."""
    if file is not None and file.exists():
        kept: dict[float, Tensor] = torch.load(file, weights_only=True)
        return kept
    one = torch.ones(1, dtype=torch.float64)
    low = schedule.time(-2 * math.log(LOW) * one)
    x = float(schedule.sigma(one)) * noise
    _, at_low, at_end = reference(denoiser, x, torch.cat([one, low, 0 * one]), space, condition, tolerance=tolerance)
    solved = {LOW: at_low.double() / float(schedule.alpha(low)), 0.0: at_end.double()}
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(solved, file)
    return solved


def mixture_beds(samples: int) -> list[Bed]:
    """The sixteen-dimensional mixture, whose network is exact."""
    indices, bed = tuple(range(samples)), SIXTEEN_BED
    noise = SampleKey(0, indices).normal((bed.mixture.dimensions,), torch.zeros((), dtype=torch.float64))
    denoisers = {schedule: bed.denoiser(schedule) for schedule, _ in BEDS.values()}
    return make_beds("mixture16", denoisers, bed.space, bed.condition(indices), noise, 1e-10)


def model_beds(name: str, model: Model, prompts: Sequence[object], cache: Path) -> list[Bed]:
    """A trained model, unguided, a sample a prompt."""
    condition = model.condition(prompts)
    drawn = model.modality.space.noise(SampleKey(0, tuple(range(len(prompts)))), condition)
    own, space, noise = packed(model.denoiser(), model.modality.space, drawn)
    denoisers: dict[Schedule, Denoiser] = {}
    for schedule, _ in BEDS.values():
        denoisers[schedule] = own if own.schedule == schedule else Rescheduled(own, schedule)
    kinds = ("noise", "table")
    digest = hashlib.sha256(repr(prompts).encode())  # another model or other prompts have other solutions
    for weights in model.network.state_dict().values():
        digest.update(weights.cpu().numpy().tobytes())
    file = cache / digest.hexdigest()[:16]
    return make_beds(name, denoisers, space, condition, noise, 1e-6, kinds, file)
