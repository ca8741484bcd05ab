r"""Classifier-free guidance (Ho & Salimans 2022): away from what the model would draw without the condition.

    D = D_negative + w (D_condition - D_negative)

on the clean mean, and of tokens, whose probabilities must stay probabilities, on their logarithms (Schiff et al. 2024,
2412.10193): p proportional to p_condition^w p_negative^(1 - w). Components may have strengths of their own. w = 1 is
off (the conditional prediction alone), w > 1 is stronger; a negative condition takes the place of the empty one. Both
predictions come from one batched forward. Within an interval of log-SNR only (Kynkaanniemi et al. 2024) it costs two
evaluations there and one elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.schedules import Schedule
from framework.state import Condition, State, combine, components, concatenate, of_components, select


class Guidance(Protocol):
    """The role: a denoiser in, a denoiser out; `negative` is the condition to be led away from, a row a sample."""

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser: ...


@runtime_checkable
class Priced(Protocol):
    """A guidance that says what it costs, as one has to whose steps are to be counted (`diffract compare`)."""

    def cost(self, schedule: Schedule, t: Tensor, backward: float) -> Tensor:
        """The network evaluations of one call at each of the times t, where a backward pass costs `backward`."""
        ...


@dataclass(frozen=True)
class ClassifierFree:
    """Guidance of strength `scale`, where log_snr lies in `interval` (low, high) if one is given.

    `scale` may be a mapping of components to numbers; what it does not name is not guided.

    Raises:
        ValueError: the interval is not low < high.
        UserError: a scale is for a component that the state has not.
    """

    scale: float | Mapping[str, float] = 2.0
    interval: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.interval is not None and not (len(self.interval) == 2 and self.interval[0] < self.interval[1]):
            raise ValueError(f"the guidance interval is two log-SNRs, low < high, got {self.interval}")

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        return _Guided(denoiser, negative, self.scale, self.interval)

    def cost(self, schedule: Schedule, t: Tensor, backward: float) -> Tensor:
        if self.scale == 1.0:
            return torch.ones_like(t)
        if self.interval is None:
            return torch.full_like(t, 2.0)
        low, high = self.interval
        log_snr = schedule.log_snr(t)
        return 1.0 + ((log_snr >= low) & (log_snr <= high)).double()


class _Guided:
    def __init__(
        self,
        denoiser: Denoiser,
        negative: Condition,
        scale: float | Mapping[str, float],
        interval: Sequence[float] | None,
    ) -> None:
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
        prediction = self.denoiser(concatenate([x_t, x_t]), torch.cat([t, t]), conditions)
        with_condition, without = prediction.clean[:rows], prediction.clean[rows:]
        clean = self._led_away(with_condition, without, prediction.tokens)
        if not bool(inside.all()):
            clean = select(inside, clean, with_condition)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t), prediction.tokens)

    def _led_away(self, positive: State, negative: State, tokens: tuple[str, ...]) -> State:
        if not tokens and not isinstance(self.scale, Mapping):
            return combine([(self.scale, positive), (1 - self.scale, negative)])
        ours, theirs = components(positive), components(negative)
        if isinstance(self.scale, Mapping) and (unknown := sorted(set(self.scale) - set(ours))):
            known = ", ".join(sorted(ours))
            raise UserError(f"guidance.scale names {', '.join(unknown)}; the components here are {known}")
        return of_components({
            name: _mixed(part, theirs[name], self._scale_of(name), name in tokens) for name, part in ours.items()
        })  # fmt: skip

    def _scale_of(self, name: str) -> float:
        return self.scale.get(name, 1.0) if isinstance(self.scale, Mapping) else self.scale

    def _inside(self, t: Tensor) -> Tensor:
        if self.interval is None:
            return torch.ones_like(t, dtype=torch.bool)
        log_snr = self.schedule.log_snr(t)
        return (log_snr >= self.interval[0]) & (log_snr <= self.interval[1])


SMALLEST = 1e-12  # a probability below is no evidence of more


def _mixed(positive: Tensor, negative: Tensor, scale: float, tokens: bool) -> Tensor:
    """One component led away: a mean linearly, probabilities (..., K) geometrically; padding, all zero, stays so."""
    if not tokens:
        return combine([(scale, positive), (1 - scale, negative)])  # type: ignore[return-value]
    logarithms = scale * positive.clamp(min=SMALLEST).log() + (1 - scale) * negative.clamp(min=SMALLEST).log()
    return torch.where(positive.sum(-1, keepdim=True) > 0, logarithms.softmax(-1), 0.0)
