"""Guidance that a network has learnt: it is told the scale, and answers at once what two evaluations would have said.

A network that reads `guidance_scale` from its condition is distilled from a guided one (objective=distilled; Meng et
al., "On Distillation of Guided Diffusion Models", arXiv 2210.03142) and then costs one evaluation a step. The scale's
convention is that of classifier-free guidance: 1 is the conditional prediction alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.schedules import Schedule
from framework.state import Condition, State

SCALE = "guidance_scale"  # the condition's key, (B,) float32


@dataclass(frozen=True)
class Embedded:
    """Tell the network to answer as under guidance of strength `scale`."""

    scale: float = 2.0

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        return _Told(denoiser, self.scale)

    def cost(self, schedule: Schedule, t: Tensor, backward: float) -> Tensor:
        return torch.ones_like(t)


class _Told:
    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        self.denoiser, self.scale = denoiser, scale

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        scales = torch.full(condition.batch_size, self.scale, dtype=torch.float32, device=t.device)
        return self.denoiser(x_t, t, with_scale(condition, scales))


def with_scale(condition: Condition, scales: Tensor) -> Condition:
    """A copy of a condition that tells the scales (B,)."""
    told = condition.copy()
    told[SCALE] = scales
    return told
