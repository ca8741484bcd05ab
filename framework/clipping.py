r"""Keep predictions of the data within the data's range: denoisers that wrap a denoiser.

    Clip               D -> clamp(D, -limit, limit)                                      Ho et al. 2020
    DynamicThreshold   D -> clamp(D, -s, s) / s, s a percentile of |D| over the sample   Saharia et al. 2022, Imagen,
                       but at least 1 and at most `maximum`                              section 2.3

Both change the clean mean alone; noise, velocity and score follow from what is left of it, so a solver takes a step
that agrees with it. They are meant for data in [-1, 1], such as pixels, and not for latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.errors import UserError
from framework.schedules import Schedule
from framework.state import Condition, State


class Clipping(Protocol):
    """The role: a change of the clean mean; called with a denoiser it gives the one that makes it."""

    def __call__(self, denoiser: Denoiser) -> Denoiser: ...

    def change(self, clean: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Clip:
    """To [-limit, limit].

    Raises:
        UserError: limit <= 0.
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise UserError(f"a range has a positive limit, got {self.limit}")

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return Clipped(denoiser, self)

    def change(self, clean: Tensor) -> Tensor:
        """`clean` (B, ...) within the limits."""
        return clean.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class DynamicThreshold:
    """To [-1, 1] by each sample's own scale: the `quantile` of its absolute values, between 1 and `maximum`."""

    quantile: float = 0.995
    maximum: float = 1.0

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return Clipped(denoiser, self)

    def change(self, clean: Tensor) -> Tensor:
        """`clean` (B, ...) scaled into [-1, 1]."""
        rows = clean.flatten(1)
        wide = rows if rows.dtype == torch.float64 else rows.float()
        scale = torch.quantile(wide.abs(), self.quantile, dim=1).clamp(1.0, max(self.maximum, 1.0))
        scale = scale.to(clean.dtype).reshape(-1, *(1,) * (clean.ndim - 1))
        return clean.clamp(-scale, scale) / scale


class Clipped:
    """A denoiser whose clean mean is kept in range; states are single tensors."""

    def __init__(self, denoiser: Denoiser, clipping: Clipping) -> None:
        self.denoiser, self.clipping = denoiser, clipping

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        prediction = self.denoiser(x_t, t, condition)
        if not isinstance(prediction.clean, Tensor):
            raise UserError("clipping is for states that are one tensor, not for products")
        return prediction.with_clean(self.clipping.change(prediction.clean))
