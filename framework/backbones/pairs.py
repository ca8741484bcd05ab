"""The unordered pairs of N nodes, each kept once: half the memory and half the work of dense pair tensors.

A symmetric pair tensor P (B, N, N, C) without its diagonal is its upper triangle, E = N (N - 1) / 2 rows (B, E, C).
Three linear maps go between nodes, rows and dense tensors, and each has its transpose as its derivative:

    sum_of_ends(a)_(ij) = a_i + a_j      difference_of_ends(a)_(ij) = a_i - a_j      dense(p)_ij = dense(p)_ji = p_(ij)

Sums of features are products with the incidence matrix. Differences, which are of positions, are gathered, since they
must stay exact where products are taken in fewer bits; their transposes are gathers and sums as well, and scattered
only on a CPU, where that is faster and has one order: so results are deterministic on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Where the rows of N >= 2 nodes lie.

    Attributes:
        first, second: (E,) the ends i < j of each row.
        square: (N * N,) the row of each pair (i, j); on the diagonal some row, whose content means nothing there.
        around: (N * (N - 1),) the rows that end in each node.
        incidence: (N, E) 1 where a node is an end of a row, else 0.
        is_first: (N, N - 1, 1) whether the node is the first end of such a row.
    """

    nodes: int
    first: Int[Tensor, " e"]
    second: Int[Tensor, " e"]
    square: Int[Tensor, " nn"]
    around: Int[Tensor, " nm"]
    incidence: Float[Tensor, "n e"]
    is_first: Bool[Tensor, "n m 1"]

    def sum_of_ends(self, a: Float[Tensor, "b n c"], to: Float[Tensor, "b e c"]) -> Float[Tensor, "b e c"]:
        """To each row, the sum of its ends and of what is in `to`."""
        return torch.baddbmm(to, self.incidence.to(a.dtype).mT.expand(len(a), -1, -1), a)

    def difference_of_ends(self, a: Float[Tensor, "*b n c"]) -> Float[Tensor, "*b e c"]:
        return _DifferenceOfEnds.apply(a, self)

    def sum_around(self, p: Float[Tensor, "b e c"]) -> Float[Tensor, "b n c"]:
        """The transpose of `sum_of_ends`: to each node the sum of its rows."""
        return torch.bmm(self.incidence.to(p.dtype).expand(len(p), -1, -1), p)

    def flow_into(self, p: Float[Tensor, "*b e c"]) -> Float[Tensor, "*b n c"]:
        """The transpose of `difference_of_ends`: to each node its rows' sum, each with its sign."""
        return _FlowInto.apply(p, self)

    def dense(self, p: Float[Tensor, "b e c"]) -> Float[Tensor, "b n n c"]:
        """Both halves; what stands on the diagonal means nothing."""
        return _Dense.apply(p, self)

    def triangle(self, dense: Float[Tensor, "b n n c"]) -> Float[Tensor, "b e c"]:
        """The upper half of a dense tensor."""
        return dense.flatten(1, 2).index_select(1, self.first * self.nodes + self.second)


@lru_cache(maxsize=256)
def pairs(nodes: int, device: torch.device) -> Pairs:
    """The rows of `nodes` >= 2 nodes, kept once a size and device."""
    with torch.inference_mode(False):  # made in a sampler's loop, they must serve a training step as well
        first, second = torch.triu_indices(nodes, nodes, 1, device=device)
        row = torch.zeros(nodes, nodes, dtype=torch.long, device=device)
        row[first, second] = row[second, first] = torch.arange(len(first), device=device)
        off = ~torch.eye(nodes, dtype=torch.bool, device=device)
        index = torch.arange(nodes, device=device)
        is_first = (index[:, None] < index)[off].reshape(nodes, nodes - 1, 1)
        incidence = ((index[:, None] == first) | (index[:, None] == second)).float()
        return Pairs(nodes, first, second, row.flatten(), row[off], incidence, is_first)


class _DifferenceOfEnds(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, at: Pairs) -> Tensor:
        ctx.at = at
        return a.index_select(-2, at.first).sub_(a.index_select(-2, at.second))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.at.flow_into(grad), None


class _FlowInto(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor, at: Pairs) -> Tensor:
        ctx.at = at
        return _collect(p, at)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.at.difference_of_ends(grad), None


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor, at: Pairs) -> Tensor:
        ctx.at = at
        return p.index_select(-2, at.square).unflatten(-2, (at.nodes, at.nodes))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Fold.apply(grad, ctx.at), None


class _Fold(torch.autograd.Function):
    """The transpose of `dense`, but for the diagonal, which is left out of both."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, at: Pairs) -> Tensor:
        ctx.at = at
        flat = grad.flatten(-3, -2)
        upper = flat.index_select(-2, at.first * at.nodes + at.second)
        return upper.add_(flat.index_select(-2, at.second * at.nodes + at.first))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.at.dense(grad), None


def _collect(p: Tensor, at: Pairs) -> Tensor:
    """To each node the rows of which it is the first end, less those of which it is the second."""
    if p.device.type == "cpu":
        out = p.new_zeros(*p.shape[:-2], at.nodes, p.shape[-1]).index_add_(-2, at.first, p)
        return out.index_add_(-2, at.second, p, alpha=-1)
    rows = p.index_select(-2, at.around).unflatten(-2, (at.nodes, at.nodes - 1))
    return torch.where(at.is_first, rows, -rows).sum(-2)
