"""A network over nodes and pairs as the backbone of molecules: tokens in, logits out, positions along.

The networks of framework/backbones know features of nodes and of pairs; here atoms and bonds become such features, one
of each token and of what was said last, and the outputs are logits of the clean tokens. The position's output is a
vector for each atom, which the parametrisation reads as its target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn.functional import one_hot

from framework.backbones.points import Graph
from framework.rotations import haar_rotations, rotated
from framework.state import Condition

BONDS = 4  # none, single, double, triple


class Body(Protocol):
    """A network over nodes and pairs (framework/backbones/points.py)."""

    def __call__(
        self,
        positions: Tensor,
        nodes: Tensor,
        pairs: Tensor,
        level: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
        more_positions: Tensor | None = None,
    ) -> Graph: ...


class MoleculeNetwork(nn.Module):
    """See the module's docstring.

    Args:
        body: makes the network from `nodes`, `pairs`, `out_nodes`, `out_pairs`, `conditions` and `more`.
        tokens: the number of kinds of atoms.
        properties: the number of properties that it is told.
        self_conditioned: it reads what it said last.
        one_hot: atoms and bonds are continuous channels in place of tokens.
        rotate: in training each molecule is turned at random, for a body that is not equivariant.
    """

    def __init__(
        self,
        body: Callable[..., nn.Module],
        tokens: int,
        properties: int = 0,
        self_conditioned: bool = True,
        one_hot: bool = False,
        rotate: bool = False,
    ) -> None:
        super().__init__()
        self.tokens, self.properties = tokens, properties
        self.self_conditioned, self.one_hot, self.rotate = self_conditioned, one_hot, rotate
        states = (tokens, BONDS) if one_hot else (tokens + 1, BONDS + 1)  # and the mask
        said = (tokens, BONDS) if self_conditioned else (0, 0)
        self.body = body(
            nodes=states[0] + said[0],
            pairs=states[1] + said[1],
            out_nodes=tokens,
            out_pairs=BONDS,
            conditions=2 * properties,
            more=int(self_conditioned),
        )

    def forward(self, x_t: TensorDict, level: Tensor, condition: Condition) -> TensorDict:
        """States, noise levels (B,), condition -> the target of positions, and logits of atoms and bonds."""
        positions, mask = x_t["positions"], condition["mask"]
        like = positions.dtype
        nodes, pairs = [self._features(x_t["atoms"], self.tokens, like)], [self._features(x_t["bonds"], BONDS, like)]
        more = None
        if self.self_conditioned:
            previous = condition.get("previous")
            if previous is None:
                nodes.append(positions.new_zeros((*mask.shape, self.tokens)))
                pairs.append(positions.new_zeros((*mask.shape, mask.shape[1], BONDS)))
                more = positions.new_zeros(positions.shape)
            else:
                nodes.append(previous["atoms"].to(like))
                pairs.append(previous["bonds"].to(like))
                more = previous["positions"].to(like)
        turned = None
        if self.rotate and self.training:
            turned = haar_rotations(len(positions), device=positions.device, dtype=like)
            positions, more = rotated(positions, turned), None if more is None else rotated(more, turned)
        told = None
        if self.properties:
            known = condition["known"].to(like)
            told = torch.cat([condition["properties"].to(like) * known, known], 1)
        out = self.body(
            positions,
            torch.cat(nodes, -1),
            torch.cat(pairs, -1),
            level,
            mask,
            told,
            None if more is None else more[..., None],
        )
        moved = out.positions if turned is None else rotated(out.positions, turned.mT)
        return TensorDict({"positions": moved, "atoms": out.nodes, "bonds": out.pairs}, batch_size=[len(mask)])

    def _features(self, tokens: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
        return tokens.to(dtype) if self.one_hot else one_hot(tokens, classes + 1).to(dtype)
