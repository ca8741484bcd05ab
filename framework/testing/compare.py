"""When two things are the same, and how far apart two states are."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from framework.state import Condition, State

Signature = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def leaves(state: State, name: str = "state") -> dict[str, Tensor]:
    """The tensors of a state or a condition by their dotted names; a tensor alone is called `name`."""
    if isinstance(state, Tensor):
        return {name: state}
    keys = state.keys(include_nested=True, leaves_only=True)
    found = {".".join(key) if isinstance(key, tuple) else str(key): state[key] for key in keys}
    return {key: found[key] for key in sorted(found)}


def signature(state: State) -> Signature:
    """The dtype and the shape of a row of each leaf."""
    return {name: (part.dtype, tuple(part.shape[1:])) for name, part in leaves(state).items()}


def signature_difference(a: State, b: State) -> str | None:
    """How the structures of `a` and `b` differ, in words; None where they do not."""
    if isinstance(a, Tensor) is not isinstance(b, Tensor):
        return f"a {type(a).__name__} and not a {type(b).__name__}"
    ours, theirs = signature(a), signature(b)
    if missing := sorted(set(theirs) - set(ours)):
        return f"{', '.join(missing)} missing"
    if more := sorted(set(ours) - set(theirs)):
        return f"{', '.join(more)} besides"
    for name, (dtype, shape) in ours.items():
        if dtype != theirs[name][0]:
            return f"{name} is {dtype} and not {theirs[name][0]}"
        if shape != theirs[name][1]:
            return f"{name} has rows of shape {shape} and not {theirs[name][1]}"
    return None


def unequal_keys(a: Condition, b: Condition) -> list[str]:
    """The names of the leaves in which two conditions of one structure differ."""
    ours, theirs = leaves(a), leaves(b)
    return [name for name in ours if name not in theirs or difference(ours[name], theirs[name]) is not None]


def gap(a: State, b: State) -> float:
    """The largest difference of two states of one structure over the root mean square of `b`: 0 where they are equal.

    Tokens are 1 apart as soon as one is another. NaN where either is not finite.
    """
    worst = 0.0
    for name, part in leaves(b).items():
        if not part.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(leaves(a)[name], part) else 1.0)
            continue
        theirs = part.double()
        apart = (leaves(a)[name].double() - theirs).abs()
        if apart.numel() == 0:
            continue
        largest, scale = float(apart.max()), float(theirs.square().mean().sqrt())
        if not np.isfinite(largest):
            return float("nan")
        worst = max(worst, largest / max(scale, 1e-12) if largest > 0 else 0.0)
    return worst


def difference(a: Any, b: Any, path: str = "") -> str | None:
    """Where two batches or two sets of samples differ first, in words; None where they are the same."""
    where = path or "it"
    if a is b:
        return None
    if isinstance(a, TensorDict) and isinstance(b, TensorDict):
        return difference(dict(a.items()), dict(b.items()), path)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return None if a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b) else f"{where} differs"
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{where} is {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        return None if torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) else f"{where} has other values"
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if set(a) != set(b):
            return f"{where} has other keys: {sorted(map(str, set(a) ^ set(b)))}"
        return _first(difference(a[key], b[key], f"{path}.{key}".lstrip(".")) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return f"{where} has {len(a)} and {len(b)} entries"
        return _first(difference(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
    if type(a) is not type(b):
        return f"{where} is a {type(a).__name__} and a {type(b).__name__}"
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a)]
        return difference({n: getattr(a, n) for n in names}, {n: getattr(b, n) for n in names}, path)
    return None if _equal(a, b) else f"{where} differs"


def _first(found: Any) -> str | None:
    return next((words for words in found if words is not None), None)


def _equal(a: Any, b: Any) -> bool:
    """Equality of what is no tensor: as it says itself, else by what is written of it."""
    try:
        if bool(a == b):
            return True
    except (TypeError, ValueError, RuntimeError):
        pass
    try:
        return pickle.dumps(a) == pickle.dumps(b)
    except Exception:  # an object may refuse in any way; then there is nothing to compare
        return False
