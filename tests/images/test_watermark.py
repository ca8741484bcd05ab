"""The watermark: seen by its key after what files go through, by no other, and hardly by the eye."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import watermark as command
from experiments.errors import ConfigurationError
from framework.conditions import Unconditional
from framework.errors import UserError
from modalities.images.modality import Images
from modalities.images.render import save_png
from modalities.images.shapes import Shapes
from modalities.images.watermark import LEAST_PSNR, detect, embed, jpeg, resized


def some(size: int, n: int) -> list[np.ndarray]:
    items = Shapes("single", "heldout", n, size)
    return [items[i]["image"].numpy() for i in range(n)]


@pytest.fixture(scope="module")
def marked() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(image, embed(image, "ours")) for image in some(32, 24)]


def test_it_is_found_after_png_jpeg_and_resizing(marked: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for change, least in (
        (lambda x: x, 1.0),
        (jpeg, 0.9),
        (lambda x: resized(x, 0.75), 0.9),
        (lambda x: x.repeat(4, 1).repeat(4, 2), 1.0),
    ):
        found = [detect(change(image), "ours") < 1e-4 for _, image in marked]
        assert np.mean(found) >= least


def test_it_costs_little(marked: list[tuple[np.ndarray, np.ndarray]]) -> None:
    errors = [((a.astype(float) - b) ** 2).mean() for a, b in marked]
    assert max(errors) <= 255**2 / 10 ** (LEAST_PSNR / 10) * 1.01
    assert 10 * math.log10(255**2 / np.mean(errors)) > 34


def test_the_rate_of_false_alarms_keeps_its_bound(marked: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Whatever the picture shows: drawn ones, marked ones under other keys, noise, and nothing at all."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    flat = np.full((1, 3, 32, 32), 255, np.uint8)
    for images in ([a for a, _ in marked[:8]], [b for _, b in marked[:8]], list(noise), list(flat)):
        p = np.array([detect(image, f"key {k}") for image in images for k in range(100)])
        for level in (0.5, 0.1, 0.01):
            assert (p < level).mean() <= level
        assert p.min() > 1e-4


def test_grey_pictures_carry_it_and_tiny_ones_cannot() -> None:
    grey = some(16, 1)[0][:1]
    assert detect(embed(grey, "ours"), "ours") < 1e-4
    with pytest.raises(UserError, match="too small"):
        embed(np.zeros((3, 8, 8), np.uint8), "ours")
    with pytest.raises(UserError, match="needs a text"):
        embed(grey, "")


def test_the_command_finds_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    modality = Images(Unconditional(), 32, 3)
    images = torch.from_numpy(np.stack(some(32, 2)))
    for i, image in enumerate(modality.marked(images, "ours")):
        save_png(image, tmp_path / f"marked{i}.png", {})
    save_png(images[0], tmp_path / "plain.png", {})
    command.main(["text=ours", str(tmp_path)])
    assert "2 of 3 files" in capsys.readouterr().out
    command.main(["text=theirs", str(tmp_path / "marked0.png")])
    assert "0 of 1 files" in capsys.readouterr().out
    (tmp_path / "notes.txt").write_text("words")
    for words, message in (
        ([str(tmp_path)], "key once"),
        (["text=ours"], "name the files"),
        (["text=ours", "absent.png"], "no such file"),
        (["text=ours", str(tmp_path / "notes.txt")], "no kind that carries"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            command.main(words)
