"""Whether a plain value of a configuration can be what a parameter's annotation asks for.

Only annotations made of int, float, bool, str and None are judged, written as types, as text or as a union; any other
accepts every value here and is left to the constructor. So is null, which presets write for what the data will fill in.
"""

from __future__ import annotations

import types
import typing
from typing import Any

PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (types.NoneType,),
    "NoneType": (types.NoneType,),
}


def plain_parts(annotation: Any) -> list[str] | None:
    """The names of a plain annotation's alternatives, None for one that is not plain."""
    if isinstance(annotation, str):
        names = [part.strip() for part in annotation.split("|")]
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        names = [getattr(part, "__name__", "") for part in typing.get_args(annotation)]
    else:
        names = [getattr(annotation, "__name__", "")]
    return names if all(name in PLAIN for name in names) else None


def mismatch(value: Any, annotation: Any) -> str | None:
    """What the annotation asks for where the value is something else, None where it fits or cannot be judged.

    A bool is no number, though Python thinks so: `lr: true` is a slip.
    """
    parts = plain_parts(annotation)
    if parts is None or value is None or isinstance(value, dict):
        return None
    fits = any(isinstance(value, PLAIN[part]) and (part == "bool" or not isinstance(value, bool)) for part in parts)
    return None if fits else " or ".join("null" if part.startswith("None") else part for part in parts)
