"""States of several components as one tensor (B, N), which is all that diffusers' schedulers know.

Both sides walk the packed states, so that they stay alike. Padding is zero in every state and in every error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from framework.denoiser import Denoiser, Prediction
from framework.noise import NoiseKey
from framework.schedules import Schedule
from framework.spaces import Space
from framework.state import Condition, State, components, of_components


@dataclass(frozen=True)
class Packing:
    """The shapes of a sample's components by name, in their order."""

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, state: State) -> Packing:
        return cls({name: tuple(part.shape[1:]) for name, part in components(state).items()})

    def pack(self, state: State) -> Tensor:
        parts = components(state)
        return torch.cat([parts[name].flatten(1) for name in self.shapes], 1)

    def unpack(self, x: Tensor) -> State:
        pieces = x.split([math.prod(shape) for shape in self.shapes.values()], 1)
        named = zip(self.shapes.items(), pieces, strict=True)
        return of_components({name: piece.unflatten(1, shape) for (name, shape), piece in named})


@dataclass(frozen=True)
class PackedSpace:
    """A space, of packed states."""

    inner: Space
    packing: Packing

    def noise(self, key: NoiseKey, condition: Condition) -> Tensor:
        return self.packing.pack(self.inner.noise(key, condition))

    def project(self, x: Tensor, condition: Condition) -> Tensor:
        return self.packing.pack(self.inner.project(self.packing.unpack(x), condition))

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        return self.inner.degrees_of_freedom(condition)


@dataclass(frozen=True)
class PackedDenoiser:
    """A denoiser, of packed states."""

    inner: Denoiser
    packing: Packing

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        clean = self.packing.pack(self.inner(self.packing.unpack(x_t), t, condition).clean)
        return Prediction(clean, x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def packed(denoiser: Denoiser, space: Space, noise: State) -> tuple[Denoiser, Space, Tensor]:
    """The three for packed states; as they are where a state is one tensor."""
    if not isinstance(noise, TensorDict):
        return denoiser, space, noise
    packing = Packing.of(noise)
    return PackedDenoiser(denoiser, packing), PackedSpace(space, packing), packing.pack(noise)  # type: ignore[return-value]
