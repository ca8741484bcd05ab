"""The first stage of a run in latents: an autoencoder in the run's own folder, trained if no other was named.

    <run>/autoencoder/            a run as any other: `diffract evaluate run=<run>/autoencoder` judges it
    <run>/autoencoder/finished    that it is done; without it, the first stage goes on where it was left

It learns from the run's own data on the run's own device, under the preset that `autoencoder.experiment` names.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from experiments.configuration import allowed, compose, plain
from experiments.errors import ConfigurationError
from framework.files import write_text

FINISHED = "finished"
SHARED = ("seed", "allow", "matmul_precision")  # what both stages have alike
DEVICE = ("accelerator", "precision")
WAIT = 1.0  # seconds between looks at what the first process does


def has_first_stage(settings: dict[str, Any]) -> bool:
    """Whether a run trains, or takes over, an autoencoder of its own before it begins."""
    wanted = settings.get("autoencoder") or {}
    return wanted.get("run") is not None and Path(wanted["run"]) == own_folder(settings)


def own_folder(settings: dict[str, Any]) -> Path:
    """Where a run's own autoencoder lies."""
    return Path(settings["run"]) / "autoencoder"


def first_stage(settings: dict[str, Any]) -> None:
    """Make the run's own autoencoder, as far as it is not made.

    Raises:
        ConfigurationError: neither another's folder nor a way to make one is given.
    """
    wanted, folder = settings["autoencoder"], own_folder(settings)
    if (folder / FINISHED).exists():
        print(f"autoencoder: {folder}, made before", flush=True)
        return
    if wanted.get("experiment") is None:
        raise ConfigurationError(
            "a model in latents needs an autoencoder: autoencoder.run=FOLDER names a trained one, "
            "autoencoder.experiment=PRESET the preset that trains one first"
        )
    if not _first_process():
        while not (folder / FINISHED).exists():
            time.sleep(WAIT)
        return
    start = time.monotonic()
    if wanted.get("pretrained") is not None:
        print(f"autoencoder: first, that of {wanted['pretrained']} is taken over to {folder}", flush=True)
        _take(settings, folder)
    else:
        _train(settings, folder)
    write_text(folder / FINISHED, f"{time.monotonic() - start:.0f} s\n")
    print(f"autoencoder: {folder} is made ({time.monotonic() - start:.0f} s); now the model in its latents", flush=True)


def _train(settings: dict[str, Any], folder: Path) -> None:
    from experiments.train import resumed
    from framework.training.run import train

    preset = settings["autoencoder"]["experiment"]
    if any((folder / "checkpoints").glob("*.ckpt")):
        print(f"autoencoder: first, the training of {preset} in {folder} goes on", flush=True)
        stage = resumed({"resume": str(folder)}, [])
    else:
        print(f"autoencoder: first, {preset} is trained in {folder}", flush=True)
        stage = stage_settings(settings, folder)
    train(stage, allowed(stage), settings["autoencoder"]["overrides"])


def _take(settings: dict[str, Any], folder: Path) -> None:
    from framework.training.pretrained import take_over

    stage = stage_settings(settings, folder)
    take_over(settings["autoencoder"]["pretrained"], stage, allowed(stage), folder)


def stage_settings(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration of the first stage: its preset's, with the run's data, seed and device."""
    from experiments.train import relocate

    wanted = settings["autoencoder"]
    stage = plain(compose("train", [f"experiment={wanted['experiment']}", *wanted["overrides"], f"run={folder}"]))
    stage |= {key: settings[key] for key in SHARED}
    stage["data"] = {**settings["data"], "batch_size": stage["data"]["batch_size"]}
    stage["trainer"] |= {key: settings["trainer"][key] for key in DEVICE} | {"devices": 1, "num_nodes": 1}
    stage["trainer"]["strategy"] = "auto"
    stage["logger"] = relocate(settings["logger"], str(settings["run"]), str(folder))
    return stage


def save_settings(settings: dict[str, Any]) -> None:
    """Keep a run's configuration before its first stage, so that `resume=` can go on with it from there."""
    write_text(Path(settings["run"]) / "config.yaml", yaml.safe_dump(settings, sort_keys=False))


def _first_process() -> bool:
    """Whether this is the first of the processes that train together, as far as they are running yet."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0
