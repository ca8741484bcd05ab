"""Samples during training, always from the same noise and prompts, so that a row of pictures shows what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from framework.training.module import DiffusionTraining


class Previews(L.Callback):
    """Draw `n` samples of the average's network every `every_n_steps` steps into <run>/samples/step-.../."""

    def __init__(
        self, run: str | Path, prompts: Sequence[Any], n: int = 16, every_n_steps: int = 1000, seed: int = 0
    ) -> None:
        self.folder = Path(run) / "samples"
        self.prompts, self.n, self.every_n_steps, self.seed = list(prompts), n, every_n_steps, seed
        self._last_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not trainer.is_global_zero or step == self._last_step or step % self.every_n_steps != 0:
            return
        self._last_step = step
        self.draw(pl_module, self.folder / f"step-{step:08d}")

    def draw(self, module: Any, folder: Path) -> list[Path]:
        """Draw them now; returns the files."""
        assert isinstance(module, DiffusionTraining)
        averaged = module.averaged_model()
        return averaged.sample(self.prompts, self.n, seed=self.seed).save(folder)
