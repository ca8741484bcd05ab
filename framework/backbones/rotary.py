"""Rotary positions: queries and keys turn by angles that grow with their position, so that scores see differences.

The d features of a head are d / 2 points of the plane, and the point i of a token at position p is turned by w_i p:

    <R(p) q, R(s) k> = <q, R(s - p) k>,    R(p) = diag of rotations by w_1 p, ..., w_(d/2) p,

because a rotation is orthogonal and R(p)' R(s) = R(s - p). The rates w fall geometrically from 1 to about 1 / base
radians a position: Su et al., "RoFormer", arXiv 2104.09864, section 3.2. With A axes (two for pictures) each owns
1 / A of the points and turns them by its own coordinate: the axial form of Heo et al., arXiv 2403.13298, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor


class Turn(NamedTuple):
    """The rotations of N positions: cosines and sines of the angle of each of the d / 2 points."""

    cos: Float[Tensor, "n h"]
    sin: Float[Tensor, "n h"]


def rates(count: int, base: float = 1e4) -> Float[Tensor, " count"]:
    """Radians a position, base^(-i / count) for i = 0, ..., count - 1: from 1 to nearly 1 / base."""
    return base ** (-torch.arange(count, dtype=torch.float32) / count)


def turn(positions: Num[Tensor, "n a"], features: int, base: float = 1e4) -> Turn:
    """The rotations of heads of `features` features at positions (N, A); computed in float32.

    Raises:
        ValueError: the features of a head cannot be shared out to A axes in pairs.
    """
    axes = positions.shape[1]
    if features % (2 * axes):
        raise ValueError(
            f"heads of {features} features cannot be turned over {axes} axes; choose a width and a number of heads "
            f"such that width / heads is a multiple of {2 * axes}"
        )
    w = rates(features // (2 * axes), base).to(positions.device)
    angles = (positions.float()[:, :, None] * w).flatten(1)
    return Turn(angles.cos(), angles.sin())


def rotate(x: Float[Tensor, "*b n d"], by: Turn) -> Float[Tensor, "*b n d"]:
    """Each token's points (x_i, x_(i + d/2)) turned by its angles."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * by.cos - b * by.sin, a * by.sin + b * by.cos], dim=-1).to(x.dtype)


def waves(x: Float[Tensor, "*b"], features: int, base: float = 1e3) -> Float[Tensor, "*b features"]:
    """Coordinates as `features` cosines and sines at the rates above: a place, for a network to read.

    Rotary positions alone leave tokens of equal content equal, wherever they stand; a network that shall know where
    its tokens lie in the whole is told by these (Vaswani et al., arXiv 1706.03762, section 3.5).
    """
    phase = x.float()[..., None] * rates(features // 2, base).to(x.device)
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
