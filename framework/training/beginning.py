"""A run that begins with the weights of a trained model: fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.errors import UserError
from framework.model import Model
from framework.store import DIFFUSION, find_folder, kind, located, read, take

KEPT = ("modality", "backbone", "schedule", "parametrization", "noise_level", "processes")


def begin(model: Model, config: Mapping[str, Any], base: Path) -> None:
    """Give a fresh model the weights of the model in `base`.

    Args:
        model: what is to be trained.
        config: its configuration.
        base: the folder of a run, or of a model.

    Raises:
        ModelFolderError: there is no model, or its weights do not fit.
        UserError: it is an autoencoder, or a model whose parts mean other things than this run's.
    """
    folder = find_folder(base)
    saved, weights = read(folder)
    if kind(saved) != DIFFUSION:
        raise UserError(f"init={base} holds an autoencoder: a diffusion model cannot begin with it")
    changed = [key for key in KEPT if _said(saved.get(key)) != _said(config.get(key))]
    if changed:
        raise UserError(
            f"init={base}: the run would change the model's {', '.join(changed)}, which its weights were made for "
            f"({difference(_said(saved.get(changed[0])), _said(config.get(changed[0])), changed[0])}); leave it so"
        )
    take(model.network, weights, folder)


def difference(old: Any, new: Any, path: str) -> str:
    """The first value in which two configurations differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                return difference(old.get(key), new.get(key), f"{path}.{key}")
    return f"{path} was {old} and is {new}"


def _said(part: Any) -> Any:
    """A part's configuration without where its autoencoder lies, and without what it leaves to the default."""
    return _given(located(part, lambda path: ""))


def _given(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _given(value) for key, value in part.items() if value is not None}
    return [_given(value) for value in part] if isinstance(part, list) else part
