"""What takes minutes: the presets reach the quality that the README and the presets' comments promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import evaluate, train
from experiments.configuration import compose
from framework.metrics.measurement import read_metrics

pytestmark = pytest.mark.nightly


def judged(preset: str, run: Path, n: int) -> dict[str, float]:
    train.run(compose("train", [f"experiment={preset}", f"run={run}"]))
    evaluate.run(compose("evaluate", [f"run={run}", f"n={n}"]))
    return {name: m.value for name, m in read_metrics(run / "evaluation" / "metrics.json").items()}


def test_the_demo_obeys_captions_that_it_never_saw(tmp_path: Path) -> None:
    assert judged("images/shapes", tmp_path / "run", 512)["caption_accuracy/single"] >= 0.9


def test_digits_are_recognised(tmp_path: Path) -> None:
    metrics = judged("images/digits", tmp_path / "run", 512)
    assert metrics["class_accuracy"] >= 0.9 and metrics["recall"] >= 0.2


def test_notes_have_the_pitch_and_the_timbre_of_captions_that_were_held_out(tmp_path: Path) -> None:
    metrics = judged("audio/notes", tmp_path / "run", 256)
    assert metrics["caption_accuracy/single/pitch"] >= 0.9 and metrics["caption_accuracy/single/timbre"] >= 0.8


def test_molecules_are_valid(tmp_path: Path) -> None:
    metrics = judged("molecules/gdb_mini", tmp_path / "run", 1000)
    assert metrics["valid_connected"] >= 0.72 and metrics["strict_valid"] >= 0.5
