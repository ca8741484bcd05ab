"""Rotations of space drawn by Haar's measure, the one law under which every orientation is as likely as any other.

Four independent normal numbers point in a uniform direction of four dimensions, and a unit quaternion (w, v) turns x to

    R x = x + 2 w v × x + 2 v × (v × x),

which maps the uniform law of the sphere to Haar's law of SO(3) (Shoemake, "Uniform Random Rotations", Graphics Gems
III, 1992). Uniform Euler angles do not: they crowd at the poles.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def haar_rotations(
    count: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b 3 3"]:
    """`count` proper rotations (B, 3, 3), for points that are columns: y = R x.

    Args:
        count: how many.
        generator: of the device.
        device: where they are drawn, in double precision.
        dtype: of the result.
    """
    q = torch.randn(count, 4, generator=generator, device=device, dtype=torch.float64)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    zero = torch.zeros_like(w)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).unflatten(1, (3, 3))
    turn = torch.eye(3, dtype=torch.float64, device=device) + 2 * w[:, None, None] * cross + 2 * cross @ cross
    return turn.to(dtype)


def rotated(positions: Float[Tensor, "b n 3"], by: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b n 3"]:
    """Each set of points turned by its rotation."""
    return torch.einsum("bij,bnj->bni", by.to(positions.dtype), positions)
