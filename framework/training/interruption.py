"""SIGTERM, as schedulers send it before they take a machine away: save at the next step's end and leave with code 143.

143 = 128 + 15 is what a shell reports for a terminated process; SLURM requeues on it with RequeueExit=143, and so does
any supervisor that restarts failed jobs. `diffract train resume=<run>` then goes on at the very step. The handler only
sets a flag; the checkpoint is written between steps, where the run's state is whole. A signal that comes during
validation or a preview is answered when they are done; if a scheduler does not wait so long, the last periodic
checkpoint stands.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning as L

from framework.training.checkpoints import Checkpoints

EXIT_CODE = 128 + signal.SIGTERM


class Interruption(L.Callback):
    """Turn SIGTERM into a checkpoint and exit code 143; one process that is asked stops all."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.asked = False
        self._before: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning's own handler, set just before, would end the run with code 0 and save nothing: it is replaced.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            return
        path = self.checkpoints.save(trainer, pl_module)
        print(f"SIGTERM: saved {path}; go on with resume={self.checkpoints.folder.parent}", flush=True)
        raise SystemExit(EXIT_CODE)
