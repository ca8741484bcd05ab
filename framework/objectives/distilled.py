r"""Distillation of guidance: a student learns to say at once what a guided teacher says with two evaluations.

With w drawn evenly from a range, and the teacher's clean means with the condition and without it,

    D_w = D_nothing + w (D_condition - D_nothing),     || student(x_t, t, condition, w) - target(D_w) ||^2,

the target being D_w and the noise that belongs to it, in the student's own parametrisation (Meng et al.,
"On Distillation of Guided Diffusion Models", arXiv 2210.03142, stage one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from framework.denoiser import NetworkDenoiser
from framework.errors import UserError
from framework.guidance.embedded import with_scale
from framework.noise import NoiseKey
from framework.objectives.distances import Distance
from framework.objectives.objective import Objective
from framework.objectives.times import TimeSampler
from framework.objectives.weightings import Weighting
from framework.parametrizations import Parametrization
from framework.state import Condition, State, combine

if TYPE_CHECKING:
    from framework.model import Model


class DistilledGuidance(Objective):
    """Arguments are those of `Objective`, and

    Args:
        teacher: the folder of the guided model, or of its run; on the student's schedule and data.
        scales: the range (low, high) that w is drawn from.

    Raises:
        UserError: scales are not low < high with low >= 0.
        ModelFolderError: there is no teacher.
    """

    def __init__(
        self,
        time_sampler: TimeSampler,
        weighting: Weighting,
        distance: Distance,
        teacher: str,
        scales: Sequence[float] = (1.0, 4.0),
        space: Parametrization | None = None,
        max_gain: float = 20.0,
    ) -> None:
        super().__init__(time_sampler, weighting, distance, space, max_gain)
        if len(scales) != 2 or not 0 <= scales[0] < scales[1]:
            raise UserError(f"scales={list(scales)} must be the least and the largest guidance scale, 0 <= low < high")
        from framework.store import load

        self.scales = (float(scales[0]), float(scales[1]))
        self._teacher: tuple[Model] = (load(teacher),)  # in a tuple, so that it is no part of what is trained and saved

    def lesson(
        self,
        denoiser: NetworkDenoiser,
        x_t: State,
        t: Tensor,
        x_0: State,
        z: State,
        condition: Condition,
        key: NoiseKey,
    ) -> tuple[State, State, Condition]:
        """What the guided teacher finds in x_t, under the condition with the scale.

        Raises:
            UserError: the teacher has another schedule.
        """
        teacher = self._teacher[0].to(t.device)
        if teacher.schedule != denoiser.schedule:
            raise UserError(f"the teacher's schedule is {teacher.schedule}, and the student's {denoiser.schedule}")
        low, high = self.scales
        w = low + (high - low) * key.component("scale").uniform((), torch.zeros(())).to(t.device)
        alpha, sigma = denoiser.schedule.alpha_sigma(t)
        with torch.no_grad():
            said = teacher.denoiser()
            with_condition = said(x_t, t, condition).clean
            without = said(x_t, t, teacher.modality.null(condition)).clean
        clean = combine([(w, with_condition), (1 - w, without)])
        return clean, combine([(1 / sigma, x_t), (-alpha / sigma, clean)]), with_scale(condition, w)
