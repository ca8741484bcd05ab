r"""From one sample to another in even steps: between two prompts, two noises, or both.

Frame k of K has the share s = k / (K - 1). All frames of a strip share the randomness of their first, so that only what
is interpolated changes from one to the next.

Between two noises lies the great arc (`slerp`). Between two prompts the clean means are mixed,

    D = (1 - s) D(x_t, t, first) + s D(x_t, t, second),

which is the denoiser of no simple law, but whose score is that of p_t(x | first)^(1 - s) p_t(x | second)^s (Liu et al.
2022, "Compositional visual generation", 2206.01714): what both prompts allow. It needs no network that reads blended
words, and costs twice the evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.editing.inversion import slerp
from framework.editing.task import Run, Task
from framework.errors import UserError
from framework.modality import Modality
from framework.noise import SampleKey
from framework.schedules import Schedule
from framework.state import Condition, State, combine


@dataclass(frozen=True)
class Interpolate:
    """Strips of `frames` samples each, from the prompt and the seed that are sampled to those that are named here.

    Raises:
        UserError: neither is named, or a strip has fewer than two frames.
    """

    to: Any = None
    to_seed: int | None = None
    frames: int = 8

    def __post_init__(self) -> None:
        if self.to is None and self.to_seed is None:
            raise UserError("interpolation leads somewhere: to another prompt (to=), another noise (to_seed=), or both")
        if self.frames < 2:
            raise UserError(f"a strip has two frames or more, its ends, and not {self.frames}")

    def tasks(self, modality: Modality) -> Sequence[Task]:
        strip = (OneNoise(self.frames),)
        noises = () if self.to_seed is None else (BetweenNoises(self.to_seed, self.frames),)
        prompts = () if self.to is None else (BetweenPrompts(modality, self.to, self.frames),)
        return (*strip, *noises, *prompts)


@dataclass(frozen=True)
class OneNoise:
    """The samples of each strip of `frames` meet the same noise: that of the sample with the strip's number."""

    frames: int
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        return replace(run, key=_strips(run, self.frames))


@dataclass(frozen=True)
class BetweenNoises:
    """They start on the arc from their own noise to that of the seed `to`."""

    to: int
    frames: int
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        other = run.process.prior(run.times[0], replace(_strips(run, self.frames), seed=self.to), run.condition)
        return replace(run, initial=slerp(run.start(), other, _shares(run, self.frames)))


@dataclass(frozen=True)
class BetweenPrompts:
    """They are led to what their own prompt and the prompt `to` say, by their shares; after guidance."""

    modality: Modality
    to: Any
    frames: int
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        rows = run.condition.batch_size[0]
        said = self.modality.parse([self.to] * rows).to(run.condition.device or "cpu")
        other = self.modality.resized(said, run.condition)
        return replace(run, denoiser=_Mixed(run.denoiser, other, _shares(run, self.frames)))


class _Mixed:
    def __init__(self, denoiser: Denoiser, other: Condition, share: Tensor) -> None:
        self.denoiser, self.other, self.share = denoiser, other, share

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        first, second = self.denoiser(x_t, t, condition), self.denoiser(x_t, t, self.other)
        share = self.share.to(t.device)
        return first.with_clean(combine([(1 - share, first.clean), (share, second.clean)]))


def _shares(run: Run, frames: int) -> Tensor:
    """Each sample's place in its strip, from 0 to 1: float64 (B,)."""
    return torch.tensor([(i % frames) / (frames - 1) for i in run.samples], dtype=torch.float64)


def _strips(run: Run, frames: int) -> SampleKey:
    """The key of each sample's strip."""
    if not isinstance(run.key, SampleKey):
        raise UserError("interpolation needs noise by seed and sample, not along a path")
    return replace(run.key, samples=tuple(i // frames for i in run.samples))
