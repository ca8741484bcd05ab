"""What changes nothing about a molecule: to turn it, to mirror it, to number its atoms in another order.

A mirror image has the same energy, so the law of all molecules has this symmetry as well; a network that is to tell
mirror images apart gives it up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework import rotations
from framework.modality import Symmetry
from framework.state import Condition, State


def symmetries_of(network: nn.Module) -> Sequence[Symmetry]:
    """Those of a network's own: one that learns rotations from turned data (`rotate`) has only the order of atoms."""
    order = Symmetry("permutation", permuted)
    if getattr(network, "rotate", False):
        return (order,)
    if any(getattr(module, "chiral", False) for module in network.modules()):
        return (Symmetry("rotation", rotated), order)
    return (Symmetry("rotation", rotated), Symmetry("reflection", reflected), order)


def rotated(state: State, condition: Condition, seed: int) -> State:
    """Each molecule turned by a rotation of its own."""
    return _turned(state, _rotations(len(state), seed))


def reflected(state: State, condition: Condition, seed: int) -> State:
    """Each molecule turned, and mirrored along the first axis."""
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    return _turned(state, mirror @ _rotations(len(state), seed))


def permuted(state: State, condition: Condition, seed: int) -> State:
    """The atoms of each molecule in another order, padding where it was."""
    assert isinstance(state, TensorDict)
    generator = torch.Generator().manual_seed(seed)
    mask = condition["mask"].cpu()
    order = torch.arange(mask.shape[1]).repeat(len(mask), 1)
    for row, real in enumerate(mask):
        places = real.nonzero()[:, 0]
        order[row, places] = places[torch.randperm(len(places), generator=generator)]
    rows, order = torch.arange(len(mask))[:, None], order.to(condition["mask"].device)
    parts = {name: state[name][rows, order] for name in ("positions", "atoms")}
    parts["bonds"] = state["bonds"][rows[..., None], order[:, :, None], order[:, None, :]]
    return TensorDict(parts, batch_size=[len(mask)])


def _turned(state: State, turns: Tensor) -> State:
    assert isinstance(state, TensorDict)
    positions = state["positions"]
    moved = rotations.rotated(positions, turns.to(positions))
    return TensorDict({**dict(state.items()), "positions": moved}, batch_size=[len(positions)])


def _rotations(count: int, seed: int) -> Tensor:
    return rotations.haar_rotations(count, torch.Generator().manual_seed(seed), dtype=torch.float64)
