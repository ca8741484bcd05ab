r"""Couplings: which noise meets which data in training, within one sample.

Noise and data are drawn independently by default. Where the noise's law does not change under a group (its rows may be
permuted and rotated), any member of the orbit of a draw is as likely as another, and the nearest to the data may be
taken: paths become shorter and cross less (Song et al. 2023, "Equivariant flow matching", 2312.07474; Klein et al.
2023, 2306.15030). The prior at t = 1 keeps its law as long as the choice says nothing of the data that the network is
not to find out: rows that mean different things in the data (tokens that are fixed) must not be permuted.

The law of the noise given the data is another than the independent one, so stochastic solvers, whose noise is fresh,
undo another process than was trained. It is meant for flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from framework.state import Condition


class Coupling(Protocol):
    """The role: noise (B, N, D) as it meets the data x_0 of the same shape."""

    def __call__(self, noise: Tensor, x_0: Tensor, condition: Condition) -> Tensor: ...


@dataclass(frozen=True)
class EquivariantOptimalTransport:
    """Each sample's rows of noise permuted (optimal assignment), and then rotated (Kabsch), to lie near its data.

    Attributes:
        permute: whether rows may change places; never where their identity is fixed.
        rotate: whether the noise is rotated, without reflections.
        mask: the key of the condition's mask (B, N) of real rows.
    """

    permute: bool = True
    rotate: bool = True
    mask: str = "mask"

    def __call__(self, noise: Tensor, x_0: Tensor, condition: Condition) -> Tensor:
        if self.permute:
            noise = permuted(noise, x_0, condition[self.mask])
        return rotated(noise, x_0) if self.rotate else noise


def permuted(noise: Tensor, x_0: Tensor, mask: Tensor) -> Tensor:
    """The rows of noise (B, N, D) in the order that minimises the sum of squared distances to x_0; padding stays."""
    costs = torch.cdist(x_0.double(), noise.double()).square().cpu().numpy()
    order = torch.arange(noise.shape[1]).repeat(len(noise), 1)
    for row, (cost, real) in enumerate(zip(costs, mask.cpu().numpy(), strict=True)):
        rows = real.nonzero()[0]
        order[row, rows] = torch.from_numpy(rows[linear_sum_assignment(cost[rows][:, rows])[1]])
    return noise.gather(1, order.to(noise.device)[..., None].expand_as(noise))


def rotated(moved: Tensor, fixed: Tensor) -> Tensor:
    """`moved` (B, N, D) under the rotation about the origin that brings it nearest to `fixed`."""
    return moved @ kabsch(moved, fixed)


def kabsch(moved: Tensor, fixed: Tensor) -> Tensor:
    """The proper rotations R (B, D, D) that minimise |moved R - fixed|, both (B, N, D) about the origin (Kabsch 1976).

    Rows of zeros (padding) have no say. They are computed in double precision, for the singular value decomposition.
    """
    u, _, vh = torch.linalg.svd(moved.double().mT @ fixed.double())
    scale = torch.ones(u.shape[:-1], dtype=torch.float64, device=u.device)
    scale[:, -1] = torch.linalg.det(u @ vh).sign()
    return ((u * scale[:, None, :]) @ vh).to(moved.dtype)
