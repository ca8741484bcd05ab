"""The core of Diffract: states, noise and time, and nothing about any one kind of data.

    from framework import load
    load("outputs/shapes").sample("a red circle", n=4)

Names are imported when they are first asked for, so that `import framework` costs nothing: composing a
configuration, the help text and shell completion never pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framework.store import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

_HOMES = {"load": "framework.store"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'framework' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
