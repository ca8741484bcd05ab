"""What is diffused, and the few operations that anything here does to it.

A State is a Tensor with the batch first, or a TensorDict of named components with batch_size [B]. Solvers, guidance and
the loop never look inside: they combine states linearly, select rows and ask for the batch size, and that is this file.

Coefficients are float64 numbers, or float64 tensors (B,) when every sample has its own time; they are cast to the
state's type only here, where they meet it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor

State: TypeAlias = Tensor | TensorDict
Condition: TypeAlias = TensorDict
Coefficient: TypeAlias = float | Tensor


def batch_size(state: State) -> int:
    """B, the number of samples."""
    return int(state.shape[0])


def device_of(state: State) -> torch.device:
    """The device on which the state's components lie."""
    while isinstance(state, TensorDict):
        if state.is_empty():
            return state.device or torch.device("cpu")
        state = next(iter(state.values()))  # type: ignore[assignment]
    device: torch.device | None = state.device
    assert device is not None
    return device


def map_state(function: Callable[..., Tensor], first: State, *others: State) -> State:
    """Apply `function` to each component of states of one structure; returns a state of that structure."""
    if isinstance(first, Tensor):
        return function(first, *others)
    parts = {
        name: map_state(function, first[name], *(other[name] for other in others))  # type: ignore[index]
        for name in first.keys()  # noqa: SIM118  (a TensorDict iterates over its rows)
    }
    return TensorDict(parts, batch_size=first.batch_size, device=first.device)


def components(state: State) -> dict[str, Tensor]:
    """The components of a state by name; one that is a tensor has the name ""."""
    if isinstance(state, Tensor):
        return {"": state}
    return {str(name): state[name] for name in state.keys()}  # noqa: SIM118


def of_components(parts: Mapping[str, Tensor]) -> State:
    """The state of such components: the way back."""
    if list(parts) == [""]:
        return parts[""]
    return TensorDict(dict(parts), batch_size=[len(next(iter(parts.values())))])


def expand(coefficient: Coefficient, like: Tensor) -> Coefficient:
    """A per-sample coefficient (B,) as (B, 1, ..., 1) in `like`'s type and device; numbers pass unchanged."""
    if not isinstance(coefficient, Tensor):
        return coefficient
    coefficient = coefficient.to(device=like.device, dtype=like.dtype)
    return coefficient.reshape(coefficient.shape + (1,) * (like.ndim - coefficient.ndim))


def combine(terms: Iterable[tuple[Coefficient, State]]) -> State:
    """The sum of coefficient * state over the terms; terms whose coefficient is the number 0 cost nothing.

    States are values: the sum may be one of the terms itself, where its coefficient is 1 and the others are 0.

    Raises:
        ValueError: there is no term.
    """
    given = list(terms)
    if not given:
        raise ValueError("a linear combination needs at least one term")
    kept = [(_number(c) if isinstance(c, Tensor) else c, s) for c, s in given if isinstance(c, Tensor) or c != 0.0]
    kept = kept or given[:1]
    if isinstance(kept[0][1], Tensor):
        return _add(kept)  # type: ignore[arg-type]
    coefficients = [c for c, _ in kept]
    return map_state(lambda *parts: _add(zip(coefficients, parts, strict=True)), *(s for _, s in kept))


def _add(terms: Iterable[tuple[Coefficient, Tensor]]) -> Tensor:
    """The same for tensors, of terms that all count; what was made here is added to in place."""
    total: Tensor | None = None
    fresh = False
    for coefficient, part in terms:
        scale = expand(coefficient, part) if isinstance(coefficient, Tensor) else coefficient
        if total is None:
            fresh = isinstance(scale, Tensor) or scale != 1.0
            total = part * scale if fresh else part
        elif isinstance(scale, Tensor):
            total, fresh = total + scale * part, True
        elif fresh and part.dtype == total.dtype:
            total.add_(part, alpha=scale)
        else:
            total, fresh = torch.add(total, part, alpha=scale), True
    assert total is not None
    return total


def _number(coefficient: Tensor) -> Coefficient:
    """A tensor of one number that is on the CPU and needs no gradient as the number, which is faster to apply."""
    if coefficient.ndim == 0 and coefficient.device.type == "cpu":
        return coefficient if coefficient.requires_grad else coefficient.item()
    return coefficient


def concatenate(states: Iterable[State]) -> State:
    """States one after the other along the batch."""
    return torch.cat(list(states))  # type: ignore[arg-type]


def select(rows: Tensor, chosen: State, other: State) -> State:
    """Row i of `chosen` where rows[i], else row i of `other`; `rows` is bool (B,)."""

    def where(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.reshape(rows.shape + (1,) * (a.ndim - 1)).to(a.device), a, b)

    return map_state(where, chosen, other)


def masked_sum(values: Tensor, mask: Tensor | None = None) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Sum of `values` (B, ...) over all but the batch, and the number of elements summed, per sample.

    `mask` (B, ...) is bool, and its axes are the first axes of `values` (a set's (B, N) mask serves positions (B, N,
    3)): what it leaves out adds nothing to the sum or to the count, so that padding never weighs.
    """
    flat = values.flatten(1)
    if mask is None:
        return flat.sum(1), values.new_full((len(values),), float(flat.shape[1]))
    weights = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)).expand_as(values).flatten(1)
    return torch.where(weights, flat, 0.0).sum(1), weights.sum(1).to(values.dtype)
