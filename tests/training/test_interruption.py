"""A signal saves at the end of a step, never in the middle of one, and a second one acts at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from framework.build import USER_CONFIG
from framework.training.checkpoints import latest
from framework.training.run import train
from tests.toy import point_config

ALLOW = USER_CONFIG.plus("tests")


class SendAt(L.Callback):
    """Sends this process a signal in micro-batch `batch`."""

    def __init__(self, number: int, batch: int) -> None:
        self.number, self.batch = number, batch

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("batch", [29, 30, 31])
def test_an_interrupted_run_resumed_equals_the_uninterrupted(number: int, batch: int, tmp_path: Path) -> None:
    """Four batches are accumulated for a step, and the signal comes between, before and after their ends."""
    settings = {"trainer__accumulate_grad_batches": 4, "trainer__max_steps": 12, "checkpoint__every_n_steps": 100}
    train(point_config(tmp_path / "whole", **settings), ALLOW)
    with pytest.raises(SystemExit) as left:
        train(point_config(tmp_path / "parts", **settings), ALLOW, callbacks=[SendAt(number, batch)])
    assert left.value.code == 128 + number
    assert latest(tmp_path / "parts").name == "step-00000008.ckpt"
    train(point_config(tmp_path / "parts", **settings, resume=str(tmp_path / "parts")), ALLOW)
    whole, parts = (torch.load(latest(tmp_path / name), weights_only=True)["state_dict"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_handlers_of_before_come_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(point_config(tmp_path, trainer__max_steps=2), ALLOW)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
