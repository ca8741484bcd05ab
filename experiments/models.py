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
    model = load(Path(settings["run"]), device, MODEL_FOLDER.plus(*(settings["allow"] or ())))
    for folder, scale in adapters(settings):
        from framework.adapters import adapted

        model = adapted(model, folder, scale)
    return model


def adapters(settings: dict[str, Any]) -> list[tuple[str, float]]:
    """The folders of `adapter` (one or a list of them) with their scales.

    Raises:
        ConfigurationError: there are not as many scales as adapters.
    """
    chosen, scales = settings.get("adapter"), settings.get("adapter_scale", 1.0)
    folders = [] if chosen is None else list(chosen) if isinstance(chosen, list) else [str(chosen)]
    numbers = list(scales) if isinstance(scales, list) else [float(scales)] * len(folders)
    if len(numbers) != len(folders):
        raise ConfigurationError(f"adapter_scale={scales}: give one number, or one for each of {len(folders)} adapters")
    return list(zip(folders, numbers, strict=True))


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
