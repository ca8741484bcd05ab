"""The space of features of unordered pairs: continuous where `framework.categories.Pairs` has tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.categories import Pairs
from framework.noise import NoiseKey
from framework.state import Condition, device_of


@dataclass(frozen=True)
class SymmetricPairs:
    """(B, N, N, features): entries (i, j) and (j, i) are equal, the diagonal and padding zero.

    The noise is standard in this subspace: the two entries of a pair are one draw, each of variance 1/2. It does not
    depend on how far the set is padded.
    """

    features: int
    mask: str = "mask"

    def noise(self, key: NoiseKey, condition: Condition) -> Tensor:
        layout = Pairs(self.mask)
        pairs = layout.valid(condition).shape[1]
        reference = torch.zeros((), device=device_of(condition))
        return layout.unpack(math.sqrt(0.5) * key.normal((pairs, self.features), reference), condition)

    def project(self, x: Tensor, condition: Condition) -> Tensor:
        layout = Pairs(self.mask)
        return layout.unpack(layout.pack(x), condition)

    def degrees_of_freedom(self, condition: Condition) -> Tensor:
        return Pairs(self.mask).valid(condition).sum(1).double() * self.features
