"""From a command's configuration to a loaded model and to how it is to be sampled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import allowed
from experiments.errors import ConfigurationError

if TYPE_CHECKING:
    from framework.model import Model

HOW = ("solver", "grid", "steps", "guidance")


def load_run(settings: dict[str, Any]) -> Model:
    """The model of `run` on the chosen device (`auto`: a GPU if there is one).

    Raises:
        ConfigurationError: there is no model, or it is damaged or names what it may not.
    """
    import torch

    from framework.build import MODEL_FOLDER, BuildError
    from framework.store import ModelFolderError, load

    device = settings["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return load(Path(settings["run"]), device, MODEL_FOLDER.plus(*(settings["allow"] or ())))
    except (ModelFolderError, BuildError) as error:
        raise ConfigurationError(f"run={settings['run']}: {error}") from error


def sampling_choices(settings: dict[str, Any]) -> dict[str, Any]:
    """Solver, grid, steps and guidance as arguments of `Model.sample`; None is the model's own default."""
    from framework.build import build

    return {
        key: build(settings[key], allowed(settings)) if isinstance(settings[key], dict) else settings[key]
        for key in HOW
    }
