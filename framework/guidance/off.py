"""No guidance: the conditional prediction as it is, at one evaluation; it switches a model's own default off."""

from __future__ import annotations

from dataclasses import dataclass

from framework.denoiser import Denoiser
from framework.state import Condition


@dataclass(frozen=True)
class Off:
    """Returns the denoiser that it is given; the negative condition has no effect."""

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        return denoiser
