"""Several guidances, each on what the one before it returns: Composed([ClassifierFree(2.0), EnergyGuided(E)])."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.guidance.classifier_free import Guidance, Priced
from framework.guidance.energy import EnergyGuided, for_modality
from framework.guidance.off import Off
from framework.schedules import Schedule
from framework.state import Condition

if TYPE_CHECKING:
    from framework.modality import Modality


@dataclass(frozen=True)
class Composed:
    """The first is nearest to the model; all are given the same negative condition.

    Raises:
        UserError: there is none.
    """

    guidances: Sequence[Guidance]

    def __post_init__(self) -> None:
        if not self.guidances:
            raise UserError("a composed guidance needs at least one; guidance=none switches it off")

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        for guidance in self.guidances:
            denoiser = guidance(denoiser, negative)
        return denoiser

    def cost(self, schedule: Schedule, t: Tensor, backward: float) -> Tensor:
        """The product of what each of them costs.

        Raises:
            UserError: one does not say.
        """
        total = torch.ones_like(t)
        for guidance in self.guidances:
            if not isinstance(guidance, Priced):
                raise UserError(f"{type(guidance).__name__} has no method cost(schedule, t, backward)")
            total = total * guidance.cost(schedule, t, backward)
        return total

    def for_modality(self, modality: Modality) -> Composed:
        """The same with each of them in the modality's units."""
        return Composed([for_modality(guidance, modality) for guidance in self.guidances])


def heeds_negative(guidance: Guidance | None) -> bool:
    """Whether a negative condition has an effect."""
    if isinstance(guidance, Composed):
        return any(heeds_negative(each) for each in guidance.guidances)
    return guidance is not None and not isinstance(guidance, Off | EnergyGuided)
