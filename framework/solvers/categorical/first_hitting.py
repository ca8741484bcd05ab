r"""First hitting: masks are lifted one by one, at the times at which the exact process would (Zheng et al. 2024,
arXiv:2409.02908, section 4).

Back in time each mask is lifted at its own random moment, tokens do not change any more, and p changes only when one
is lifted. The moment of a mask that is there at t, measured by 1 - alpha, is uniform in [0, 1 - alpha_t]. With n masks
left the next is lifted at the largest of n such numbers,

    1 - alpha(tau) = (1 - alpha(t)) u^(1 / n),      u uniform in [0, 1),

it is any of the n alike, and its token is drawn from p(x_0 | x_tau). There is no time step and no error but the
denoiser's.

One evaluation serves one position, so M masks cost M evaluations. Of the grid only the ends matter: masks that would be
lifted after the last time stay. Samples have times of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from framework.categories import draw
from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.processes.categorical import Categorical
from framework.processes.process import Process
from framework.sampler import Hook, Progress
from framework.schedules import Schedule
from framework.solvers.categorical.kernels import mask_token
from framework.solvers.plan import Stage
from framework.state import Condition, State


@dataclass(frozen=True)
class FirstHitting:
    """A Loop over events, for masks only; `evaluations_per_step` counts an event as a step."""

    order: ClassVar[float] = math.inf
    evaluations_per_step: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def run(
        self,
        denoiser: Denoiser,
        process: Process,
        times: Tensor,
        x: State,
        condition: Condition,
        key: NoiseKey,
        hooks: Sequence[Hook],
    ) -> State:
        if not isinstance(process, Categorical) or not isinstance(x, Tensor):
            raise UserError(
                "FirstHitting undoes a Categorical process of one tensor of tokens; for named components "
                "use Splitting with ConfidenceOrder or Ancestral"
            )
        token, layout = mask_token(process, self), process.space.layout
        packed, valid = layout.pack(x), layout.valid(condition)
        first, last = float(times[0]), float(times[-1])
        noise = torch.full((len(packed),), 1 - _alpha(process.schedule, first), dtype=torch.float64)
        least = 1 - _alpha(process.schedule, last)
        now = torch.full_like(noise, first)
        masked = valid & (packed == token)
        events = int(masked.sum(1).max()) if len(packed) else 0
        for event in range(events):
            left = masked.sum(1)
            when, which, what = key.at(event + 1).uniform((3,), noise).unbind(1)
            noise = noise * when ** (1 / left.clamp(min=1).to(noise))
            lifted = (left > 0).to(noise.device) & (noise >= least)
            before, now = now, torch.where(lifted, time_of_alpha(process.schedule, 1 - noise, first, last), now)
            prediction = denoiser(layout.unpack(packed, condition), now, condition)
            p = layout.pack(_tensor(prediction.clean))
            place = (masked.cumsum(1) <= (which.to(left.device) * left).floor().unsqueeze(1)).sum(1)
            place = place.clamp(max=packed.shape[1] - 1)
            rows = torch.arange(len(packed), device=packed.device)
            drawn = draw(p[rows, place], what.to(p.device))
            packed = packed.clone()
            packed[rows, place] = torch.where(lifted.to(packed.device), drawn, packed[rows, place])
            masked = valid & (packed == token)
            x = layout.unpack(packed, condition)
            for hook in hooks:
                stage = Stage(event, float(before.max()), float(now.max()), ())
                hook(Progress(event, events, stage, x, prediction))
        return x


def time_of_alpha(schedule: Schedule, alpha: Tensor, high: float, low: float) -> Tensor:
    """The times in [low, high] at which alpha(t), which falls, has these values: float64, by bisection."""
    early, late = torch.full_like(alpha, low), torch.full_like(alpha, high)
    for _ in range(60):
        middle = (early + late) / 2
        above = schedule.alpha(middle) > alpha
        early, late = torch.where(above, middle, early), torch.where(above, late, middle)
    return (early + late) / 2


def _alpha(schedule: Schedule, t: float) -> float:
    return float(schedule.alpha(torch.tensor(t, dtype=torch.float64)))


def _tensor(x: State) -> Tensor:
    if not isinstance(x, Tensor):
        raise UserError("FirstHitting needs one tensor of probabilities, and the denoiser gave named components")
    return x
