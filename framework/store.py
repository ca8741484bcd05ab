"""A trained model as a folder: weights as safetensors, a configuration, a card and a list of checksums.

    model/config.yaml         modality, backbone, schedule, parametrisation, defaults of sampling
    model/model.safetensors   the averaged weights
    model/README.md           the model card
    model/manifest.json       format version and the SHA-256 of the files above
    model/autoencoder/        the folder of the autoencoder whose latents it works in, if it does, as a copy

An autoencoder alone is such a folder too: `kind: autoencoder`, with a modality and a backbone.

A folder from somebody else is data and not a program: no pickle is read, a configuration may name only classes that
`build.MODEL_FOLDER` allows, and a weight that was changed on the way does not match its checksum. A new version
replaces the old one by renames; a reader that comes between them finds the old one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from framework.build import MODEL_FOLDER, Allow, build
from framework.errors import UserError
from framework.files import TEMPORARY, sha256, sync_folder
from framework.grids.cache import GridCache
from framework.model import Model, SamplingDefaults
from framework.plugins import PluginError, modalities

FORMAT = 1
WEIGHTS, CONFIG, CARD, MANIFEST = "model.safetensors", "config.yaml", "README.md", "manifest.json"
PREVIOUS = "model.previous"
MODEL_KEYS = ("modality", "backbone", "schedule", "parametrization", "noise_level", "defaults", "processes")
DIFFUSION, AUTOENCODER = "diffusion", "autoencoder"  # what a folder may hold; where it does not say, a diffusion model
AUTOENCODER_KEYS = ("kind", "modality", "backbone")
CARRIED = "framework.latents.TrainedAutoencoder"  # the part of a configuration that names a folder, by `path`


class ModelFolderError(UserError):
    """A model folder is missing, incomplete, damaged or of another version."""


def build_model(config: Mapping[str, Any], allow: Allow) -> Model:
    """A model with fresh weights from the entries of a configuration.

    Args:
        config: `modality`, `backbone`, `schedule` and `parametrization` as {_target_: ...}; `noise_level` and
            `processes` likewise, and `defaults` with `solver`, `grid`, `steps` and `guidance`, are optional.
        allow: what the configuration may name.

    Raises:
        BuildError: a name is not allowed or an argument does not exist; every problem is named.
    """
    parts = build({key: config[key] for key in MODEL_KEYS if config.get(key) is not None}, allow)
    given = {key: value for key, value in (parts.get("defaults") or {}).items() if value is not None}
    optional = {key: parts[key] for key in ("noise_level", "processes") if key in parts}
    return Model(
        modality=parts["modality"],
        network=parts["backbone"],
        schedule=parts["schedule"],
        parametrization=parts["parametrization"],
        defaults=SamplingDefaults(**given),
        **optional,
    )


class Stored(Protocol):
    """What can be written: a model, or an autoencoder."""

    @property
    def network(self) -> nn.Module: ...


def kind(config: Mapping[str, Any]) -> str:
    """DIFFUSION or AUTOENCODER: what a model folder with this configuration holds."""
    return str(config.get("kind", DIFFUSION))


def save(model: Stored, config: Mapping[str, Any], folder: str | Path, card: str) -> Path:
    """Write a model folder, in place of the one that may be there.

    Args:
        model: its network's weights are written, in their own precision.
        config: as for `build_model`; an autoencoder's says `kind: autoencoder`. The folders of autoencoders that it
            names are copied into the new one.
        folder: the folder to make.
        card: the model card, in Markdown.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f"{TEMPORARY}*/"):  # of a process that was killed while it wrote
        shutil.rmtree(leftover, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent))
    fresh.chmod(0o755)
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.network.state_dict().items()}
    save_file(weights, fresh / WEIGHTS)
    keys = AUTOENCODER_KEYS if kind(config) == AUTOENCODER else MODEL_KEYS
    kept = {key: config[key] for key in keys if config.get(key) is not None}
    carried: dict[Path, str] = {}

    def carry(path: str) -> str:
        source = find_folder(Path(path)).resolve()
        if source not in carried:
            carried[source] = "autoencoder" if not carried else f"autoencoder-{len(carried) + 1}"
            shutil.copytree(source, fresh / carried[source])
        return carried[source]

    kept = located(kept, carry)
    (fresh / CONFIG).write_text(yaml.safe_dump(kept, sort_keys=False))
    (fresh / CARD).write_text(card)
    inner = [f"{name}/{MANIFEST}" for name in carried.values()]
    sums = {name: sha256(fresh / name) for name in (CONFIG, WEIGHTS, CARD, *inner)}
    (fresh / MANIFEST).write_text(json.dumps({"format": FORMAT, "sha256": sums}, indent=2) + "\n")
    for file in fresh.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
        _sync(file)
    _replace(folder, fresh)
    return folder


