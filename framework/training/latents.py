"""A second stage that never runs the encoder: the data module whose batches are latents from a cache on disk.

What the cache's key hashes is all that an encoded item depends on: the data's configuration with the names, sizes and
times of the files that it names, a probe of the items themselves, the modality's configuration (how a condition is
written, how large the canvas is) and the autoencoder's weights. How the data are augmented is part of the first: a
mirror image is an item of its own, so with `data.mirror=true` both copies are there.

By default the cache lies beside the autoencoder's model, where every run that uses this autoencoder finds it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import Dataset, default_collate

from framework.build import Allow, build
from framework.data.latent_cache import LatentCache, fill, key_of
from framework.errors import UserError
from framework.grids.identity import describe
from framework.latents import TrainedAutoencoder
from framework.metrics.feature_net import cache_folder
from framework.modality import Modality
from framework.posterior import Posterior
from framework.store import find_folder, located
from framework.training.loader import ResumableLoader

PROBES = 16  # items whose content goes into the key
NOT_CONTENT = ("batch_size", "num_workers", "skipped_path")  # of the data's configuration
FILES = ("path",)  # what names files of the data there
BATCH = 64  # items that are encoded at a time


class LatentData(L.LightningDataModule):
    """The batches of another data module, in its order, with latents in place of what they were made from."""

    def __init__(self, train: LatentCache, validation: LatentCache, loaders: tuple[Any, Any]) -> None:
        super().__init__()
        self.train, self.validation, self.loaders = train, validation, loaders

    def train_dataloader(self) -> ResumableLoader:
        return _loader(self.train, self.loaders[0])

    def val_dataloader(self) -> ResumableLoader:
        return _loader(self.validation, self.loaders[1])


def _loader(items: LatentCache, like: ResumableLoader) -> ResumableLoader:
    return ResumableLoader(
        items, batch_size=1, seed=0, shuffle=False, batches=like.batches, collate_fn=_whole
    )  # seed, size and order are those of `batches`


def _whole(batch: Posterior) -> Posterior:
    """A cache gives whole batches."""
    return batch


def latent_data(config: Mapping[str, Any], allow: Allow, data: Any) -> LatentData:
    """The data of a run whose states are latents, encoded now as far as they are not yet.

    Args:
        config: of the run, adapted to the data.
        allow: what its `_target_`s may name.
        data: its data module, set up.

    Raises:
        UserError: the data module's loaders are not `ResumableLoader`s, whose order can be kept.
    """
    modality: Modality = build(config["modality"], allow)
    loaders = data.train_dataloader(), data.val_dataloader()
    if not all(isinstance(loader, ResumableLoader) for loader in loaders):
        raise UserError(
            f"{type(data).__name__} has loaders of its own, whose items cannot be cached: autoencoder.cache=false"
        )
    device = _device(config["trainer"].get("accelerator", "auto"))
    root, settings = _root(config["autoencoder"]), _identity(config)
    train, validation = (
        _cache(root, settings, name, modality, loader, device)
        for name, loader in zip(("train", "validation"), loaders, strict=True)
    )
    return LatentData(train, validation, loaders)


def _cache(
    root: Path, settings: Mapping[str, Any], name: str, modality: Modality, loader: ResumableLoader, device: str
) -> LatentCache:
    items: Dataset[Any] = loader.dataset
    size = len(items)  # type: ignore[arg-type]
    record = {**settings, "items": size, "probe": _probe(items, size)}
    collate = loader.collate_fn or default_collate

    @torch.no_grad()
    def encode(indices: Sequence[int]) -> Posterior:
        return modality.posterior(move_data_to_device(collate([items[i] for i in indices]), torch.device(device)))

    folder = root / key_of(record)
    with _shown(name, size, folder) as progress:
        return fill(folder, record, size, encode, batch_size=BATCH, progress=progress)


@contextmanager
def _shown(name: str, size: int, folder: Path) -> Iterator[Any]:
    """A bar on a terminal, else a line at the end; says how many pictures were encoded and how many were there."""
    before, start = TrainedAutoencoder.pictures_encoded, time.monotonic()
    columns = (
        TextColumn(f"encoding {name} items"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, disable=not Console().is_terminal, transient=True) as bar:
        task = bar.add_task("", total=size)
        yield lambda done: bar.update(task, completed=done)
    encoded = min(TrainedAutoencoder.pictures_encoded - before, size)
    took = f" in {time.monotonic() - start:.1f} s" if encoded else ""
    print(f"latents of {size} {name} items: {encoded} encoded{took}, {size - encoded} from {folder}", flush=True)
    sys.stdout.flush()


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What all encoded items depend on, as plain values; paths by what lies there, an autoencoder by its weights."""
    data = {key: value for key, value in config["data"].items() if key not in NOT_CONTENT}
    data |= {key: _contents(data[key]) for key in FILES if key in data}
    modality = located(config["modality"], lambda path: TrainedAutoencoder(path).identity)
    return {"data": data, "modality": modality}


def _contents(value: Any) -> Any:
    """A value; for a path that exists, the names, sizes and times of the files there, wherever it is."""
    if not isinstance(value, str) or not value or not Path(value).exists():
        return value
    path = Path(value)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stats = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    return key_of({"files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]})


def _probe(items: Dataset[Any], size: int) -> str:
    """A hash of a few items: data that changed under the same configuration have other latents."""
    chosen = sorted({round(i * (size - 1) / max(PROBES - 1, 1)) for i in range(PROBES)})
    return key_of({"items": [describe(items[i]) for i in chosen]})


def _root(settings: Mapping[str, Any]) -> Path:
    """Where caches lie: as the configuration says, else beside the autoencoder's model, or where one may write."""
    if settings.get("cache_folder") is not None:
        return Path(settings["cache_folder"])
    beside = find_folder(Path(settings["run"])).parent
    return beside / "latents" if os.access(beside, os.W_OK) else cache_folder() / "latents"


def _device(accelerator: str) -> str:
    """Where to encode."""
    wanted = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    return "cuda" if wanted else "cpu"


class EncoderWatch(L.Callback):
    """Logs how many pictures encoders have read since training began: none, where latents come from a cache."""

    def __init__(self) -> None:
        self.before = 0

    @property
    def pictures(self) -> int:
        return TrainedAutoencoder.pictures_encoded - self.before

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.before = TrainedAutoencoder.pictures_encoded

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        pl_module.log("train/pictures_encoded", float(self.pictures))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            print(f"the encoder read {self.pictures} pictures in training", flush=True)
