r"""States longer than the network's canvas, along one axis (MultiDiffusion, Bar-Tal et al. 2023, 2302.08113).

Windows of the network's length cover the state, evenly spread and overlapping by at least `overlap`. Each is a batch
row of one forward pass, and the clean mean at a place is the weighted mean of what the windows there say,

    D_j = sum_w h_w(j) D_w(j) / sum_w h_w(j),     h(i) = sin^2(pi (i + 1/2) / length),

so that a window counts least at its ends, where it knows least of what lies beyond, and nothing changes abruptly. What
correlates over less than the overlap comes out as from one long network; what is farther apart only by way of the
windows between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.editing.task import Run
from framework.errors import UserError
from framework.processes.gaussian import Gaussian
from framework.schedules import Schedule
from framework.spaces import Space
from framework.state import Condition, State


@dataclass(frozen=True)
class Windows:
    """The denoiser in windows; before guidance, so that a window is guided by itself.

    Args:
        length: of a window, along `axis` of the state (the batch being axis 0).
        overlap: of neighbours, at least.
        axis: which axis is long.
        space: the long states' own; None is the run's, where the condition says how long states are (Masked).
        sliced: {entry of the condition: its axis that runs along the state}, as {"mask": 1}; others serve each window.
        batch_size: rows of windows through the network at a time; None is all.

    Raises:
        UserError: not 0 <= overlap < length and axis >= 1; states are no tensors, or shorter than a window.
    """

    length: int
    overlap: int
    axis: int = 1
    space: Space | None = None
    sliced: Mapping[str, int] = field(default_factory=dict)
    batch_size: int | None = None
    before_guidance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.length or self.axis < 1:
            raise UserError(
                f"windows need 0 <= overlap < length along an axis after the batch, got overlap={self.overlap}, "
                f"length={self.length}, axis={self.axis}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"windows go through the network batch_size >= 1 at a time, got {self.batch_size}")

    def starts(self, total: int) -> list[int]:
        """Where windows begin that cover `total` entries."""
        if total < self.length:
            raise UserError(
                f"the state has {total} entries along axis {self.axis}, fewer than a window's {self.length}"
            )
        gaps = math.ceil((total - self.length) / (self.length - self.overlap))
        return [round(i * (total - self.length) / gaps) for i in range(gaps + 1)] if gaps else [0]

    def __call__(self, run: Run) -> Run:
        run = replace(run, denoiser=WindowedDenoiser(run.denoiser, self))
        if self.space is None:
            return run
        return replace(run, space=self.space, process=Gaussian(run.denoiser.schedule, self.space))


class WindowedDenoiser:
    """A denoiser of long states out of one of windows."""

    def __init__(self, denoiser: Denoiser, windows: Windows) -> None:
        self.denoiser, self.windows = denoiser, windows

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        how = self.windows
        if not isinstance(x_t, Tensor):
            raise UserError("windows are for states that are one tensor, not for products")
        starts = how.starts(x_t.shape[how.axis])
        parts = torch.cat([x_t.narrow(how.axis, start, how.length) for start in starts])
        conditions = TensorDict.cat([self._sliced(condition, start) for start in starts])
        times = t[:1].expand(len(parts)) if t.stride(0) == 0 else t.repeat(len(starts))
        size = how.batch_size or len(parts)
        cleans = [
            self.denoiser(parts[i : i + size], times[i : i + size], conditions[i : i + size]).clean
            for i in range(0, len(parts), size)
        ]
        clean = self._joined(torch.cat(cleans).chunk(len(starts)), starts, x_t)  # type: ignore[arg-type]
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))

    def _sliced(self, condition: Condition, start: int) -> Condition:
        parts = dict(condition.items())
        for name, axis in self.windows.sliced.items():
            parts[name] = parts[name].narrow(axis, start, self.windows.length)
        return TensorDict(parts, batch_size=condition.batch_size)

    def _joined(self, cleans: tuple[Tensor, ...], starts: list[int], like: Tensor) -> Tensor:
        length, axis = self.windows.length, self.windows.axis
        place = (torch.arange(length, device=like.device, dtype=torch.float64) + 0.5) / length
        shape = [1] * like.ndim
        shape[axis] = -1
        weight = torch.sin(math.pi * place).square().to(like.dtype).reshape(shape)
        total, weights = torch.zeros_like(like), torch.zeros_like(like.select(0, 0).unsqueeze(0))
        for clean, start in zip(cleans, starts, strict=True):
            total.narrow(axis, start, length).add_(weight * clean)
            weights.narrow(axis, start, length).add_(weight)
        return total / weights
