r"""Start a run elsewhere than in the prior's noise.

FromClean (SDEdit, Meng et al. 2022, 2108.01073): from x = alpha x_0 + sigma z at a lower noise level, where z is the
noise that the sample would have started from; the lower it is, the more of x_0 stays. With another condition it is an
edit, with another seed a variation.

The level is given as a strength s in (0, 1], the share of the way from data to noise by the angle of sigma and alpha,

    atan(sigma / alpha) = s pi / 2,

so that a strength is the same noise on every schedule (on Cosine it is the time itself, on Flow nearly so). The run
starts at the nearest of the grid's times and walks what is left of the grid, as people know it from other tools: of 20
even steps about 20 s, and never fewer than one.

FromNoise: from a given state at the first time, say one that `invert` has found or `slerp` has mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from framework.editing.task import Run, fitted, rows_of
from framework.errors import UserError
from framework.schedules import angle
from framework.state import State


@dataclass(frozen=True)
class FromClean:
    """See the module's docstring; `state` is clean, of n rows, and zeros behind it fill the canvas of the samples.

    Raises:
        UserError: strength lies outside (0, 1], or the state does not fit the samples.
    """

    state: State
    strength: float
    before_guidance: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_strength(self.strength)

    def __call__(self, run: Run) -> Run:
        angles = angle(run.denoiser.schedule, run.times[:-1])
        first = int((angles - self.strength * math.pi / 2).abs().argmin())
        clean = fitted(rows_of(self.state, run), run.start())
        later = replace(run, times=run.times[first:])
        return replace(later, initial=later.noised(clean))


@dataclass(frozen=True)
class FromNoise:
    """From `state`, of n rows, at the first time."""

    state: State
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        return replace(run, initial=fitted(rows_of(self.state, run), run.start()))


def check_strength(strength: float) -> None:
    """UserError unless it lies in (0, 1]."""
    if not 0 < strength <= 1:
        raise UserError(
            f"strength={strength:g}: it lies in (0, 1], where 1 keeps nothing of the input and less keeps more"
        )
