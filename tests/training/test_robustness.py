"""What a run promises when something goes wrong: kill -9 in a save, SIGTERM in a step, NaN, a damaged file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from framework.build import USER_CONFIG
from framework.files import write_atomically
from framework.store import load
from framework.training.checkpoints import CheckpointError, Checkpoints, is_intact, latest
from framework.training.interruption import EXIT_CODE
from framework.training.module import TrainingDivergedError
from framework.training.run import train
from tests.toy import point_config

ALLOW = USER_CONFIG.plus("tests")
ROOT = Path(__file__).parents[2]

SLOW_WRITER = """
import os, sys, time
import torch
from framework.training import checkpoints
from framework.build import USER_CONFIG
from framework.training.run import train
from tests.toy import point_config

save = torch.save
def slow_save(obj, file):  # half of the bytes, then a long pause in which the test kills us
    import io
    buffer = io.BytesIO()
    save(obj, buffer)
    file.write(buffer.getvalue()[: buffer.tell() // 2])
    file.flush()
    if os.path.exists(sys.argv[1] + "/checkpoints/step-00000010.ckpt"):
        print("WRITING", flush=True)
        time.sleep(60)
    file.write(buffer.getvalue()[buffer.tell() // 2 :])
checkpoints.torch.save = slow_save
train(point_config(__import__("pathlib").Path(sys.argv[1])), USER_CONFIG.plus("tests"))
"""

LONG_RUN = """
import sys
from pathlib import Path
from framework.build import USER_CONFIG
from framework.training.run import train
from tests.toy import point_config

config = point_config(Path(sys.argv[1]), trainer__max_steps=100000, checkpoint__every_n_steps=50)
train(config, USER_CONFIG.plus("tests"))
"""


def start(program: str, run: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", program, str(run)], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


def test_kill_in_a_save_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    process = start(SLOW_WRITER, tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "WRITING" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "checkpoints").glob(".tmp-*")), "the kill did not hit the middle of a save"
    assert latest(tmp_path).name == "step-00000010.ckpt"
    train(point_config(tmp_path, resume=str(tmp_path)), ALLOW)
    assert latest(tmp_path).name == "step-00000020.ckpt"
    assert not list((tmp_path / "checkpoints").glob(".tmp-*"))


def test_sigterm_saves_and_leaves_with_143(tmp_path: Path) -> None:
    process = start(LONG_RUN, tmp_path)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "checkpoints").glob("*.sha256")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE == 143
    assert "SIGTERM: saved" in output
    saved = int(latest(tmp_path).stem.removeprefix("step-"))
    load(tmp_path, allow=ALLOW).sample(0, 2)
    resumed = point_config(tmp_path, resume=str(tmp_path), trainer__max_steps=saved + 3)
    train(resumed, ALLOW)
    assert int(latest(tmp_path).stem.removeprefix("step-")) == saved + 3


def test_one_bad_batch_costs_its_step_only(tmp_path: Path) -> None:
    train(point_config(tmp_path, data__poison=[7]), ALLOW)
    state = torch.load(latest(tmp_path), weights_only=True)
    assert state["counts"]["skipped"] >= 1
    assert all(bool(torch.isfinite(w).all()) for w in state["state_dict"].values())
    assert "train/skipped_steps" in (tmp_path / "metrics.csv").read_text()


def test_a_loss_that_stays_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    """All data is poisoned from step 10 on, so the checkpoint of step 10 is the last good one."""
    train(point_config(tmp_path, trainer__max_steps=10), ALLOW)
    poisoned = point_config(tmp_path, resume=str(tmp_path), data__poison=list(range(96)), trainer__max_steps=200)
    with pytest.raises(TrainingDivergedError, match="20 steps in a row"):
        train(poisoned, ALLOW)
    for checkpoint in (tmp_path / "checkpoints").glob("*.ckpt"):
        weights = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert all(bool(torch.isfinite(w).all()) for w in weights.values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    from lightning import Trainer

    from tests.toy import PointData, point_training

    module, checkpoints = point_training(), Checkpoints(tmp_path, every_n_steps=5)
    trainer = Trainer(
        accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, PointData())
    with torch.no_grad():
        module.network.first.weight[0, 0] = float("nan")  # type: ignore[union-attr, index, operator]
    with pytest.raises(CheckpointError, match=r"network\.first\.weight is not finite"):
        checkpoints.save(trainer, module)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_flipped_byte_is_found_and_passed_over(tmp_path: Path) -> None:
    train(point_config(tmp_path), ALLOW)
    newest = latest(tmp_path)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert not is_intact(newest)
    with pytest.warns(UserWarning, match="does not match its checksum"):
        assert latest(tmp_path).name == "step-00000015.ckpt"
    for checkpoint in (tmp_path / "checkpoints").glob("*.ckpt"):
        checkpoint.write_bytes(b"torn")
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match="no intact checkpoint"):
        warnings.simplefilter("ignore")
        latest(tmp_path)


def test_an_interrupted_write_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail(out: object) -> None:
        out.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, fail)
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_environment_is_recorded(tmp_path: Path) -> None:
    train(point_config(tmp_path, trainer__max_steps=1), ALLOW)
    record = json.loads((tmp_path / "environment.json").read_text())
    assert record["seed"] == 0 and record["versions"]["torch"].startswith("2.")
    assert {"python", "platform", "git_commit", "device", "time"} <= record.keys()
