"""What the networks over points in space share: what they hand back, the removal of the centre, and checks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Graph(NamedTuple):
    """What a network over points hands back; padding is exactly zero in all of it.

    They all take positions (B, N, 3), nodes (B, N, F), pairs (B, N, N, G) that are symmetric and whose diagonal is not
    read, a noise level (B,) in [0, 1000], a mask (B, N) that is True where a node is real, a condition (B, C) or None,
    and `more_positions` (B, N, 3, M) or None: M further sets of points, one of each to a node.

    Attributes:
        positions: (B, N, 3) displacements, or positions; with zero mean over the real nodes either way.
        nodes: (B, N, O).
        pairs: (B, N, N, P), symmetric, with a diagonal of zeros.
    """

    positions: Float[Tensor, "b n 3"]
    nodes: Float[Tensor, "b n o"]
    pairs: Float[Tensor, "b n n p"]


def centred(x: Float[Tensor, "b n *c"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n *c"]:
    """Zero mean over the real nodes, and zeros in padding, whatever lay there."""
    shape = (*mask.shape, *[1] * (x.ndim - 2))
    real = mask.reshape(shape)
    x = torch.where(real, x, 0.0)
    return torch.where(real, x - x.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1), 0.0)


def check_inputs(condition: Tensor | None, conditions: int, more_positions: Tensor | None, more: int) -> None:
    """Refuse a condition or further points that a network was not made for.

    Raises:
        ValueError: says what was expected.
    """
    found = 0 if condition is None else condition.shape[-1]
    if found != conditions:
        raise ValueError(f"this network reads a condition of {conditions} features, got {found}")
    found = 0 if more_positions is None else more_positions.shape[-1]
    if found != more:
        raise ValueError(f"this network reads {more} further sets of points, got {found}")


def real_pairs(mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n n"]:
    """Pairs of two different real nodes."""
    other = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, :, None] & mask[:, None, :] & other
