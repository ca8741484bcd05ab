"""From a command's configuration to a loaded model and to how it is to be sampled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import allowed
from experiments.errors import ConfigurationError
from experiments.show import show_messages

if TYPE_CHECKING:
    from framework.model import Model

HOW = ("solver", "grid", "steps", "guidance")


def load_run(settings: dict[str, Any]) -> Model:
    """The model of `run` on the chosen device (`auto`: a GPU if there is one).

    Raises:
        ConfigurationError: the device is not there.
        ModelFolderError: there is no model, or it is damaged.
        BuildError: it names what it may not.
    """
    from framework.build import MODEL_FOLDER
    from framework.store import load

    device = chosen_device(settings)
    show_messages("framework.grids")  # fitting a grid takes a while
    return load(Path(settings["run"]), device, MODEL_FOLDER.plus(*(settings["allow"] or ())))


def chosen_device(settings: dict[str, Any]) -> str:
    """The device that `device=` means.

    Raises:
        ConfigurationError: it is not there.
    """
    import torch

    device = str(settings["device"])
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"device={device}: there is no CUDA device here; use device=cpu or device=auto")
    return device


def sampling_choices(settings: dict[str, Any]) -> dict[str, Any]:
    """Solver, grid, steps and guidance as arguments of `Model.sample`; None is the model's own default."""
    from framework.build import build

    return {
        key: build(settings[key], allowed(settings)) if isinstance(settings[key], dict) else settings[key]
        for key in HOW
    }
