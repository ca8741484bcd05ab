"""The layer of the pair transformer: pairs read nodes and geometry, nodes attend and gather their pairs, points move.

The state is h (B, N, D) a node, p (B, E, C) an unordered pair, positions x (B, 3, N, 1) and vectors V (B, 3, N, K) of a
node. With V^ = V / (1 + |V|), D = (x, V^)_i - (x, V^)_j, d = |x_i - x_j| and u = (x_i - x_j) / (1 + d), a layer is

    m = swish(W1 [norm(p), radial(d), |D|^2, D . u] + A g_i + A g_j),                  g = norm(h), modulated
    p <- p + W2 m
    h <- h + gate * W3 [sum_j a_ij v_j, n^(-1/2) sum_j m_ij, log(1 + |V|^2)],          a_ij ~ exp(q_i . k_j + b_ij)
    V <- V + n^(-1/2) sum_j w_ij u_ij  (+ c V^ x shifted V^)
    h <- h + gate * perceptron(norm(h), modulated)
    x <- x + sum_k s_k V_k

with b and w linear in norm(p), c and s linear in the second modulated norm; n counts the real nodes. Attention tells
which nodes matter, the plain sum how many there are. Weights a are exp(score) / (1 + sum of exp(score)): a node may
attend to nothing, and a node alone does. Vectors are sums of differences scaled by invariants, and nodes and pairs see
inner products alone: so all is equivariant to rotations and reflections; angles between three nodes enter by V. The
cross product makes pseudovectors: with it, reflections are no longer a symmetry, and rotations still are.

From pair-biased attention (Jumper et al., Nature 596, 2021, suppl. 1.6), EGNN (Satorras et al., arXiv 2102.09844) and
vectors with inner products (Jing et al., arXiv 2009.01411; Irwin et al., arXiv 2406.07266). Hardswish (Howard et al.,
arXiv 1905.02244) costs a quarter of swish on a CPU, where activations of pairs weigh.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.pairs import Pairs
from framework.backbones.radial import RadialBasis, lengths
from framework.backbones.transformer_blocks import GatedPerceptron
from framework.backbones.unet_blocks import zeroed

SILENT = -1e4  # what makes a swish exactly zero, in sixteen bits as well
LOUDEST = 30.0  # scores are cut here, so that their exponentials can be summed in any precision


class Around(NamedTuple):
    """What all layers share.

    Attributes:
        at: where the rows of pairs lie.
        mask: (B, N, 1) whether a node is real.
        scale: (B, 1, 1) 1 / root of the number of real nodes.
        arrows: (B, 1, E, 1) `scale` where both ends of a pair are real, else 0.
        attends: (B, 1, N, N) 1 where i may attend to j, another real node, else 0.
    """

    at: Pairs
    mask: Bool[Tensor, "b n 1"]
    scale: Float[Tensor, "b 1 1"]
    arrows: Float[Tensor, "b 1 e 1"]
    attends: Float[Tensor, "b 1 n n"]


class Points(NamedTuple):
    """The state that a layer changes; see the module's docstring. `normed` is norm(p)."""

    h: Float[Tensor, "b n d"]
    p: Float[Tensor, "b e c"]
    normed: Float[Tensor, "b e c"]
    x: Float[Tensor, "b 3 n 1"]
    vectors: Float[Tensor, "b 3 n k"]


