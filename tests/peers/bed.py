"""What our solvers and the peers' are compared on: the same exact denoiser, times and noise, all in float64.

A run is known by what it asks its denoiser: at which noise level u = sigma / alpha, and where, as y = x / alpha. Two
runs that ask the same questions and end in the same place are the same run, whatever each of them calls its state.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.certify.gaussian_mixture import PLANE, Mixture, MixtureDenoiser, reference_solution
from framework.denoiser import Prediction
from framework.noise import NoiseKey, SampleKey
from framework.sampler import Loop, sample
from framework.schedules import EDM, LinearVP, Schedule
from framework.solvers.plan import Solver
from framework.spaces import Euclidean

ROWS = 16


class Double(Euclidean):
    """All of R^shape, with noise in float64."""

    def noise(self, key: NoiseKey, condition: TensorDict) -> Tensor:
        return key.normal(tuple(self.shape), torch.zeros((), dtype=torch.float64))


SPACE = Double((2,))
KEY = SampleKey(0, tuple(range(ROWS)))
NOTHING = TensorDict({}, batch_size=[ROWS])


@dataclass
class Run:
    """The questions (u, y) in order, and where it ended."""

    levels: list[float] = field(default_factory=list)
    asked: list[Tensor] = field(default_factory=list)
    end: Tensor = field(default_factory=lambda: torch.empty(0))

    def ask(self, y: Tensor, u: float, mixture: Mixture = PLANE) -> Tensor:
        """The clean mean at y = x_0 + u z, entered into the record."""
        self.levels.append(u)
        self.asked.append(y)
        scale = torch.full((len(y),), u, dtype=torch.float64)
        return mixture.clean_mean(y, torch.ones_like(scale), scale)


def start() -> Tensor:
    """The standard noise with which every run starts, (ROWS, 2)."""
    return SPACE.noise(KEY, NOTHING)


class Recorded:
    """The exact denoiser of a schedule, which enters into a run what it is asked."""

    def __init__(self, schedule: Schedule, run: Run) -> None:
        self.schedule, self.run, self._inner = schedule, run, MixtureDenoiser(PLANE, schedule)

    def __call__(self, x_t: Tensor, t: Tensor, condition: TensorDict) -> Prediction:
        prediction = self._inner(x_t, t, condition)
        alpha, sigma = prediction.alpha[0], prediction.sigma[0]  # type: ignore[index]
        self.run.levels.append(float(sigma / alpha))
        self.run.asked.append(x_t / alpha)
        return prediction


def ours(solver: Solver | Loop, times: Tensor, schedule: Schedule, initial: Tensor | None = None) -> Run:
    """Our run from sigma(t_0) z, or from `initial` as a state of the schedule."""
    run = Run()
    begin = float(schedule.sigma(times[0])) * start() if initial is None else initial
    end = sample(Recorded(schedule, run), solver, times, SPACE, NOTHING, KEY, initial=begin)
    run.end = end / schedule.alpha(times[-1])
    return run


def draws(solver: Solver, times: Tensor, schedule: Schedule) -> Iterator[Tensor]:
    """The noise of our run, draw after draw, and then zeros: peers draw once more where nothing weighs it."""
    for index, stage in enumerate(solver.plan(schedule, times)):
        if stage.draw:
            yield SPACE.noise(KEY.at(index + 1), NOTHING)
    while True:
        yield torch.zeros(ROWS, 2, dtype=torch.float64)


def assert_same(mine: Run, theirs: Run, tolerance: float = 1e-9) -> None:
    """Both ask the same and end in the same place, relative to the size of the state."""
    assert len(mine.levels) == len(theirs.levels), (mine.levels, theirs.levels)
    np.testing.assert_allclose(mine.levels, theirs.levels, rtol=tolerance)
    for u, a, b in zip(mine.levels, mine.asked, theirs.asked, strict=True):
        assert float((a - b).abs().max()) <= tolerance * math.sqrt(1 + u**2), u
    torch.testing.assert_close(mine.end, theirs.end, rtol=tolerance, atol=tolerance)


def distance(a: Run, b: Run) -> float:
    """The median distance of the two ends."""
    return float((a.end - b.end).norm(dim=1).median())


def times_of(schedule: Schedule, ratios: Tensor | list[float]) -> Tensor:
    """The schedule's times at noise-to-signal ratios, of which the last may be zero."""
    ratios = torch.as_tensor(ratios, dtype=torch.float64)
    return schedule.time(-2 * ratios.log()).clamp(0.0, 1.0)


def karras_ratios(steps: int, low: float = 0.02, high: float = 20.0, zero: bool = True) -> Tensor:
    """`steps` ratios on the grid of Karras et al. from `high` to `low`, and 0 behind them if asked for."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    ratios = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    return torch.cat([ratios, torch.zeros(1, dtype=torch.float64)]) if zero else ratios


def slope(run: Callable[[int], Tensor], truth: Tensor, steps: tuple[int, ...]) -> tuple[float, list[float]]:
    """The measured order of convergence to `truth`, and the median errors."""
    errors = [float((run(n) - truth).norm(dim=1).median()) for n in steps]
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0]), errors


def truth_at(ratios: Tensor) -> Tensor:
    """Where the probability-flow ODE leads from the first of the ratios to the last, by DOP853."""
    high, low = float(ratios[0]), float(ratios[-1])
    return reference_solution(PLANE, high * start(), high, low)


VP = LinearVP()
VE = EDM(80.0)


# --- the peers, in float64 -------------------------------------------------------------------------------------------


class _Double:
    """torch or numpy, in which float32 means float64."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return self._library.float64 if name == "float32" else getattr(self._library, name)


@contextmanager
def in_double(module: types.ModuleType) -> Iterator[None]:
    """A peer's module computes in float64 where it says float32; its formulas are not touched."""
    before = torch.get_default_dtype()
    patch = pytest.MonkeyPatch()
    for name, library in (("torch", torch), ("np", np)):
        if hasattr(module, name):
            patch.setattr(module, name, _Double(library))
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        patch.undo()


def k_diffusion_sampling() -> Any:
    """k_diffusion.sampling alone: its package imports CLIP, wandb and what else its training needs."""
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None:
        pytest.skip("k-diffusion is not installed: pip install --no-deps k-diffusion")
    if "k_diffusion" not in sys.modules:
        package = types.ModuleType("k_diffusion")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["k_diffusion"] = package
    for name in ("torchsde", "torchdiffeq", "torchvision"):
        pytest.importorskip(name, reason=f"k-diffusion's samplers need {name}: pip install -e '.[peers]'")
    return importlib.import_module("k_diffusion.sampling")
