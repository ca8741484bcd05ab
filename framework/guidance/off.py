"""No guidance: the conditional prediction as it is, at one evaluation; it switches a model's own default off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.schedules import Schedule
from framework.state import Condition


@dataclass(frozen=True)
class Off:
    """Returns the denoiser that it is given; the negative condition has no effect."""

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        return denoiser

    def cost(self, schedule: Schedule, t: Tensor, backward: float) -> Tensor:
        return torch.ones_like(t)
