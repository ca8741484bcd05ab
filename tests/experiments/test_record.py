"""Samples that say how they were made, and are made again from what they say; seeds, previews, watermarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from experiments import sample
from experiments.configuration import compose
from experiments.errors import ConfigurationError
from framework.store import save
from modalities.images.files import read_image, read_metadata
from modalities.images.render import save_png
from tests.images.closed_form import model as closed_form

CONFIG = {
    "modality": {
        "_target_": "modalities.images.modality.Images",
        "size": 8,
        "channels": 3,
        "condition": {"_target_": "framework.conditions.ClassCondition", "names": ["red", "green", "blue", "yellow"]},
    },
    "backbone": {"_target_": "tests.images.closed_form.Exact"},
    "schedule": {"_target_": "framework.schedules.Flow"},
    "parametrization": {"_target_": "framework.parametrizations.Data"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(closed_form(), CONFIG, tmp_path_factory.mktemp("run") / "model", "card")


def go(out: Path, *words: str) -> Path:
    sample.run(compose("sample", [f"out={out}", "device=cpu", "allow=[tests]", *words]))
    return out


def text(path: Path) -> dict[str, str]:
    return read_metadata(path) or {}


def test_a_sample_is_made_again_from_its_file(run: Path, tmp_path: Path) -> None:
    """With all that it was made with: prompt, negative, solver and its settings, seed, index, task."""
    save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), tmp_path / "mine.png", {})
    words = [
        f"run={run}", "prompt=red", "negative=blue", "guidance=cfg", "guidance.scale=3", "solver=ddpm", "steps=7",
        "seed=5", "n=3", "task=inpaint", f"task.input={tmp_path / 'mine.png'}", "task.redo='x=0-0.5'",
        "task.resampling=2",
    ]  # fmt: skip
    first = go(tmp_path / "first", *words)
    again = go(tmp_path / "again", f"from={first / '00002.png'}")
    made, remade = text(first / "00002.png"), text(again / "00000.png")
    assert torch.equal(read_image(first / "00002.png", 8, 3), read_image(again / "00000.png", 8, 3))
    assert made == remade
    assert made["prompt"] == "red" and made["negative"] == "blue" and (made["seed"], made["index"]) == ("5", "2")
    assert made["solver"].startswith("DDIM(") or "DDPM" in made["solver"]
    assert "scale=3" in made["guidance"] and made["steps"] == "7" and made["task"] == "Inpaint"
    assert len(made["weights"]) == 64 and made["version"].startswith("diffract ")
    other = go(tmp_path / "other", f"from={first / '00002.png'}", "prompt=yellow")
    assert text(other / "00000.png")["prompt"] == "yellow" and text(other / "00000.png")["steps"] == "7"


def test_what_a_model_does_by_default_is_told_too(run: Path, tmp_path: Path) -> None:
    row = text(go(tmp_path / "plain", f"run={run}", "n=1") / "00000.png")
    assert row["solver"].startswith("DPMpp2M") and row["grid"].startswith("UniformTime") and row["steps"] == "20"
    assert row["guidance"] == "none" and json.loads(row["settings"]) == {"allow": ["tests"]} and "task" not in row
    assert torch.equal(
        read_image(go(tmp_path / "again", f"from={tmp_path / 'plain' / '00000.png'}") / "00000.png", 8, 3),
        read_image(tmp_path / "plain" / "00000.png", 8, 3),
    )


def test_what_cannot_be_made_again_says_why(run: Path, tmp_path: Path) -> None:
    made = go(tmp_path / "made", f"run={run}", "n=1") / "00000.png"
    other = closed_form()
    other.network.anchor.data += 1  # type: ignore[operator]
    changed = save(other, CONFIG, tmp_path / "changed" / "model", "card")
    save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), tmp_path / "foreign.png", {"prompt": "red"})
    for words, message in (
        ([f"from={tmp_path / 'nothing.png'}"], "there is no such file"),
        ([f"from={tmp_path / 'foreign.png'}"], "does not say how it was made"),
        ([f"from={made}", f"run={changed}"], "made by other weights"),
        ([f"from={made}", "run=nowhere"], "which is not there"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            go(tmp_path / "out", *words)


def test_a_table_of_prompts_and_seeds(run: Path, tmp_path: Path) -> None:
    """What stands below one seed starts from one noise, and is what that seed draws by itself."""
    (tmp_path / "prompts.txt").write_text("red\nblue\n")
    out = go(tmp_path / "table", f"run={run}", f"prompts_file={tmp_path / 'prompts.txt'}", "seeds=[3,4,9]", "n=1")
    rows = [text(out / f"{i:05d}.png") for i in range(6)]
    assert [(row["prompt"], row["seed"]) for row in rows] == [(p, s) for p in ("red", "blue") for s in ("3", "4", "9")]
    alone = go(tmp_path / "alone", f"run={run}", "prompt=blue", "seed=4", "n=1")
    assert torch.equal(read_image(alone / "00000.png", 8, 3), read_image(out / "00004.png", 8, 3))
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 3 * 96 + 120 and sheet.height < 3 * 96, "two rows of three, with their words beside"
    for seeds, message in (("[1,1]", "stands there twice"), ("[]", "list of whole numbers"), ("[a]", "whole numbers")):
        with pytest.raises(ConfigurationError, match=message):
            go(tmp_path / "wrong", f"run={run}", f"seeds={seeds}")


def test_previews_come_while_it_samples(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = go(tmp_path / "watched", f"run={run}", "prompt=red", "n=2", "steps=6", "preview=2")
    with Image.open(out / "preview" / "trajectory.gif") as film:
        assert film.n_frames == 3  # type: ignore[attr-defined]
    assert f"previews: {out / 'preview'}" in capsys.readouterr().out
    plain = go(tmp_path / "plain", f"run={run}", "prompt=red", "n=2", "steps=6")
    assert torch.equal(read_image(plain / "00001.png", 8, 3), read_image(out / "00001.png", 8, 3))


def test_a_watermark_is_for_finished_samples(run: Path, tmp_path: Path) -> None:
    for watching in ("trajectory=true", "preview=1"):
        with pytest.raises(ConfigurationError, match="without their watermark"):
            go(tmp_path / "a", f"run={run}", "watermark=ours", watching)


def test_a_kind_of_data_without_a_watermark_says_so(tmp_path: Path) -> None:
    from framework.errors import UserError
    from tests.toy import Points

    points: Any = Points()
    with pytest.raises(UserError, match="points cannot be watermarked"):
        points.marked(torch.zeros(1, 2), "ours")
    with pytest.raises(UserError, match="points cannot be restored"):
        points.observed(tmp_path / "x", "grey")
    assert points.told(tmp_path / "x") is None and points.detected(tmp_path / "x", "ours") is None
