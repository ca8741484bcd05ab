"""`diffract train`: compose, print and save the configuration, and run it.

`resume=<run>` goes on with a run under its own saved configuration; only how long it runs and what it reports may
change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from experiments.autoencoder import first_stage, has_first_stage, save_settings
from experiments.configuration import allowed, given_overrides, plain
from experiments.errors import ConfigurationError
from experiments.show import show_config

CHANGEABLE = ("trainer", "checkpoint", "sampling", "logger")  # what a resumed run may be given anew
MOVABLE = ("data.path", "data.num_workers")  # where its data lie and who reads them


def run(config: DictConfig | dict[str, Any]) -> float:
    """Train as the configuration says; returns the last validation loss."""
    from framework.training.run import check_fresh, train

    overrides = given_overrides()
    settings = resumed(config, overrides) if config.get("resume") else plain(config)
    if settings["data"].get("path") is not None:  # the run is to be resumed and judged from any folder
        settings["data"]["path"] = str(Path(settings["data"]["path"]).resolve())
    show_config(settings)
    if has_first_stage(settings):
        folder = Path(settings["run"])
        if settings["resume"] is None:
            check_fresh(folder)
            save_settings(settings)
        first_stage(settings)
        if not any((folder / "checkpoints").glob("*.ckpt")):
            settings["resume"] = None  # the run was stopped before its own training began
    loss = train(settings, allowed(settings), overrides)
    print(f"model: {settings['run']}/model   metrics: {settings['run']}/metrics.csv", flush=True)
    return loss


def resumed(config: DictConfig | dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The saved configuration of the run to go on with, with the overrides that a resumed run may take.

    Raises:
        ConfigurationError: an override would make it another run.
    """
    folder = Path(config["resume"])
    saved = OmegaConf.create(yaml.safe_load((folder / "config.yaml").read_text()))
    for override in overrides:
        key, _, _ = override.lstrip("+~").partition("=")
        group = key.partition(".")[0]
        if key in ("resume", "run"):
            continue
        if key in MOVABLE:
            OmegaConf.update(saved, key, yaml.safe_load(override.partition("=")[2]))
            continue
        if group not in CHANGEABLE or "." not in key:
            raise ConfigurationError(
                f"{override}: a resumed run keeps its configuration; only single values of {', '.join(CHANGEABLE)} "
                f"may be changed (trainer.max_steps=...). Start a new run to change '{key}'"
            )
        OmegaConf.update(saved, key, OmegaConf.select(OmegaConf.create(plain(config)), key))
    moved = relocate(plain(saved), str(saved["run"]), str(folder))
    return {**moved, "resume": str(folder), "run": str(folder)}


def relocate(node: Any, old: str, new: str) -> Any:
    """A configuration in which what lay in the run's old folder lies in the new one."""
    if isinstance(node, dict):
        return {key: relocate(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [relocate(value, old, new) for value in node]
    if isinstance(node, str) and (node == old or node.startswith(old.rstrip("/") + "/")):
        return new + node.removeprefix(old.rstrip("/"))
    return node


if __name__ == "__main__":
    from experiments.cli import command_line

    command_line("train")
