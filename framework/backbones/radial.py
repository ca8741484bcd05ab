"""Distances as smooth features: Gaussians on a stretched axis, fine where nodes are near and coarse where they are far.

A distance d >= 0 is laid on the axis s = log(1 + d / unit), and K Gaussians stand on it at equal steps:

    f_k(d) = exp(-((s - c_k) / w)^2 / 2),      c_k = k w,      w = log(1 + reach / unit) / (K - 1),

so that the steps grow with the distance and nothing is cut off: beyond `reach` the last one falls slowly. Neighbours
cross at 0.88. Schuett et al., "SchNet", arXiv 1706.08566, section 4.1, has them at equal steps of d itself.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framework.errors import UserError


class RadialBasis(nn.Module):
    """Distances (*) -> features (*, count).

    Args:
        count: Gaussians, at least two.
        reach: where the last one stands, in units of the positions.
        unit: below about this distance steps are equal, above it they grow; in units of the positions.

    Raises:
        UserError: fewer than two Gaussians, or a reach or unit that is not positive.
    """

    centres: Tensor

    def __init__(self, count: int = 16, reach: float = 10.0, unit: float = 1.0) -> None:
        super().__init__()
        if count < 2 or reach <= 0 or unit <= 0:
            raise UserError(f"a radial basis needs count >= 2, reach > 0, unit > 0; got {count}, {reach}, {unit}")
        self.unit = unit
        self.width = math.log1p(reach / unit) / (count - 1)
        self.register_buffer("centres", torch.arange(count, dtype=torch.float64), persistent=False)

    def forward(self, distance: Float[Tensor, "*b"]) -> Float[Tensor, "*b count"]:
        s = torch.log1p(distance / self.unit) / self.width
        return torch.exp(-0.5 * (s[..., None] - self.centres.to(s.dtype)).square())


def lengths(squared: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Square roots whose slope stays finite at zero."""
    return torch.sqrt(squared + 1e-8)
