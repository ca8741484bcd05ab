"""What a fitted grid depends on, as a text that is the same in every process: the key under which it is cached."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

DEEPEST = 12


def describe(value: Any, depth: int = 0) -> str:
    """A value by its type and its public contents: numbers as they are, tensors and networks by a hash of their bytes.

    Dataclasses are told by the fields that they were made with, other objects by their public attributes.
    """
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    if isinstance(value, float):
        return repr(float(value))  # NumPy's floats are floats, and say so
    if isinstance(value, Tensor):
        return f"Tensor({tensor_hash(value)})"
    if isinstance(value, nn.Module):
        return f"{_name(type(value))}({weights_hash(value)})"
    if inspect.isclass(value) or inspect.isroutine(value):
        return _name(value)
    if depth > DEEPEST:
        return _name(type(value))
    if isinstance(value, Mapping):
        items = sorted((str(key), describe(item, depth + 1)) for key, item in value.items())
    elif isinstance(value, list | tuple):
        return f"[{', '.join(describe(item, depth + 1) for item in value)}]"
    elif is_dataclass(value):
        items = [(f.name, describe(getattr(value, f.name), depth + 1)) for f in fields(value) if f.init]
    else:
        public = {name: item for name, item in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
        items = sorted((name, describe(item, depth + 1)) for name, item in public.items())
    return f"{_name(type(value))}({', '.join(f'{name}={item}' for name, item in items)})"


def weights_hash(network: nn.Module) -> str:
    """The first 16 digits of the SHA-256 of a network's parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}:{tensor_hash(tensor)}\n".encode())
    return digest.hexdigest()[:16]


def tensor_hash(tensor: Tensor) -> str:
    """The first 16 digits of the SHA-256 of a tensor's type, shape and bytes, wherever it lies."""
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
