"""A pretrained autoencoder as the first stage of a run: its latents are measured on the run's data, and it is saved.

What is written is a run's folder with a model in it, as if it had been trained here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from framework.backbones.diffusers_autoencoder import DiffusersAutoencoder, pretrained
from framework.build import Allow, build, find
from framework.files import write_text
from framework.latents import Autoencoder
from framework.store import AUTOENCODER, save
from framework.training.autoencoder import check_fit, latent_statistics

TARGET = f"{DiffusersAutoencoder.__module__}.{DiffusersAutoencoder.__qualname__}"


def take_over(source: str, config: Mapping[str, Any], allow: Allow, folder: Path) -> None:
    """Make `folder` the run of a pretrained autoencoder.

    Args:
        source: a folder of diffusers, or a hub id.
        config: of a training of an autoencoder, with the data that latents are measured on.
        allow: what its `_target_`s may name.
        folder: the run's.

    Raises:
        UserError: there is no such autoencoder, or it reads other pictures than the data's.
    """
    network = pretrained(source).eval().requires_grad_(False)
    data = build(config["data"], allow)
    data.setup("fit")
    backbone = {"_target_": TARGET, "kind": network.kind, "settings": network.settings}
    settings = find(config["modality"]["_target_"], allow).adapt({**config, "backbone": {}}, data)  # type: ignore[attr-defined]
    settings = {**settings, "kind": AUTOENCODER, "backbone": _plain(backbone), "run": str(folder)}
    modality = build(settings["modality"], allow)
    check_fit(modality, network)
    mean, std = latent_statistics(Autoencoder(modality, network), data.train_dataloader())
    network.latent_mean.copy_(mean)
    network.latent_std.copy_(std)
    write_text(folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    save(Autoencoder(modality, network), settings, folder / "model", _card(source, network))


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _card(source: str, network: DiffusersAutoencoder) -> str:
    return f"""# {Path(source).name}

diffusers' {network.kind}, taken over from {source} as it is. Its latents were measured on the data of the run that it
is a part of: they have zero mean and unit variance there. Its licence is that of its origin.
"""
