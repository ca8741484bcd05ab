"""EDM's network in the formulation that it was published in: lists of edges, gathers, and a scatter for each sum.

Written from the paper (Hoogeboom et al., arXiv 2203.17003, appendix B) and from the layout of its weights, to stand
beside our dense rewrite: the first layer of each perceptron is one product over all edges, of both ends and the
features of the distance; padding is computed and then masked; every sum over neighbours is a `scatter_add_`. The
names of its parameters are those of the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MessageLayer(nn.Module):
    """Messages along edges, gated, summed at their first end."""

    def __init__(self, width: int, edges: int, attention: bool, normalization: float) -> None:
        super().__init__()
        self.normalization = normalization
        self.edge_mlp = nn.Sequential(
            nn.Linear(2 * width + edges, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.node_mlp = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.att_mlp = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid()) if attention else None

    def forward(self, h: Tensor, ends: Tensor, features: Tensor, nodes: Tensor, edges: Tensor) -> Tensor:
        messages = self.edge_mlp(torch.cat([h[ends[0]], h[ends[1]], features], dim=1))
        if self.att_mlp is not None:
            messages = messages * self.att_mlp(messages)
        total = scatter(messages * edges, ends[0], len(h)) / self.normalization
        return (h + self.node_mlp(torch.cat([h, total], dim=1))) * nodes


class MoveLayer(nn.Module):
    """Steps of the positions along edges."""

    def __init__(self, width: int, edges: int, coords_range: float | None, normalization: float) -> None:
        super().__init__()
        self.normalization, self.coords_range = normalization, coords_range
        last = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(last.weight, gain=0.001)
        self.coord_mlp = nn.Sequential(
            nn.Linear(2 * width + edges, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last
        )

    def forward(
        self, h: Tensor, x: Tensor, ends: Tensor, arrows: Tensor, features: Tensor, nodes: Tensor, edges: Tensor
    ) -> Tensor:
        size = self.coord_mlp(torch.cat([h[ends[0]], h[ends[1]], features], dim=1))
        if self.coords_range is not None:
            size = torch.tanh(size) * self.coords_range
        return (x + scatter(arrows * size * edges, ends[0], len(x)) / self.normalization) * nodes


class Block(nn.Module):
    """Message layers, then a step."""

    def __init__(
        self, width: int, sublayers: int, attention: bool, coords_range: float | None, normalization: float
    ) -> None:
        super().__init__()
        self.sublayers = sublayers
        for k in range(sublayers):
            self.add_module(f"gcl_{k}", MessageLayer(width, 2, attention, normalization))
        self.gcl_equiv = MoveLayer(width, 2, coords_range, normalization)


class ScatterEGNN(nn.Module):
    """(positions (B, N, 3), features (B, N, F), time (B,), mask (B, N)) -> (displacements, features)."""

    def __init__(
        self,
        features: int,
        width: int = 256,
        layers: int = 9,
        sublayers: int = 1,
        attention: bool = True,
        coords_range: float | None = 15.0,
        norm_constant: float = 1.0,
        normalization: float = 1.0,
    ) -> None:
        super().__init__()
        self.layers, self.norm_constant = layers, norm_constant
        self.embedding = nn.Linear(features + 1, width)
        self.embedding_out = nn.Linear(width, features + 1)
        for i in range(layers):
            self.add_module(f"e_block_{i}", Block(width, sublayers, attention, coords_range, normalization))
        self._ends: dict[tuple[int, int], Tensor] = {}

    def forward(self, positions: Tensor, features: Tensor, time: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        count, size = mask.shape
        ends = self.ends(count, size).to(positions.device)
        nodes = mask.reshape(-1, 1).to(positions.dtype)
        different = ~torch.eye(size, dtype=torch.bool, device=mask.device)
        edges = (mask[:, :, None] & mask[:, None] & different).reshape(-1, 1).to(positions.dtype)
        start = x = positions.reshape(-1, 3) * nodes
        h = features.reshape(count * size, -1) * nodes
        h = self.embedding(torch.cat([h, time[:, None].expand(-1, size).reshape(-1, 1)], dim=1))
        first, _ = self.distances(x, ends)
        for i in range(self.layers):
            block = getattr(self, f"e_block_{i}")
            squared, arrows = self.distances(x, ends)
            e = torch.cat([squared, first], dim=1)
            for k in range(block.sublayers):
                h = getattr(block, f"gcl_{k}")(h, ends, e, nodes, edges)
            x = block.gcl_equiv(h, x, ends, arrows, e, nodes, edges)
        h = (self.embedding_out(h) * nodes).reshape(count, size, -1)[..., :-1]
        moved = ((x - start) * nodes).reshape(count, size, 3)
        real = mask[..., None].to(moved.dtype)
        return moved - moved.sum(1, keepdim=True) / real.sum(1, keepdim=True) * real, h

    def ends(self, count: int, size: int) -> Tensor:
        """Both ends of all N^2 edges of each set, kept once a shape."""
        if (count, size) not in self._ends:
            index = torch.arange(size)
            pairs = torch.cartesian_prod(index, index).T
            shifts = size * torch.arange(count)
            self._ends[count, size] = (pairs[:, None] + shifts[:, None]).reshape(2, -1)
        return self._ends[count, size]

    def distances(self, x: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances, and the arrow to the first end from the second, shortened."""
        arrows = x[ends[0]] - x[ends[1]]
        squared = arrows.square().sum(1, keepdim=True)
        return squared, arrows / (torch.sqrt(squared + 1e-8) + self.norm_constant)


def scatter(values: Tensor, to: Tensor, count: int) -> Tensor:
    """Rows summed where they belong."""
    out = values.new_zeros(count, values.shape[1])
    return out.scatter_add_(0, to[:, None].expand_as(values), values)
