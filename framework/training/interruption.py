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
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption(L.Callback):
    """Turn SIGTERM and Ctrl-C into a checkpoint and exit code 143 or 130; one process that is asked stops all.

    A second signal of the kind acts at once, as if nothing stood in its way.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning's own handlers, set just before, would end the run with code 0 and save nothing: they are replaced.
        for number in self._before:
            signal.signal(number, self._ask)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        print(f"{signal.Signals(number).name}: saving at the end of this step; once more to stop at once", flush=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches != 0:
            return  # gradients that are still being accumulated are in no checkpoint
        if not trainer.strategy.reduce_boolean_decision(self.asked is not None, all=False):
            return
        name = signal.Signals(self.asked or signal.SIGTERM).name
        path = self.checkpoints.save(trainer, pl_module)
        if trainer.is_global_zero:
            print(f"{name}: saved {path}; go on with resume={self.checkpoints.folder.parent}", flush=True)
        raise SystemExit(128 + (self.asked or signal.SIGTERM))