def _replace(folder: Path, fresh: Path) -> None:
    previous = folder.with_name(PREVIOUS)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(folder, previous)
    os.rename(fresh, folder)
    sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _sync(file: Path) -> None:
    if file.is_dir():
        sync_folder(file)
        return
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def located(config: Any, place: Callable[[str], str]) -> Any:
    """A configuration in which the folder of each autoencoder that it carries is `place` of what it was."""
    if isinstance(config, list):
        return [located(value, place) for value in config]
    if not isinstance(config, Mapping):
        return config
    moved = {key: located(value, place) for key, value in config.items()}
    if moved.get("_target_") == CARRIED and isinstance(moved.get("path"), str):
        moved["path"] = place(moved["path"])
    return moved


def load(path: str | Path, device: str | torch.device = "cpu", allow: Allow = MODEL_FOLDER) -> Model:
    """The model of a run folder or of a model folder, ready to sample.

    Args:
        path: a run's folder (with `model/` in it) or a model folder itself; or a folder of other software that an
            installed modality can read (`Modality.foreign`).
        device: where the network is put.
        allow: what its configuration may name; `MODEL_FOLDER.plus("my_package")` adds classes of your own.

    Raises:
        ModelFolderError: nothing is there, a file is missing or does not match its checksum, or the format is unknown.
        BuildError: the configuration names what it may not.
    """
    if (found := _foreign(Path(path))) is not None:
        return found.to(device)
    folder = find_folder(Path(path))
    config, weights = read(folder)
    if kind(config) != DIFFUSION:
        raise ModelFolderError(
            f"{path} holds an autoencoder, which is not sampled: `diffract evaluate` judges it, and diffusion models "
            "are trained on its latents"
        )
    model = build_model(config, allow)
    fill(model.network, weights, folder)
    model.grids = GridCache(folder.parent / "grids")
    return model.to(device)


def _foreign(path: Path) -> Model | None:
    """The model of a folder that is none of ours, if a modality knows what it is."""
    if not path.is_dir() or any((path / name).exists() for name in (MANIFEST, "model", PREVIOUS, "checkpoints")):
        return None
    for plugin in modalities().values():
        try:
            kind_of_data: Any = plugin.load()
        except PluginError:
            continue  # it is told by `diffract modalities`
        if (found := kind_of_data.foreign(path)) is not None:
            assert isinstance(found, Model)
            return found
    return None


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the weights of a model folder, checked; the folders inside it are named in full.

    Raises:
        ModelFolderError: as `load`.
    """
    sums = _verify(folder)

    def inside(name: str) -> str:
        if name in (".", "..") or Path(name).name != name or f"{name}/{MANIFEST}" not in sums:
            raise ModelFolderError(f"{folder / CONFIG} names an autoencoder at {name!r}, which is not in this folder")
        _verify(folder / name)
        return str(folder / name)

    config = located(yaml.safe_load((folder / CONFIG).read_text()), inside)
    try:
        return config, load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise _misfit(folder, error) from error


def fill(network: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Give a network the weights of a model folder, and freeze it.

    Raises:
        ModelFolderError: they are another network's.
    """
    take(network, weights, folder)
    network.eval().requires_grad_(False)


def take(network: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Give a network the weights of a model folder, to be trained further or not, as it was made.

    Raises:
        ModelFolderError: they are another network's.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise _misfit(folder, error) from error


def _misfit(folder: Path, error: Exception) -> ModelFolderError:
    return ModelFolderError(f"{folder / WEIGHTS} does not fit the network of {CONFIG}: {error}")


def find_folder(path: Path) -> Path:
    """The model folder that `path` means."""
    for candidate in (path, path / "model", path / PREVIOUS):
        if (candidate / MANIFEST).is_file():
            return candidate
    if not path.exists():
        raise ModelFolderError(f"{path} does not exist")
    if (path / "checkpoints").is_dir():
        raise ModelFolderError(f"{path} has no model yet; go on with `diffract train resume={path}`")
    raise ModelFolderError(
        f"{path} is neither a run nor a model folder: there is no {MANIFEST} in it or in {path}/model"
    )


def _verify(folder: Path) -> dict[str, str]:
    """The checksums of the manifest, after the files have been held against them."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version, sums = manifest["format"], manifest["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{folder / MANIFEST} is damaged: {error!r}") from error
    if version != FORMAT:
        raise ModelFolderError(f"{folder} has format {version}, and this version of Diffract reads format {FORMAT}")
    for name in (CONFIG, WEIGHTS, *(name for name in sums if name.endswith(f"/{MANIFEST}"))):
        file = folder / name
        if not file.is_file():
            raise ModelFolderError(f"{folder} is incomplete: {name} is missing")
        if sums.get(name) != sha256(file):
            raise ModelFolderError(f"{file} does not match its checksum in {MANIFEST}: it is damaged or was changed")
    return dict(sums)
