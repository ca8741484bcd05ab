"""An equivariant transformer over nodes and their pairs: positions, nodes' features and pairs' features, in and out.

    nodes, pairs, distances -> h, p -> layers (pair_blocks.py) -> nodes, symmetric pairs, displacements

A pair is kept once (pairs.py). Besides their positions, nodes may bring further points of their own (a former
prediction, a reference): their distances and directions enter the pairs, and y_i - x_i is a vector that a displacement
can be made of. The noise level and the condition make one vector that modulates all layers, with an offset a layer
(adaLN-single: Chen et al., "PixArt-alpha", arXiv 2310.00426, section 2.3). A fresh network leaves positions where they
are and says zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.pair_blocks import PairLayer, Points, norm, surroundings
from framework.backbones.pairs import Pairs
from framework.backbones.pairs import pairs as pairs_of
from framework.backbones.points import Graph, centred, check_inputs, real_pairs
from framework.backbones.radial import RadialBasis, lengths
from framework.backbones.unet_blocks import NoiseEmbedding, zeroed
from framework.errors import UserError


class PairTransformer(nn.Module):
    """Positions, nodes, pairs, noise level, mask -> positions, nodes, pairs; see `Graph` for the shapes.

    Equivariant to permutations, rotations and, unless `chiral`, reflections; invariant to translations, since all
    positions are centred over the real nodes first.

    Args:
        nodes: features of a node, coming in.
        pairs: features of a pair, coming in.
        out_nodes: features of a node, going out.
        out_pairs: features of a pair, going out.
        conditions: features of the condition; 0 is none.
        more: further sets of points, M.
        width: features of a node within.
        pair: features of a pair within.
        layers: of the network.
        heads: of the attention; they divide `width`.
        vectors: vectors of a node within.
        radial: Gaussians of a distance.
        expansion: hidden features of the perceptrons, in units of `width` and `pair`.
        chiral: tell mirror images apart, by cross products.
        displacement: hand back how far positions move; else, where they come to lie.

    Raises:
        UserError: heads that do not divide the width, or sizes below what makes sense.
    """

    def __init__(
        self,
        nodes: int,
        pairs: int = 0,
        out_nodes: int = 1,
        out_pairs: int = 0,
        conditions: int = 0,
        more: int = 0,
        width: int = 64,
        pair: int = 32,
        layers: int = 5,
        heads: int = 4,
        vectors: int = 8,
        radial: int = 16,
        expansion: float = 1.5,
        chiral: bool = False,
        displacement: bool = True,
    ) -> None:
        super().__init__()
        if (
            min(nodes, out_nodes, width, pair, layers, heads, vectors) < 1
            or min(pairs, out_pairs, conditions, more) < 0
        ):
            raise UserError(
                f"nodes={nodes}, out_nodes={out_nodes}, width={width}, pair={pair}, layers={layers}, heads={heads}, "
                f"vectors={vectors} must be at least 1, and pairs={pairs}, out_pairs={out_pairs}, "
                f"conditions={conditions}, more={more} at least 0"
            )
        if width % heads:
            raise UserError(f"{heads} heads do not divide a width of {width}")
        self.more, self.conditions, self.vectors, self.displacement = more, conditions, vectors, displacement
        self.noise = NoiseEmbedding(width, width)
        self.condition = nn.Linear(conditions, width) if conditions else None
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        offsets = torch.zeros(layers, 6, width)
        offsets[:, [1, 4]] = 1.0  # the scales
        self.offsets = nn.Parameter(offsets)
        self.radial = RadialBasis(radial)
        self.node_in = nn.Linear(nodes, width)
        self.ends_in = nn.Linear(width, pair, bias=False)
        self.pair_in = nn.Linear(pairs + radial * (1 + more) + more, pair)
        self.vector_in = nn.Parameter(torch.randn(more, vectors) * 0.1) if more else None
        self.layers = nn.ModuleList(
            PairLayer(width, pair, heads, vectors, radial, expansion, chiral) for _ in range(layers)
        )
        self.node_out = nn.Sequential(nn.LayerNorm(width), zeroed(nn.Linear(width, out_nodes)))
        self.ends_out = nn.Linear(width, pair, bias=False) if out_pairs else None
        self.pair_mix = nn.Linear(pair, pair) if out_pairs else None
        self.pair_out = zeroed(nn.Linear(pair, out_pairs)) if out_pairs else None

    def forward(
        self,
        positions: Float[Tensor, "b n 3"],
        nodes: Float[Tensor, "b n f"],
        pairs: Float[Tensor, "b n n g"],
        level: Float[Tensor, " b"],
        mask: Bool[Tensor, "b n"],
        condition: Float[Tensor, "b c"] | None = None,
        more_positions: Float[Tensor, "b n 3 m"] | None = None,
    ) -> Graph:
        """See `Graph`; float32 in, float32 out, whatever it computes in.

        Raises:
            ValueError: a condition or further points that are missing, or not expected.
        """
        check_inputs(condition, self.conditions, more_positions, self.more)
        count = positions.shape[1]
        if count == 1:  # a pair takes two: the other one is padding
            positions, nodes, mask = (functional.pad(x, (0, 0, 0, 1)) for x in (positions, nodes, mask[..., None]))
            mask, pairs = mask[..., 0], functional.pad(pairs, (0, 0, 0, 1, 0, 1))
            if more_positions is not None:
                more_positions = functional.pad(more_positions, (0, 0, 0, 0, 0, 1))
        kind, result = self.node_in.weight.dtype, positions.dtype
        at = pairs_of(positions.shape[1], positions.device)
        start = centred(positions, mask)
        further = [] if more_positions is None else list(centred(more_positions, mask).unbind(3))
        rows = (mask[:, at.first] & mask[:, at.second])[..., None]
        points = self._begin(
            start,
            further,
            torch.where(mask[..., None], nodes, 0.0).to(kind),
            torch.where(rows, at.triangle(pairs), 0.0),
            at,
        )
        around = surroundings(at, mask, start)
        e = self.noise(level)
        if self.condition is not None and condition is not None:
            e = e + self.condition(condition.to(kind))
        modulation = self.modulation(functional.silu(e)).unflatten(1, (6, -1))
        for layer, offset in zip(self.layers, self.offsets, strict=True):
            points = layer(points, around, modulation + offset)

        moved = centred(points.x[..., 0].transpose(1, 2), mask)
        out = moved - start if self.displacement else moved
        values = torch.where(mask[..., None], self.node_out(points.h), 0.0).to(result)
        dense = torch.where(real_pairs(mask)[..., None], at.dense(self._end(points, at)).to(result), 0.0)
        return Graph(out[:, :count], values[:, :count], dense[:, :count, :count])

    def _begin(self, start: Tensor, further: list[Tensor], nodes: Tensor, rows: Tensor, at: Pairs) -> Points:
        """The state before the first layer."""
        sets = torch.stack([start, *further], 3).transpose(1, 2)
        between = at.difference_of_ends(sets)
        distances = lengths(between.square().sum(1))
        features = [rows, self.radial(distances).flatten(2)]
        if further:
            along = (between[..., :1] * between[..., 1:]).sum(1)
            features.append(along / (distances[..., :1] * distances[..., 1:] + 1))
        h = self.node_in(nodes)
        p = at.sum_of_ends(self.ends_in(h), self.pair_in(torch.cat([f.to(h.dtype) for f in features], 2)))
        x, vectors = sets[..., :1], sets.new_zeros(*sets.shape[:3], self.vectors)
        if self.vector_in is not None:
            for m, weight in enumerate(self.vector_in, 1):
                vectors = vectors + (sets[..., m : m + 1] - x) * weight
        return Points(h, p, norm(p), x, vectors)

    def _end(self, points: Points, at: Pairs) -> Float[Tensor, "b e p"]:
        """What is said of each pair."""
        if self.ends_out is None or self.pair_mix is None or self.pair_out is None:
            return points.p[..., :0]
        mixed = at.sum_of_ends(self.ends_out(norm(points.h)), self.pair_mix(points.normed))
        return self.pair_out(functional.hardswish(mixed))


@dataclass(frozen=True)
class Size:
    """The numbers of a pair transformer that set its capacity; the meaning of each is in `PairTransformer`."""

    width: int
    pair: int
    layers: int
    heads: int
    vectors: int
    expansion: float


SIZES = {
    "tiny": Size(width=64, pair=32, layers=4, heads=4, vectors=4, expansion=1.5),
    "small": Size(width=128, pair=48, layers=6, heads=8, vectors=12, expansion=2.0),
    "base": Size(width=256, pair=64, layers=8, heads=8, vectors=16, expansion=2.5),
}


def pair_transformer(
    size: str,
    nodes: int,
    pairs: int = 0,
    out_nodes: int = 1,
    out_pairs: int = 0,
    conditions: int = 0,
    more: int = 0,
    chiral: bool = False,
    displacement: bool = True,
) -> PairTransformer:
    """The pair transformer of a named size: tiny (0.23 M parameters), small (1.4 M) or base (7.6 M).

    Raises:
        UserError: there is no such size; the message names the nearest.
    """
    if size not in SIZES:
        nearest = get_close_matches(size, SIZES, n=1, cutoff=0.0)
        raise UserError(
            f"no pair transformer of size {size!r}; did you mean {nearest[0]!r}? The sizes are {', '.join(SIZES)}"
        )
    s = SIZES[size]
    return PairTransformer(
        nodes, pairs, out_nodes, out_pairs, conditions, more, s.width, s.pair, s.layers, s.heads, s.vectors,
        expansion=s.expansion, chiral=chiral, displacement=displacement,
    )  # fmt: skip
