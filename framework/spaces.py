"""Where noise lives: the linear subspace in which a state, its noise and every prediction of it stay.

A Space draws standard noise in the subspace, projects onto it, and counts its dimensions. Padding is exactly zero and a
centre of mass is exactly zero in every state: the sampler projects after each stage, training projects each target.

    Euclidean            all of R^d: images, spectrograms
    Masked               sets and sequences of varying size, padded: rows where condition[mask] is False are zero
    ZeroCentreOfMass     Masked, and the mean over valid rows is zero (Xu et al. 2022, GeoDiff; Hoogeboom et al. 2022)
    Product              one space a component
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.noise import NoiseKey
from framework.state import Condition, State, device_of


class Space(Protocol):
    """The role; see the module's docstring."""

    def noise(self, key: NoiseKey, condition: Condition) -> State:
        """Standard noise in the space for each row of the condition."""
        ...

    def project(self, x: State, condition: Condition) -> State:
        """The nearest point of the space: idempotent."""
        ...

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        """Dimensions of the space for each row: float64 (B,)."""
        ...


def _reference(condition: Condition) -> Tensor:
    """A float32 tensor on the device where the condition lies (a TensorDict of parts need not say)."""
    return _number_on(device_of(condition))


@functools.lru_cache(maxsize=16)
def _number_on(device: torch.device) -> Tensor:
    """One for each device: only its type and device are asked for."""
    return torch.zeros((), device=device, dtype=torch.float32)


@dataclass(frozen=True)
class Euclidean:
    """All of R^shape; `shape` is a sample's, without the batch."""

    shape: Sequence[int]

    def noise(self, key: NoiseKey, condition: Condition) -> Tensor:
        return key.normal(tuple(self.shape), _reference(condition))

    def project(self, x: State, condition: Condition) -> State:
        return x

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        dimensions = float(torch.Size(self.shape).numel())
        return torch.full(condition.batch_size, dimensions, dtype=torch.float64, device=device_of(condition))


@dataclass(frozen=True)
class Masked:
    """Sets and sequences of up to N rows; condition[mask] is bool (B, N) and says which rows are real.

    `features` is the shape of a row, or the number of its features. The noise of a row does not depend on N. A mask of
    more axes says more: with (B, N, C) and features=() it tells of each entry of a table whether it is there.
    """

    features: int | Sequence[int]
    mask: str = "mask"

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of a row."""
        return (self.features,) if isinstance(self.features, int) else tuple(self.features)

    def noise(self, key: NoiseKey, condition: Condition) -> Tensor:
        rows = condition[self.mask].shape[1:]
        return self.project(key.normal((*rows, *self.row), _reference(condition)), condition)

    def project(self, x: Tensor, condition: Condition) -> Tensor:  # type: ignore[override]
        return torch.where(self._real(condition), x, 0.0)

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        return condition[self.mask].flatten(1).sum(1).double() * math.prod(self.row)

    def _real(self, condition: Condition) -> Tensor:
        """The mask (B, N, ..., 1, ...) beside a state."""
        mask: Tensor = condition[self.mask]
        return mask.reshape(mask.shape + (1,) * len(self.row))


@dataclass(frozen=True)
class ZeroCentreOfMass(Masked):
    """Masked sets whose valid rows have mean zero: (n - 1) * features dimensions."""

    def project(self, x: Tensor, condition: Condition) -> Tensor:  # type: ignore[override]
        mask = self._real(condition)
        x = torch.where(mask, x, 0.0)
        mean = x.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        return torch.where(mask, x - mean, 0.0)

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        return (condition[self.mask].sum(1).double() - 1).clamp(min=0) * math.prod(self.row)


@dataclass(frozen=True)
class Product:
    """One space a component of a TensorDict state; each draws from a key of its own."""

    components: Mapping[str, Space]

    def noise(self, key: NoiseKey, condition: Condition) -> TensorDict:
        parts = {name: space.noise(key.component(name), condition) for name, space in self.components.items()}
        return TensorDict(parts, batch_size=condition.batch_size)

    def project(self, x: TensorDict, condition: Condition) -> TensorDict:  # type: ignore[override]
        parts = {name: space.project(x[name], condition) for name, space in self.components.items()}
        return TensorDict(parts, batch_size=x.batch_size)

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        parts = [space.degrees_of_freedom(condition) for space in self.components.values()]
        return torch.stack(parts).sum(0)