class PairLayer(nn.Module):
    """See the module's docstring.

    Args:
        width: features of a node, D.
        pair: features of a pair, C.
        heads: of the attention; they divide `width`.
        vectors: of a node, K.
        radial: Gaussians of a distance.
        expansion: hidden features, in units of `width` and `pair`.
        chiral: whether V has the cross product.
    """

    def __init__(
        self, width: int, pair: int, heads: int, vectors: int, radial: int, expansion: float, chiral: bool
    ) -> None:
        super().__init__()
        self.heads, self.vectors, self.chiral = heads, vectors, chiral
        hidden = round(expansion * pair)
        self.radial = RadialBasis(radial)
        self.ends = nn.Linear(width, hidden, bias=False)
        self.pair_in = nn.Linear(pair + radial + 2 * vectors, hidden)
        self.pair_out = zeroed(nn.Linear(hidden, pair))
        self.bias_and_weights = nn.Linear(pair, heads + vectors)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.node_out = nn.Linear(width + hidden + vectors, width)
        self.perceptron = GatedPerceptron(width, round(expansion * width), 0.0)
        self.steps = zeroed(nn.Linear(width, 2 * vectors if chiral else vectors))

    def forward(self, points: Points, around: Around, modulation: Float[Tensor, "b 6 d"]) -> Points:
        h, p, normed, x, vectors = points
        shift, scale, gate, shift_2, scale_2, gate_2 = modulation.unsqueeze(2).unbind(1)
        g = torch.addcmul(shift, norm(h), scale)
        squares = vectors.square().sum(1)
        unit = vectors / (1 + lengths(squares))[:, None]

        features, arrow = self._geometry(x, unit, around)
        ends = torch.where(around.mask, self.ends(g), SILENT)
        messages = self.pair_in(torch.cat([normed, *(f.to(normed.dtype) for f in features)], 2))
        messages = functional.hardswish(around.at.sum_of_ends(ends, messages))
        p = p + self.pair_out(messages)
        normed = norm(p)

        bias, weights = self.bias_and_weights(normed).split([self.heads, self.vectors], 2)
        gathered = around.at.sum_around(messages) * around.scale
        mixed = [self._attend(g, bias, around), gathered, squares.log1p()]
        h = torch.addcmul(h, gate, self.node_out(torch.cat([part.to(h.dtype) for part in mixed], 2)))
        vectors = vectors + around.at.flow_into(arrow * weights[:, None])

        g = torch.addcmul(shift_2, norm(h), scale_2)
        h = torch.addcmul(h, gate_2, self.perceptron(g))
        steps = self.steps(g)[:, None]
        if self.chiral:
            steps, turns = steps.chunk(2, 3)
            vectors = vectors + turns * torch.linalg.cross(unit, unit.roll(1, 3), dim=1)
        return Points(h, p, normed, x + (steps * vectors).sum(3, keepdim=True), vectors)

    def _geometry(self, x: Tensor, unit: Tensor, around: Around) -> tuple[list[Tensor], Float[Tensor, "b 3 e 1"]]:
        """radial(d), |D|^2, D . u of each pair, and n^(-1/2) u, which is zero in padding."""
        between = around.at.difference_of_ends(torch.cat([x, unit], 3))
        squared = between.square().sum(1)
        distance = lengths(squared[..., 0])
        arrow = between[..., :1] / (1 + distance)[:, None, :, None]
        along = (between[..., 1:] * arrow).sum(1)
        return [self.radial(distance), squared[..., 1:], along], arrow * around.arrows

    def _attend(self, g: Tensor, bias: Tensor, around: Around) -> Float[Tensor, "b n d"]:
        query, key, value = self.query_key_value(g).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(query * query.shape[3] ** -0.5, key.transpose(2, 3))
        scores = scores + around.at.dense(bias).permute(0, 3, 1, 2)
        weights = scores.clamp(max=LOUDEST).exp() * around.attends
        mixed = torch.matmul(weights.to(value.dtype), value) / (1 + weights.sum(3, keepdim=True))
        return mixed.transpose(1, 2).flatten(2)


def norm(x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
    """Mean zero, variance one; no scale or shift of its own."""
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6)


def surroundings(at: Pairs, mask: Bool[Tensor, "b n"], like: Tensor) -> Around:
    """What all layers share, in the type of `like`."""
    scale = mask.sum(1).clamp(min=1).to(like.dtype).rsqrt()
    real = (mask[:, at.first] & mask[:, at.second]).to(like.dtype)
    other = ~torch.eye(at.nodes, dtype=torch.bool, device=mask.device)
    attends = (mask[:, None, :] & other)[:, None].to(like.dtype)
    return Around(at, mask[..., None], scale[:, None, None], (real * scale[:, None])[:, None, :, None], attends)
