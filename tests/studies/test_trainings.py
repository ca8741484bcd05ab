"""A study that trains what it compares: equal budgets, training seeds beside, and nothing trained twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import compare
from experiments.configuration import compose, plain
from experiments.errors import ConfigurationError

SMALL = ("study.budgets=[4]", "study.seeds=[0,1]", "study.n=8", "study.real=32", "study.tolerance=0.1")
TRAININGS = (
    "study.trainings.experiment=images/digits",
    "study.trainings.overrides=['trainer.max_steps=2','trainer.val_check_interval=2','data.batch_size=8',"
    "'backbone.width=16']",
)
CHOSEN = {
    "schedules": ("study.trainings.variants.linear_vp=null", "study.trainings.variants.sigmoid=null"),
    "objectives": ("study.trainings.variants.x0=null",),
}


def settings(study: str, out: Path, *overrides: str) -> dict[str, Any]:
    return plain(compose("compare", [f"study={study}", f"out={out}", *overrides]))


@pytest.mark.slow
@pytest.mark.parametrize("study", CHOSEN)
def test_variants_are_trained_at_one_budget_and_compared(
    study: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = settings(study, tmp_path / "s", *TRAININGS, *CHOSEN[study], *SMALL, "study.solvers=[ddim]")
    assert compare.run(config) == 0
    trained = capfd.readouterr().out
    names = [name for name, changes in config["study"]["trainings"]["variants"].items() if changes is not None]
    assert len(names) == 2
    for name in names:
        for seed in (0, 1):
            assert f"training {name}-{seed}" in trained
            metrics = pd.read_csv(tmp_path / "s" / "runs" / f"{name}-{seed}" / "metrics.csv")
            assert metrics["step"].max() in (1, 2)  # both have had the same two steps
    cells = [json.loads(file.read_text()) for file in (tmp_path / "s" / "cells").glob("*.json")]
    assert [cell["status"] for cell in cells] == ["ok"] * 8
    pairs = pd.read_csv(tmp_path / "s" / "tables" / "training_pairs.csv")
    assert len(pairs) and set(pairs["method_a"]) | set(pairs["method_b"]) == set(names)
    assert compare.run(config) == 0
    assert "diffract train " not in capfd.readouterr().out


def test_what_is_trained_has_to_be_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"study\.trainings\.experiment"):
        compare.run(settings("schedules", tmp_path / "s"))
