r"""Classifier-free guidance (Ho & Salimans 2022): away from what the model would draw without the condition.

    D = D_negative + w (D_condition - D_negative)

on the clean mean. w = 1 is off (the conditional prediction alone), w > 1 is stronger; a negative condition takes the
place of the empty one. Both predictions come from one batched forward. Within an interval of log-SNR only (Kynkaanniemi
et al. 2024) it costs two evaluations there and one elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.schedules import Schedule
from framework.state import Condition, State, combine, concatenate, select


class Guidance(Protocol):
    """The role: a denoiser in, a denoiser out; `negative` is the condition to be led away from, a row a sample."""

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser: ...


@dataclass(frozen=True)
class ClassifierFree:
    """Guidance of strength `scale`, where log_snr lies in `interval` (low, high) if one is given.

    Raises:
        ValueError: the interval is not low < high.
    """

    scale: float = 2.0
    interval: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.interval is not None and not (len(self.interval) == 2 and self.interval[0] < self.interval[1]):
            raise ValueError(f"the guidance interval is two log-SNRs, low < high, got {self.interval}")

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        return _Guided(denoiser, negative, self.scale, self.interval)


class _Guided:
    def __init__(self, denoiser: Denoiser, negative: Condition, scale: float, interval: Sequence[float] | None) -> None:
        self.denoiser, self.negative, self.scale, self.interval = denoiser, negative, scale, interval

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        inside = self._inside(t)
        if self.scale == 1.0 or not bool(inside.any()):
            return self.denoiser(x_t, t, condition)
        rows = condition.batch_size[0]
        # Under another guidance the batch holds this one's rows several times, one block after the other.
        repeats = rows // self.negative.batch_size[0]
        conditions = TensorDict.cat([condition, *[self.negative] * repeats])
        both = self.denoiser(concatenate([x_t, x_t]), torch.cat([t, t]), conditions).clean
        with_condition, without = both[:rows], both[rows:]
        clean = combine([(self.scale, with_condition), (1 - self.scale, without)])
        if not bool(inside.all()):
            clean = select(inside, clean, with_condition)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))

    def _inside(self, t: Tensor) -> Tensor:
        if self.interval is None:
            return torch.ones_like(t, dtype=torch.bool)
        log_snr = self.schedule.log_snr(t)
        return (log_snr >= self.interval[0]) & (log_snr <= self.interval[1])
