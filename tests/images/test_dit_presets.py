"""The transformer presets of images: as large as they say, and DiT-B as large as the paper's."""

from __future__ import annotations

import re

import pytest
import torch

import framework.backbones.patch_transformer  # tables are made when it is imported, which a meta device cannot do
from experiments.configuration import allowed, compose, plain
from framework.build import build

assert framework.backbones.patch_transformer
PRESETS = [f"dit_{condition}{size}" for condition in ("class", "text") for size in ("", "_small", "_base")]


def parameters(preset: str, **changes: int) -> int:
    modality = "images/text" if "text" in preset else "images/classes"
    config = plain(
        compose("train", [f"modality={modality}", f"backbone=images/{preset}", "data=images/shapes", "run=x"])
    )
    with torch.device("meta"):
        network = build(config["backbone"] | {"channels": 4, **changes}, allowed(config))
    return sum(p.numel() for p in network.parameters())


def test_the_base_size_is_that_of_dit_b() -> None:
    """Peebles & Xie, table 4: DiT-B/2 on latents of 4 channels, with 1000 classes, has 130 million parameters."""
    assert parameters("dit_class_base", num_classes=1000, patch=2) / 1e6 == pytest.approx(130, rel=0.01)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_as_large_as_they_say(preset: str) -> None:
    from modalities.images import conf

    text = next(iter(conf.__path__)) + f"/backbone/images/{preset}.yaml"
    with open(text) as file:
        said = re.match(r".*?(?:: (\d+\.?\d*) million|DiT-B)", file.readline())
    assert said is not None
    classes = {"num_classes": 10} if "class" in preset else {}
    if said[1] is not None:
        assert parameters(preset, **classes) / 1e6 == pytest.approx(float(said[1]), rel=0.05)
    else:
        assert parameters(preset, **classes) > 129e6
