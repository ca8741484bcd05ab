"""`diffract train`: compose, print and save the configuration, and run it.

`resume=<run>` goes on with a run under its own saved configuration; only how long it runs and what it reports may
change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from experiments.configuration import allowed, given_overrides, plain
from experiments.errors import ConfigurationError
from experiments.show import show_config

CHANGEABLE = ("trainer", "checkpoint", "sampling", "logger")  # what a resumed run may be given anew


def run(config: DictConfig | dict[str, Any]) -> float:
    """Train as the configuration says; returns the last validation loss."""
    from framework.training.run import train

    overrides = given_overrides()
    settings = resumed(config, overrides) if config.get("resume") else plain(config)
    show_config(settings)
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
        if group not in CHANGEABLE or "." not in key:
            raise ConfigurationError(
                f"{override}: a resumed run keeps its configuration; only single values of {', '.join(CHANGEABLE)} "
                f"may be changed (trainer.max_steps=...). Start a new run to change '{key}'"
            )
        OmegaConf.update(saved, key, OmegaConf.select(OmegaConf.create(plain(config)), key))
    saved["resume"], saved["run"] = str(folder), str(folder)
    return plain(saved)


if __name__ == "__main__":
    from experiments.cli import command_line

    command_line("train")
