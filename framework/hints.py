r"""What a network may be shown of the very sample that it is to make: parts of it, or a measurement.

A hint is a picture-like tensor (B, K, ...) in condition["hint"], which the network reads beside x_t, as more channels
(Saharia et al. 2022: SR3, 2104.07636, and Palette, 2111.05826). In training it is drawn from the clean state; when
sampling, a person's file says it; and where nothing is known it is all zero, which training shows as well, so that one
network makes samples from nothing, too.

    KnownPart    the state where a mask is True, and the mask: inpainting and outpainting
    Measured     A^+ A x of a linear operator A: super-resolution, colourisation

A network that was trained so draws from the conditional law as well as it can; replacement and guidance (`editing`)
need no such training, and approximate it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.editing.observed import Operator, pseudo_inverse
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.state import Condition

HINT = "hint"


class Hint(Protocol):
    """The role, for states that are one tensor (B, C, ...)."""

    def channels(self, channels: int) -> int:
        """K of states of C channels."""
        ...

    def draw(self, x_0: Tensor, key: NoiseKey) -> Tensor:
        """What is shown of clean states in training, (B, K, ...); nothing of some."""
        ...

    def of_known(self, state: Tensor, mask: Tensor) -> Tensor | None:
        """The hint that says `state` where `mask` is True; None if this one cannot."""
        ...

    def of_seen(self, operator: Operator, seen: Tensor) -> Tensor | None:
        """The hint that says that the operator saw this; None if this one cannot."""
        ...


@dataclass(frozen=True)
class KnownPart:
    """Boxes and half planes of the state are unknown in training, or all of it with probability `nothing`.

    Raises:
        UserError: `nothing` is no probability.
    """

    nothing: float = 0.2

    def __post_init__(self) -> None:
        _check_share(self.nothing)

    def channels(self, channels: int) -> int:
        return channels + 1

    def draw(self, x_0: Tensor, key: NoiseKey) -> Tensor:
        rows, sides = len(x_0), x_0.shape[2:]
        draws = key.component("hint").uniform((2 + 3 * len(sides),), torch.zeros((), device=x_0.device))
        inside = torch.ones((rows, 1, *sides), dtype=torch.bool, device=x_0.device)
        for axis, side in enumerate(sides):
            own = draws[:, 2 + 3 * axis : 5 + 3 * axis]
            length = (0.2 + 0.6 * own[:, 0]) * side  # of a box, along this axis
            start = own[:, 1] * (side - length)
            spans = (own[:, 2] < 0.25)[:, None]  # a whole stripe: the box goes from edge to edge
            place = torch.arange(side, device=x_0.device) + 0.5
            along = spans | ((place >= start[:, None]) & (place < (start + length)[:, None]))
            shape = [rows, 1, *[1] * len(sides)]
            shape[2 + axis] = side
            inside &= along.reshape(shape)
        row = (-1, *[1] * (inside.ndim - 1))
        known = inside ^ (draws[:, 0] < 0.7).reshape(row)  # more often the box is what is missing
        return self.of_known(x_0, known & (draws[:, 1] >= self.nothing).reshape(row))

    def of_known(self, state: Tensor, mask: Tensor) -> Tensor:
        shown = mask.expand(state.shape)[:, :1] if mask.shape[1] in (1, state.shape[1]) else mask
        return torch.cat([torch.where(shown, state, 0.0), shown.to(state.dtype)], dim=1)

    def of_seen(self, operator: Operator, seen: Tensor) -> None:
        return None


@dataclass(frozen=True)
class Measured:
    """What `operator` sees, brought back to the state's own shape; nothing at all with probability `nothing`.

    Raises:
        UserError: `nothing` is no probability.
    """

    operator: Operator
    nothing: float = 0.1

    def __post_init__(self) -> None:
        _check_share(self.nothing)

    def channels(self, channels: int) -> int:
        return channels + 1

    def draw(self, x_0: Tensor, key: NoiseKey) -> Tensor:
        draws = key.component("hint").uniform((), torch.zeros((), device=x_0.device))
        shown = (draws >= self.nothing).reshape(-1, *[1] * (x_0.ndim - 1))
        return self.of_seen(self.operator, self.operator.apply(x_0)) * shown  # type: ignore[operator]

    def of_known(self, state: Tensor, mask: Tensor) -> None:
        return None

    def of_seen(self, operator: Operator, seen: Tensor) -> Tensor | None:
        if operator != self.operator:
            return None
        back = pseudo_inverse(operator, seen)
        return torch.cat([back, torch.ones_like(back[:, :1])], dim=1)


def nothing_shown(hint: Hint, shape: Sequence[int], condition: Condition) -> Condition:
    """The condition of states of that shape, with a hint that says nothing."""
    rows = condition.batch_size[0]
    return with_hint(condition, torch.zeros(rows, hint.channels(shape[0]), *shape[1:]))


def with_hint(condition: Condition, hint: Tensor) -> Condition:
    """The condition with this hint in place of the one that may be there."""
    parts = {**{key: condition[key] for key in condition.keys()}, HINT: hint}  # noqa: SIM118
    return TensorDict(parts, batch_size=condition.batch_size)


def _check_share(nothing: float) -> None:
    if not 0 <= nothing <= 1:
        raise UserError(f"a hint shows nothing with a probability from 0 to 1, got nothing={nothing}")
