"""How far a run is: a bar on a terminal, a line now and then where the output is a file."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINES = 20  # lines in a whole run where there is no terminal


class TrainingProgress(L.Callback):
    """Steps done and to come, the loss (an average over about 25 steps), samples a second."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._loss = float("nan")
        self._start = 0.0
        self._samples_at_start = 0
        self._next_line = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._start, self._samples_at_start = time.monotonic(), pl_module.samples_seen  # type: ignore[assignment]
        bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[rate]:.0f} samples/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        if bar.console.is_terminal:
            self._bar = bar
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._task = bar.add_task("", total=total, completed=trainer.global_step, loss=self._loss, rate=0.0)
            bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero:
            return
        every = max(trainer.max_steps // LINES, 1) if trainer.max_steps > 0 else 1000
        step = trainer.global_step
        if step % 5 == 0 or self._loss != self._loss or (self._bar is None and step % every == 0):
            loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
            self._loss = loss if self._loss != self._loss else 0.8 * self._loss + 0.2 * loss
        rate = self._rate(pl_module)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=self._loss, rate=rate)
        elif step % every == 0 and step != self._next_line:
            self._next_line = step
            print(f"step {step} of {trainer.max_steps}: loss {self._loss:.4f}, {rate:.0f} samples/s", flush=True)

    def _rate(self, pl_module: Any) -> float:
        seconds = time.monotonic() - self._start
        return (pl_module.samples_seen - self._samples_at_start) / max(seconds, 1e-9)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
