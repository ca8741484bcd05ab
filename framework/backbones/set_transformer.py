"""A plain transformer over nodes that reads coordinates as features: not equivariant, and made for comparison.

Nodes have no order: attention without positions makes the network equivariant to permutations, and nothing else does.
Rotations it must learn from data that are turned at random (`framework.rotations`). Pairs enter once, as a sum over the
other nodes of a perceptron on (i, j, pair), and leave by a head that is symmetric in its two ends,

    silu(A h_i + A h_j + (B h_i) * (B h_j) + C pair_ij) -> linear.

Wang et al., "Swallowing the Bitter Pill", arXiv 2311.17932, argue for such networks; Hoogeboom et al., arXiv
2203.17003, for the others.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.points import Graph, centred, check_inputs, real_pairs
from framework.backbones.transformer_blocks import AdaptiveNorm, GatedPerceptron, NormedAttention
from framework.backbones.unet_blocks import NoiseEmbedding, zeroed
from framework.errors import UserError


class SetTransformer(nn.Module):
    """Positions, nodes, pairs, noise level, mask -> positions, nodes, pairs; see `Graph` for the shapes.

    Equivariant to permutations, invariant to translations; zero when fresh.

    Args:
        nodes: features of a node, coming in.
        pairs: features of a pair, coming in.
        out_nodes: features of a node, going out.
        out_pairs: features of a pair, going out.
        conditions: features of the condition; 0 is none.
        more: further sets of points, M; their coordinates are features as well.
        width: features of a node within.
        pair: hidden features of a pair, on the way in and out.
        layers: of the network.
        heads: of the attention; they divide `width`.
        expansion: hidden features of the perceptron, in units of `width`.
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
        width: int = 128,
        pair: int = 32,
        layers: int = 6,
        heads: int = 4,
        expansion: float = 2.0,
        displacement: bool = True,
    ) -> None:
        super().__init__()
        if min(nodes, out_nodes, width, pair, layers, heads) < 1 or min(pairs, out_pairs, conditions, more) < 0:
            raise UserError(
                f"nodes={nodes}, out_nodes={out_nodes}, width={width}, pair={pair}, layers={layers}, heads={heads} "
                f"must be at least 1, and pairs={pairs}, out_pairs={out_pairs}, conditions={conditions}, more={more} "
                "at least 0"
            )
        if width % heads:
            raise UserError(f"{heads} heads do not divide a width of {width}")
        self.conditions, self.more, self.displacement = conditions, more, displacement
        self.noise = NoiseEmbedding(width, width)
        self.condition = nn.Linear(conditions, width) if conditions else None
        self.node_in = nn.Linear(nodes + 3 * (1 + more), width)
        self.ends_in, self.pair_in = nn.Linear(width, 2 * pair), nn.Linear(pairs, pair, bias=False) if pairs else None
        self.gathered = nn.Linear(pair, width)
        self.blocks = nn.ModuleList(SetBlock(width, heads, round(expansion * width)) for _ in range(layers))
        self.norm, self.modulation = AdaptiveNorm(width), zeroed(nn.Linear(width, 2 * width))
        self.head = zeroed(nn.Linear(width, 3 + out_nodes))
        self.ends_out = nn.Linear(width, 2 * pair) if out_pairs else None
        self.pair_mix = nn.Linear(pairs, pair, bias=False) if pairs and out_pairs else None
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
        kind, real, other = self.node_in.weight.dtype, mask[..., None], real_pairs(mask)[..., None]
        start = centred(positions, mask)
        features = [torch.where(real, nodes, 0.0), start]
        if more_positions is not None:
            features.append(centred(more_positions, mask).flatten(2))
        e = self.noise(level)
        if self.condition is not None and condition is not None:
            e = e + self.condition(condition.to(kind))
        e = functional.silu(e)
        edges = torch.where(other, pairs, 0.0).to(kind)

        h = self.node_in(torch.cat([f.to(kind) for f in features], 2))
        first, second = self.ends_in(h).chunk(2, 2)
        hidden = first[:, :, None] + second[:, None]
        hidden = functional.silu(hidden if self.pair_in is None else hidden + self.pair_in(edges))
        count = mask.sum(1).clamp(min=1).to(kind)[:, None, None]
        h = h + self.gathered((hidden * other).sum(2) * count.rsqrt())
        keys = mask | ~mask.any(1, keepdim=True)  # a softmax over no key at all is NaN in some kernels
        for block in self.blocks:
            h = block(h, e, keys)

        h = self.norm(h, *self.modulation(e).chunk(2, dim=1))
        out = self.head(h).to(positions.dtype)
        moved = centred(out[..., :3], mask)
        values = torch.where(real, out[..., 3:], 0.0)
        both = torch.where(other, self._pairs(h, edges).to(positions.dtype), 0.0)
        return Graph(moved if self.displacement else start + moved, values, both)

    def _pairs(self, h: Tensor, edges: Tensor) -> Float[Tensor, "b n n p"]:
        if self.ends_out is None or self.pair_out is None:
            return h.new_zeros(*edges.shape[:3], 0)
        added, multiplied = self.ends_out(h).chunk(2, 2)
        hidden = (added[:, :, None] + added[:, None]) + multiplied[:, :, None] * multiplied[:, None]
        return self.pair_out(functional.silu(hidden if self.pair_mix is None else hidden + self.pair_mix(edges)))


class SetBlock(nn.Module):
    """The block of `transformer_blocks.py`, without rotary positions and without words."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.attention_norm, self.perceptron_norm = AdaptiveNorm(width), AdaptiveNorm(width)
        self.attention = NormedAttention(width, heads, width)
        self.perceptron = GatedPerceptron(width, hidden, 0.0)

    def forward(
        self, h: Float[Tensor, "b n d"], e: Float[Tensor, "b d"], keys: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n d"]:
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(e).chunk(6, dim=1)
        x = self.attention_norm(h, scale, shift)
        h = h + gate[:, None] * self.attention(x, x, keys)
        return h + gate_2[:, None] * self.perceptron(self.perceptron_norm(h, scale_2, shift_2))
