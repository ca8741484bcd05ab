"""Which parts of a state are tokens, and what is said of them: logits and probabilities with one more axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from framework.categories import Categories
from framework.spaces import Product, Space
from framework.state import State, components, of_components

ALONE = "state"  # what a state that is one tensor is called (compare.leaves)


def is_tokens(part: Tensor) -> bool:
    """Whether it holds tokens, or what can only be equal or not."""
    return not part.is_floating_point()


def has_parts(space: Space) -> TypeGuard[Product]:
    """Whether the space is a product of others."""
    return isinstance(space, Product)


def spaces_of(space: Space) -> dict[str, Space]:
    """The components' spaces by the names of their leaves."""
    return dict(space.components) if has_parts(space) else {ALONE: space}


def token_spaces(space: Space) -> dict[str, Categories]:
    """Those of tokens."""
    return {name: part for name, part in spaces_of(space).items() if isinstance(part, Categories)}


def said_like(state: State, tokens: Mapping[str, Categories]) -> State:
    """Zeros of the structure that a network's output has, float32: for tokens (B, *positions) logits (..., K)."""
    parts = {}
    for name, part in components(state).items():
        space = tokens.get(name or ALONE)
        shape = part.shape if space is None else (*part.shape, space.classes)
        parts[name] = torch.zeros_like(part) if space is None else torch.zeros(shape, dtype=torch.float32)
    return of_components(parts)


def probabilities(said: State, tokens: Mapping[str, Categories]) -> State:
    """An output with its logits as probabilities."""
    parts = {name: part.softmax(-1) if (name or ALONE) in tokens else part for name, part in components(said).items()}
    return of_components(parts)


def certainties(state: State, tokens: Mapping[str, Categories]) -> State:
    """A clean state with its tokens as probabilities of 0 and 1."""
    parts = {}
    for name, part in components(state).items():
        space = tokens.get(name or ALONE)
        parts[name] = part if space is None else one_hot(part, space.classes).float()
    return of_components(parts)


def random_tokens(space: Categories, like: Tensor, seed: int) -> Tensor:
    """Tokens at every place, free or not: int64 of the shape of `like`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(space.classes, like.shape, generator=generator)
