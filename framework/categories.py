r"""Where tokens live: how many classes there are, and which entries of an array are free to differ.

Tokens are int64 in an array (B, *positions) that networks understand; a solver sees them packed, as one row (B, M) of
the entries that vary independently:

    Array(shape)     a sequence or a grid of fixed shape: every entry
    Nodes(mask)      sets of varying size: (B, N), of which condition[mask] says which are real
    Pairs(mask)      symmetric pairs of them: (B, N, N) without a diagonal; one draw serves (i, j) and (j, i)

What is not free is fixed: padding and the diagonal hold 0, and a pair's two entries are equal. Pairs are packed in the
order (1, 0), (2, 0), (2, 1), (3, 0), ..., so that padding comes last and a pair meets the same random number however
far its set is padded. Probabilities (B, *positions, K) pack like tokens; those of a pair are averaged.

`draw` is the one way in which tokens are drawn here: a categorical's inverse distribution function at one uniform. In
float64, because in float32 the rounding of common recipes acts like a lower temperature (Zheng et al. 2024,
arXiv:2409.02908, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from framework.noise import NoiseKey
from framework.state import Condition, device_of


class Layout(Protocol):
    """Which entries of an array are free, and how they are packed."""

    def valid(self, condition: Condition) -> Tensor:
        """Which packed entries exist: bool (B, M)."""
        ...

    def pack(self, x: Tensor) -> Tensor:
        """(B, *positions, ...) to (B, M, ...)."""
        ...

    def unpack(self, packed: Tensor, condition: Condition) -> Tensor:
        """(B, M, ...) to (B, *positions, ...), with 0 where nothing is free."""
        ...


def _clear(packed: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid.reshape(valid.shape + (1,) * (packed.ndim - 2)), packed, packed.new_zeros(()))


@dataclass(frozen=True)
class Array:
    """Every entry of an array of this shape, without the batch."""

    shape: Sequence[int]

    def valid(self, condition: Condition) -> Tensor:
        size = (*condition.batch_size, math.prod(self.shape))
        return torch.ones(size, dtype=torch.bool, device=device_of(condition))

    def pack(self, x: Tensor) -> Tensor:
        return x.flatten(1, len(self.shape)) if self.shape else x.unsqueeze(1)

    def unpack(self, packed: Tensor, condition: Condition) -> Tensor:
        return packed.reshape(len(packed), *self.shape, *packed.shape[2:])


@dataclass(frozen=True)
class Nodes:
    """The members of a set; condition[mask] is bool (B, N)."""

    mask: str = "mask"

    def valid(self, condition: Condition) -> Tensor:
        return condition[self.mask]

    def pack(self, x: Tensor) -> Tensor:
        return x

    def unpack(self, packed: Tensor, condition: Condition) -> Tensor:
        return _clear(packed, self.valid(condition))


@dataclass(frozen=True)
class Pairs:
    """Unordered pairs of two members of a set; condition[mask] is bool (B, N)."""

    mask: str = "mask"

    def valid(self, condition: Condition) -> Tensor:
        mask = condition[self.mask]
        i, j = _pairs(mask.shape[1], mask.device)
        return mask[:, i] & mask[:, j]

    def pack(self, x: Tensor) -> Tensor:
        i, j = _pairs(x.shape[1], x.device)
        return (x[:, i, j] + x[:, j, i]) / 2 if x.is_floating_point() else x[:, i, j]

    def unpack(self, packed: Tensor, condition: Condition) -> Tensor:
        n = condition[self.mask].shape[1]
        i, j = _pairs(n, packed.device)
        out = packed.new_zeros((len(packed), n, n, *packed.shape[2:]))
        out[:, i, j] = out[:, j, i] = _clear(packed, self.valid(condition))
        return out


def _pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """i > j of all pairs, by i and then by j."""
    i, j = torch.tril_indices(n, n, -1, device=device)
    return i, j


@dataclass(frozen=True)
class Categories:
    """Tokens 0 ... classes - 1 in a layout; it fills the role of a Space, whose noise is uniform here.

    Raises:
        ValueError: there are fewer than two classes.
    """

    classes: int
    layout: Layout

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"tokens need at least two classes, got {self.classes}")

    def uniform(self, key: NoiseKey, condition: Condition) -> Tensor:
        """One number in [0, 1) for each packed entry: float64 (B, M)."""
        entries = self.layout.valid(condition).shape[1]
        return key.uniform((entries,), torch.zeros((), dtype=torch.float64, device=device_of(condition)))

    def noise(self, key: NoiseKey, condition: Condition) -> Tensor:
        """The uniforms at their places: float64 (B, *positions)."""
        return self.layout.unpack(self.uniform(key, condition), condition)

    def project(self, x: Tensor, condition: Condition) -> Tensor:  # type: ignore[override]
        """Tokens (B, *positions) or probabilities (B, *positions, K) with padding 0 and pairs symmetric."""
        return self.layout.unpack(self.layout.pack(x), condition)

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        """Free entries for each row: float64 (B,)."""
        return self.layout.valid(condition).sum(1).double()


def draw(law: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens (...) from laws (..., K), which need not sum to one, by uniforms (...) in [0, 1): the inverse CDF.

    A class of probability zero is never drawn, whatever the rounding.
    """
    cumulative = law.double().cumsum(-1)
    total = cumulative[..., -1:]
    below = (cumulative <= uniforms.double().unsqueeze(-1) * total).sum(-1)
    last = (cumulative < total).sum(-1)
    return torch.minimum(below, last)
