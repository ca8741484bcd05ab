"""From a sample's squared error, summed over its elements, to one number.

    MSE           S / n
    PseudoHuber   sqrt(S / n + c^2) - c: quadratic for small errors, linear for large ones (Song & Dhariwal 2024)

S is the sum over a sample's elements and n its number of dimensions, so padding, which is zero in prediction and target
alike, adds neither to the one nor to the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Distance(Protocol):
    """The role: squared sums (B,) and dimensions (B,) to distances (B,)."""

    def __call__(self, squared: Tensor, dimensions: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class MSE:
    """The mean squared error."""

    def __call__(self, squared: Tensor, dimensions: Tensor) -> Tensor:
        return squared / dimensions


@dataclass(frozen=True)
class PseudoHuber:
    """The pseudo-Huber distance of the root mean square; `c` is where it turns from quadratic to linear."""

    c: float = 0.03

    def __call__(self, squared: Tensor, dimensions: Tensor) -> Tensor:
        return (squared / dimensions + self.c**2).sqrt() - math.fabs(self.c)
