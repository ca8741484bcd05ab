"""EDM's equivariant network, exactly, on dense tensors: positions and nodes that send messages along all pairs.

With e_ij = (|x_i - x_j|^2 now, and at the input), a block changes h by a message along each pair and then moves x:

    m_ij = silu(W2 silu(W1 [h_i, h_j, e_ij])),         h_i <- h_i + MLP[h_i, 1/Z sum_j sigmoid(a . m_ij) m_ij]
    x_i  <- x_i + 1/Z sum_j (x_i - x_j) / (|x_i - x_j| + c) r tanh(w . MLP[h_i, h_j, e_ij])

Hoogeboom et al., arXiv 2203.17003, appendix B. The same numbers come out, with less work, for two reasons. The first
layer is split, W1 [h_i, h_j, e_ij] = A h_i + B h_j + C e_ij, so that its two wide products are over N nodes and not
N^2 pairs. And the gated sum over j is a product of a row and a matrix, so that the gated messages are never written
down. Nothing is gathered or scattered.

Our own additions are off by default: features of pairs, further sets of points (their squared distances and their inner
products with x_i - x_j enter e_ij), and a head for symmetric features of pairs, read from the last messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.points import Graph, centred, check_inputs, real_pairs
from framework.errors import DataError, UserError


class EGNN(nn.Module):
    """Positions, nodes, pairs, noise level, mask -> positions, nodes, pairs; see `Graph` for the shapes.

    Equivariant to permutations, rotations and reflections, invariant to translations. The noise level / 1000 and the
    condition are further features of each node. The defaults are those of EDM's published run on QM9.

    Args:
        nodes: features of a node, coming in.
        pairs: features of a pair, coming in.
        out_nodes: features of a node, going out.
        out_pairs: features of a pair, going out.
        conditions: features of the condition; 0 is none.
        more: further sets of points, M.
        width: features within.
        layers: blocks.
        sublayers: messages in a block, before positions move.
        attention: gate the messages.
        tanh: bound the steps of positions by `coords_range`.
        coords_range: the bound r, in units of the positions; a block has it for each neighbour.
        norm_constant: c.
        normalization: Z.
        displacement: hand back how far positions move; else, where they come to lie.

    Raises:
        UserError: sizes below what makes sense.
    """

    def __init__(
        self,
        nodes: int,
        pairs: int = 0,
        out_nodes: int = 1,
        out_pairs: int = 0,
        conditions: int = 0,
        more: int = 0,
        width: int = 256,
        layers: int = 9,
        sublayers: int = 1,
        attention: bool = True,
        tanh: bool = True,
        coords_range: float = 15.0,
        norm_constant: float = 1.0,
        normalization: float = 1.0,
        displacement: bool = True,
    ) -> None:
        super().__init__()
        if min(nodes, out_nodes, width, layers, sublayers) < 1 or min(pairs, out_pairs, conditions, more) < 0:
            raise UserError(
                f"nodes={nodes}, out_nodes={out_nodes}, width={width}, layers={layers}, sublayers={sublayers} must be "
                f"at least 1, and pairs={pairs}, out_pairs={out_pairs}, conditions={conditions}, more={more} at least 0"
            )
        self.conditions, self.more, self.displacement = conditions, more, displacement
        self.node_in = nn.Linear(nodes + 1 + conditions, width)
        self.blocks = nn.ModuleList(
            Block(width, 2 + pairs + 2 * more, sublayers, attention, coords_range if tanh else None, normalization)
            for _ in range(layers)
        )
        self.norm_constant = norm_constant
        self.node_out = nn.Linear(width, out_nodes)
        self.pair_hidden = nn.Linear(width, width) if out_pairs else None
        self.pair_out = nn.Linear(width, out_pairs) if out_pairs else None

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
        kind, real = self.node_in.weight.dtype, mask[..., None]
        other = real_pairs(mask)[..., None]
        start = x = centred(positions, mask)
        both = other.to(x.dtype)
        between = x[:, :, None] - x[:, None]
        fixed = [between.square().sum(3, keepdim=True), torch.where(other, pairs, 0.0)]
        if more_positions is not None:
            y = centred(more_positions, mask)
            apart = y[:, :, None] - y[:, None]
            fixed += [apart.square().sum(3), (apart * between[..., None]).sum(3)]
        edges = torch.cat([part.to(x.dtype) for part in fixed], 3)

        whole = [level.to(kind)[:, None] / 1000, *([] if condition is None else [condition.to(kind)])]
        spread = torch.cat(whole, 1)[:, None].expand(-1, x.shape[1], -1)
        h = self.node_in(torch.cat([torch.where(real, nodes, 0.0).to(kind), spread], 2))
        messages = h.new_zeros(0)
        for block in self.blocks:
            between = x[:, :, None] - x[:, None]
            squared = between.square().sum(3, keepdim=True)
            e = torch.cat([squared, edges], 3).to(kind)
            h, step, messages = block(h, between / (torch.sqrt(squared + 1e-8) + self.norm_constant), e, both)
            x = x + step

        moved = centred(x, mask)
        out = moved - start if self.displacement else moved
        values = torch.where(real, self.node_out(h), 0.0).to(x.dtype)
        return Graph(out, values, torch.where(other, self._pairs(messages).to(x.dtype), 0.0))

    def _pairs(self, messages: Tensor) -> Float[Tensor, "b n n p"]:
        if self.pair_hidden is None or self.pair_out is None:
            return messages[..., :0]
        return self.pair_out(functional.silu(self.pair_hidden(messages + messages.transpose(1, 2))))


class Block(nn.Module):
    """Messages, then a step of the positions; see the module's docstring."""

    def __init__(
        self, width: int, edges: int, sublayers: int, attention: bool, coords_range: float | None, normalization: float
    ) -> None:
        super().__init__()
        self.normalization, self.coords_range = normalization, coords_range
        self.messages = nn.ModuleList(PairPerceptron(width, edges) for _ in range(sublayers))
        self.gates = nn.ModuleList(nn.Linear(width, 1) for _ in range(sublayers if attention else 0))
        self.nodes = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(sublayers)
        )
        self.steps = PairPerceptron(width, edges)
        self.size = nn.Linear(width, 1, bias=False)
        nn.init.xavier_uniform_(self.size.weight, gain=0.001)

    def forward(
        self,
        h: Float[Tensor, "b n d"],
        arrows: Float[Tensor, "b n n 3"],
        edges: Float[Tensor, "b n n e"],
        both: Float[Tensor, "b n n 1"],
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n 3"], Float[Tensor, "b n n d"]]:
        """Nodes, the step of each position, and the last messages; `both` is 0 where an end is padding, or i = j."""
        for k, (message, perceptron) in enumerate(zip(self.messages, self.nodes, strict=True)):
            m = message(h, edges)
            gate = torch.sigmoid(self.gates[k](m)) * both.to(m.dtype) if len(self.gates) else both.to(m.dtype)
            total = torch.matmul(gate.transpose(2, 3), m).squeeze(2) / self.normalization
            h = h + perceptron(torch.cat([h, total], 2))
        size = self.size(self.steps(h, edges))
        if self.coords_range is not None:
            size = torch.tanh(size) * self.coords_range
        return h, (arrows * (size * both)).sum(2) / self.normalization, m


class PairPerceptron(nn.Module):
    """Two layers on [h_i, h_j, e_ij], of which the first is split into its parts."""

    def __init__(self, width: int, edges: int) -> None:
        super().__init__()
        whole = nn.Linear(2 * width + edges, width)  # one layer's statistics for the parts of one layer
        self.first_end = nn.Parameter(whole.weight.detach()[:, :width].clone())
        self.second_end = nn.Parameter(whole.weight.detach()[:, width : 2 * width].clone())
        self.edge = nn.Parameter(whole.weight.detach()[:, 2 * width :].clone())
        self.bias = nn.Parameter(whole.bias.detach().clone())
        self.second = nn.Linear(width, width)

    def forward(self, h: Float[Tensor, "b n d"], edges: Float[Tensor, "b n n e"]) -> Float[Tensor, "b n n d"]:
        first = functional.linear(h, self.first_end, self.bias)
        second = functional.linear(h, self.second_end)
        hidden = _SplitLayer.apply(edges.to(first.dtype), self.edge.to(first.dtype), first, second)
        # Where no gradient is kept, each activation overwrites its input: pairs are what memory is spent on.
        here = not torch.is_grad_enabled()
        return functional.silu(self.second(functional.silu(hidden, inplace=here)), inplace=here)


class _SplitLayer(torch.autograd.Function):
    """first_i + second_j + C e_ij, with a derivative that reads the pairs as few times as it can."""

    @staticmethod
    def forward(ctx: Any, edges: Tensor, weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(edges, weight)
        return functional.linear(edges, weight).add_(first[:, :, None]).add_(second[:, None])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        edges, weight = ctx.saved_tensors
        with_one = torch.cat([edges, edges.new_ones(1).expand(*edges.shape[:3], 1)], 3)
        over_j = torch.matmul(with_one.transpose(2, 3), grad)
        # Laid out so, the product with a thin matrix takes a quarter of the time on a CPU.
        back = functional.linear(grad, weight.T.contiguous()) if ctx.needs_input_grad[0] else None
        return back, over_j[:, :, :-1].sum((0, 1)).T, over_j[:, :, -1], grad.sum(1)


def edm_weights(state: Mapping[str, Tensor], out_nodes: int) -> dict[str, Tensor]:
    """The weights of EDM's own network (its `dynamics`, however prefixed) under the names of `EGNN`.

    The network that they fit has `nodes` of EDM's features without time and context, `conditions` of its context, and
    the `width`, `layers` and `sublayers` (theirs: nf, n_layers, inv_sublayers) that it was trained with.

    Raises:
        DataError: no such network is in `state`, or it has sines of distances, which `EGNN` does not.
    """
    found = [name for name in state if name.endswith("embedding.weight") and "e_block" not in name]
    if len(found) != 1:
        raise DataError("there is no network of EDM in these weights: '...embedding.weight' must be there, once")
    prefix = found[0].removesuffix("embedding.weight")
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(prefix):
            continue
        parts = name.removeprefix(prefix).split(".")
        if parts[0] == "embedding":
            weights[f"node_in.{parts[1]}"] = value
        elif parts[0] == "embedding_out":
            weights[f"node_out.{parts[1]}"] = value[:out_nodes]
        elif parts[0].startswith("e_block_"):
            weights.update(_block_weight(int(parts[0].removeprefix("e_block_")), parts[1:], value))
    return weights


def _block_weight(block: int, parts: list[str], value: Tensor) -> dict[str, Tensor]:
    """(gcl_0, edge_mlp, 0, weight) and the like."""
    home, (layer, perceptron, position, kind) = f"blocks.{block}", parts
    which = layer.removeprefix("gcl_")
    if perceptron == "att_mlp":
        return {f"{home}.gates.{which}.{kind}": value}
    if perceptron == "node_mlp":
        return {f"{home}.nodes.{which}.{position}.{kind}": value}
    target = f"{home}.steps" if perceptron == "coord_mlp" else f"{home}.messages.{which}"
    if position == "4":
        return {f"{home}.size.{kind}": value}
    if position == "2":
        return {f"{target}.second.{kind}": value}
    if kind == "bias":
        return {f"{target}.bias": value}
    width = len(value)
    if value.shape[1] != 2 * width + 2:
        raise DataError(f"{value.shape[1] - 2 * width} features of a distance are there; EGNN has the two squares only")
    return {
        f"{target}.first_end": value[:, :width],
        f"{target}.second_end": value[:, width : 2 * width],
        f"{target}.edge": value[:, 2 * width :],
    }
