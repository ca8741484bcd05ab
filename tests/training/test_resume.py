"""A resumed run is the uninterrupted run, bit by bit."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from framework.build import USER_CONFIG
from framework.store import load
from framework.training.checkpoints import latest
from framework.training.run import train
from tests.toy import point_config

ALLOW = USER_CONFIG.plus("tests")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(latest(run), weights_only=True)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("stop", "workers", "accumulate"),
    [(5, 0, 1), (10, 0, 1), (12, 0, 1), (13, 0, 1), (10, 2, 1), (5, 0, 2), (12, 0, 2)],
    ids="stop_at_{}".format,
)
def test_resumed_equals_uninterrupted(tmp_path: Path, stop: int, workers: int, accumulate: int) -> None:
    """96 items in batches of 8 are epochs of 12: 5 and 10 are mid-epoch, 12 an epoch's end, 13 just after one."""
    changes = {"data__num_workers": workers, "trainer__accumulate_grad_batches": accumulate}
    whole = tmp_path / "whole"
    train(point_config(whole, **changes), ALLOW)
    parts = tmp_path / "parts"
    # The first part is configured as the whole, but is stopped early, as a kill would.
    cut = point_config(parts, **changes, checkpoint__every_n_steps=stop, checkpoint__keep=9)
    train(cut, ALLOW)
    for newer in (parts / "checkpoints").glob("step-*.ckpt*"):
        if int(newer.name[5:13]) > stop:
            newer.unlink()
    train(point_config(parts, **changes, resume=str(parts)), ALLOW)
    assert same(weights(whole), weights(parts))
    optimizers = [torch.load(latest(run), weights_only=True)["optimizer_states"][0]["state"] for run in (whole, parts)]
    assert all(torch.equal(optimizers[0][i]["exp_avg"], optimizers[1][i]["exp_avg"]) for i in optimizers[0])
    a, b = (load(run, allow=ALLOW).sample([0, 1], 6).samples for run in (whole, parts))
    assert torch.equal(a, b)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    """What the comparison above would miss if everything were constant."""
    for seed in (0, 1):
        train(point_config(tmp_path / str(seed), seed=seed), ALLOW)
    assert not same(weights(tmp_path / "0"), weights(tmp_path / "1"))


def test_metrics_continue_in_one_file(tmp_path: Path) -> None:
    train(point_config(tmp_path, trainer__max_steps=10), ALLOW)
    train(point_config(tmp_path, resume=str(tmp_path)), ALLOW)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == 19


def test_the_run_explains_itself(tmp_path: Path) -> None:
    train(point_config(tmp_path), ALLOW, ["trainer.max_steps=20"])
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.yaml", "overrides.txt", "environment.json", "metrics.csv", "checkpoints", "model"} <= names
    assert (tmp_path / "overrides.txt").read_text() == "trainer.max_steps=20\n"
