"""A trained model as a folder: weights as safetensors, a configuration, a card and a list of checksums.

    model/config.yaml         modality, backbone, schedule, parametrisation, defaults of sampling
    model/model.safetensors   the averaged weights
    model/README.md           the model card
    model/manifest.json       format version and the SHA-256 of the files above

A folder from somebody else is data and not a program: no pickle is read, a configuration may name only classes that
`build.MODEL_FOLDER` allows, and a weight that was changed on the way does not match its checksum. A new version
replaces the old one by renames; a reader that comes between them finds the old one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from framework.build import MODEL_FOLDER, Allow, build
from framework.errors import UserError
from framework.files import TEMPORARY, sha256, sync_folder
from framework.grids.cache import GridCache
from framework.model import Model, SamplingDefaults

FORMAT = 1
WEIGHTS, CONFIG, CARD, MANIFEST = "model.safetensors", "config.yaml", "README.md", "manifest.json"
PREVIOUS = "model.previous"
MODEL_KEYS = ("modality", "backbone", "schedule", "parametrization", "noise_level", "defaults")


class ModelFolderError(UserError):
    """A model folder is missing, incomplete, damaged or of another version."""


def build_model(config: Mapping[str, Any], allow: Allow) -> Model:
    """A model with fresh weights from the entries of a configuration.

    Args:
        config: `modality`, `backbone`, `schedule` and `parametrization` as {_target_: ...}; `noise_level` likewise, and
            `defaults` with `solver`, `grid`, `steps` and `guidance`, are optional.
        allow: what the configuration may name.

    Raises:
        BuildError: a name is not allowed or an argument does not exist; every problem is named.
    """
    parts = build({key: config[key] for key in MODEL_KEYS if config.get(key) is not None}, allow)
    given = {key: value for key, value in (parts.get("defaults") or {}).items() if value is not None}
    optional = {"noise_level": parts["noise_level"]} if "noise_level" in parts else {}
    return Model(
        modality=parts["modality"],
        network=parts["backbone"],
        schedule=parts["schedule"],
        parametrization=parts["parametrization"],
        defaults=SamplingDefaults(**given),
        **optional,
    )


def save(model: Model, config: Mapping[str, Any], folder: str | Path, card: str) -> Path:
    """Write a model folder, in place of the one that may be there.

    Args:
        model: its network's weights are written, in their own precision.
        config: as for `build_model`.
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
    kept = {key: config[key] for key in MODEL_KEYS if config.get(key) is not None}
    (fresh / CONFIG).write_text(yaml.safe_dump(kept, sort_keys=False))
    (fresh / CARD).write_text(card)
    sums = {name: sha256(fresh / name) for name in (CONFIG, WEIGHTS, CARD)}
    (fresh / MANIFEST).write_text(json.dumps({"format": FORMAT, "sha256": sums}, indent=2) + "\n")
    for file in fresh.iterdir():
        file.chmod(0o644)
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
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def load(path: str | Path, device: str | torch.device = "cpu", allow: Allow = MODEL_FOLDER) -> Model:
    """The model of a run folder or of a model folder, ready to sample.

    Args:
        path: a run's folder (with `model/` in it) or a model folder itself.
        device: where the network is put.
        allow: what its configuration may name; `MODEL_FOLDER.plus("my_package")` adds classes of your own.

    Raises:
        ModelFolderError: nothing is there, a file is missing or does not match its checksum, or the format is unknown.
        BuildError: the configuration names what it may not.
    """
    folder = find_folder(Path(path))
    _verify(folder)
    config = yaml.safe_load((folder / CONFIG).read_text())
    model = build_model(config, allow)
    try:
        weights = load_file(folder / WEIGHTS)
        model.network.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise ModelFolderError(f"{folder / WEIGHTS} does not fit the network of {CONFIG}: {error}") from error
    model.network.eval().requires_grad_(False)
    model.grids = GridCache(folder.parent / "grids")
    return model.to(device)


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


def _verify(folder: Path) -> None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version, sums = manifest["format"], manifest["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{folder / MANIFEST} is damaged: {error!r}") from error
    if version != FORMAT:
        raise ModelFolderError(f"{folder} has format {version}, and this version of Diffract reads format {FORMAT}")
    for name in (CONFIG, WEIGHTS):
        file = folder / name
        if not file.is_file():
            raise ModelFolderError(f"{folder} is incomplete: {name} is missing")
        if sums.get(name) != sha256(file):
            raise ModelFolderError(f"{file} does not match its checksum in {MANIFEST}: it is damaged or was changed")
