"""Checkpoints that survive: durable on disk, checked when read, never of weights that are not finite.

`<run>/checkpoints/step-00001000.ckpt` is written beside its place, fsynced and renamed, and its SHA-256 goes into a
file next to it. A kill at any moment leaves the checkpoints before it as they were; one that does not match its sum is
passed over when a run is resumed, with a warning that names it. They load with weights_only=True: plain tensors and
numbers, no code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from framework.errors import UserError
from framework.files import remove_leftovers, sha256, write_atomically, write_text

SUFFIX = ".ckpt"


class CheckpointError(UserError):
    """There is no checkpoint to go on from, or the weights must not be saved."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint file written atomically, with its sum beside it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        write_atomically(path, lambda file: torch.save(checkpoint, file))
        write_text(sum_path(path), f"{sha256(path)}  {path.name}\n")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


def sum_path(checkpoint: Path) -> Path:
    """Where a checkpoint's SHA-256 is kept."""
    return checkpoint.with_suffix(SUFFIX + ".sha256")


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was saved at."""
    return int(checkpoint.stem.removeprefix("step-"))


def is_intact(checkpoint: Path) -> bool:
    """Whether the file matches its sum; where a kill came between the two writes, whether it can be read at all."""
    beside = sum_path(checkpoint)
    if beside.exists():
        return beside.read_text().split()[:1] == [sha256(checkpoint)]
    try:
        torch.load(checkpoint, map_location="meta", weights_only=True)
    except Exception:
        return False
    return True


def latest(run: Path) -> Path:
    """The newest intact checkpoint of a run.

    Raises:
        CheckpointError: the run has none.
    """
    folder = run / "checkpoints"
    found = sorted(folder.glob(f"step-*{SUFFIX}"), reverse=True)
    for checkpoint in found:
        if is_intact(checkpoint):
            return checkpoint
        warnings.warn(f"{checkpoint} does not match its checksum and is passed over", stacklevel=2)
    raise CheckpointError(
        f"{run} has no intact checkpoint to resume from ({len(found)} damaged ones in {folder}); "
        "start the run anew, or name another folder with resume="
    )


class Checkpoints(L.Callback):
    """Save every `every_n_steps` optimiser steps and at the end, and keep the last `keep`.

    `export` is called with the step after each save, to write the model in a form to be shared.

    Raises:
        UserError: `every_n_steps` or `keep` below 1.
    """

    def __init__(
        self,
        run: str | Path,
        every_n_steps: int = 1000,
        keep: int = 2,
        export: Callable[[int], object] | None = None,
    ) -> None:
        if every_n_steps < 1 or keep < 1:
            raise UserError(f"checkpoints need every_n_steps >= 1 and keep >= 1, got {every_n_steps} and {keep}")
        self.folder = Path(run) / "checkpoints"
        self.every_n_steps, self.keep, self.export = every_n_steps, keep, export
        self._last_step = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._last_step:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step != self._last_step:
            self.save(trainer, pl_module)

    def save(self, trainer: L.Trainer, pl_module: L.LightningModule) -> Path:
        """Save now.

        Raises:
            CheckpointError: a weight is not finite; nothing is written.
        """
        for name, weight in pl_module.state_dict().items():
            if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
                raise CheckpointError(
                    f"weight {name} is not finite at step {trainer.global_step}: nothing was saved, and the "
                    "checkpoints before it are kept"
                )
        path = self.folder / f"step-{trainer.global_step:08d}{SUFFIX}"
        trainer.save_checkpoint(path)
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            self._prune()
            if self.export is not None:
                self.export(trainer.global_step)
        return path

    def _prune(self) -> None:
        for old in sorted(self.folder.glob(f"step-*{SUFFIX}"))[: -self.keep]:
            old.unlink(missing_ok=True)
            sum_path(old).unlink(missing_ok=True)
