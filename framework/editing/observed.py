r"""Samples that agree with a measurement: y = A x_0 + e, e ~ N(0, r^2 I), with A linear.

DDNM (Wang et al. 2022, 2212.00490), for r = 0. The clean mean's part in the range of A^T is replaced by what was seen,

    D_y = D + A^+ (y - A D),

so that A x_0 = y holds at the end, to rounding. Like replacement, which it is for A a mask, it does not draw from the
posterior: what the network says of the null space is taken as it is. `TimeTravel` helps here too (their Section 3.3).

PiGDM (Song, Vahdat, Mardani & Kautz 2023, "Pseudoinverse-guided diffusion models"). With the assumption x_0 | x_t ~
N(D, v I), v = s^2 sigma^2 / (alpha^2 s^2 + sigma^2), the likelihood's score is known, and by Tweedie's formula

    D_y = D + (sigma^2 / alpha) (dD / dx)^T A^T (v A A^T + r^2 I)^{-1} (y - A D),

one backward pass through the denoiser an evaluation. It weighs what was seen by its noise and leads the null space
too. s is the deviation of the data, 1 in the paper. It is exact for data N(0, s^2 I), and draws from the posterior only
nearly otherwise. At alpha = 0, where dD/dx carries nothing, (sigma^2 / alpha) dD/dx is the covariance itself, v I.

The operators here have A A^T = gram I on their range, so that A^+ = A^T / gram and the inverse is a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.editing.task import Run, rows_of
from framework.errors import UserError
from framework.ledger import Ledger
from framework.likelihood import pull_back
from framework.schedules import Schedule
from framework.state import Condition, State, combine


class Operator(Protocol):
    """The role: A with A A^T = gram I on its range. States are tensors (B, ...)."""

    @property
    def gram(self) -> float: ...

    def apply(self, x: Tensor) -> Tensor:
        """A x."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""
        ...


@dataclass(frozen=True)
class Keep:
    """What lies under a bool mask that broadcasts to the state: inpainting; a band of a spectrum, if axes are bands."""

    mask: Tensor
    gram: ClassVar[float] = 1.0

    def apply(self, x: Tensor) -> Tensor:
        return torch.where(self.mask.to(x.device), x, 0.0)

    adjoint = apply


@dataclass(frozen=True)
class AveragePool:
    """The mean over blocks: {axis: block}, the batch being axis 0; a configuration writes the axes as text.

    {2: 4, 3: 4} is super-resolution by 4 of images (B, C, H, W), {1: 3} colourisation: all channels as one.

    Raises:
        UserError: a block is less than 1, or does not divide its axis.
    """

    blocks: Mapping[Any, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", {int(axis): block for axis, block in self.blocks.items()})
        if not self.blocks or min(self.blocks.values()) < 1 or min(self.blocks) < 1:
            raise UserError(f"pooling needs axes after the batch with blocks of at least 1, got {dict(self.blocks)}")

    @property
    def gram(self) -> float:
        return 1 / math.prod(self.blocks.values())

    def apply(self, x: Tensor) -> Tensor:
        for axis, block in self.blocks.items():
            if x.shape[axis] % block:
                raise UserError(f"blocks of {block} do not divide axis {axis}, which has {x.shape[axis]} entries")
            x = x.unflatten(axis, (-1, block)).mean(axis + 1)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        for axis, block in self.blocks.items():
            y = y.repeat_interleave(block, axis) / block
        return y


def pseudo_inverse(operator: Operator, y: Tensor) -> Tensor:
    """A^+ y, the least x with A x = y."""
    return operator.adjoint(y) / operator.gram


@dataclass(frozen=True)
class DDNM:
    """`seen` (n, ...) is y of n samples, without noise."""

    operator: Operator
    seen: Tensor
    before_guidance: ClassVar[bool] = False

    def __call__(self, run: Run) -> Run:
        return replace(run, denoiser=_Consistent(run.denoiser, self.operator, _seen(self.seen, run)))


@dataclass(frozen=True)
class PiGDM:
    """`seen` (n, ...) is y of n samples, with noise of deviation `noise`; `spread` is the data's deviation.

    Raises:
        UserError: noise is negative, or spread not positive.
    """

    operator: Operator
    seen: Tensor
    noise: float = 0.0
    spread: float = 1.0
    before_guidance: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.noise < 0 or self.spread <= 0:
            raise UserError(f"a measurement has noise >= 0 and data a spread > 0, got {self.noise} and {self.spread}")

    def __call__(self, run: Run) -> Run:
        return replace(run, denoiser=_PseudoinverseGuided(run.denoiser, self, _seen(self.seen, run), run.ledger))


def _seen(seen: Tensor, run: Run) -> Tensor:
    rows = rows_of(seen, run)
    assert isinstance(rows, Tensor)
    return rows


def _tensor(state: State) -> Tensor:
    if not isinstance(state, Tensor):
        raise UserError("linear operators are for states that are one tensor, not for products")
    return state


class _Consistent:
    def __init__(self, denoiser: Denoiser, operator: Operator, seen: Tensor) -> None:
        self.denoiser, self.operator, self.seen = denoiser, operator, seen

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        prediction = self.denoiser(x_t, t, condition)
        clean = _tensor(prediction.clean)
        missing = self.seen.to(clean.dtype) - self.operator.apply(clean)
        return prediction.with_clean(clean + pseudo_inverse(self.operator, missing))


class _PseudoinverseGuided:
    def __init__(self, denoiser: Denoiser, how: PiGDM, seen: Tensor, ledger: Ledger) -> None:
        self.denoiser, self.how, self.seen, self.ledger = denoiser, how, seen, ledger

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: State, t: Tensor, condition: Condition) -> Prediction:
        how, operator = self.how, self.how.operator
        x = _tensor(x_t).detach().requires_grad_()
        before = self.ledger.forward
        with torch.enable_grad():
            prediction = self.denoiser(x, t, condition)
            clean = _tensor(prediction.clean)
        alpha, sigma = self.schedule.alpha_sigma(t)
        variance = how.spread**2 * sigma**2 / (alpha**2 * how.spread**2 + sigma**2)
        missing = self.seen.to(clean.dtype) - operator.apply(clean.detach())
        weight = 1 / (variance * operator.gram + how.noise**2)
        pull = operator.adjoint(_tensor(combine([(weight, missing)])))
        back = pull_back(clean, x, pull)
        self.ledger.count_backward(self.ledger.forward - before)
        known = alpha > 0
        along = torch.where(known, sigma**2 / torch.where(known, alpha, 1.0), 0.0)
        led = combine([(1.0, clean.detach()), (along, back), (torch.where(known, 0.0, variance), pull)])
        return replace(prediction, clean=led, x_t=x_t)
