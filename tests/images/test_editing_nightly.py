"""Every editing task on a model that was trained in minutes, as benchmarks/README.md promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.editing import Bench
from experiments import train
from experiments.configuration import compose
from framework.store import load
from modalities.images.data import ShapesData

pytestmark = pytest.mark.nightly


def test_tasks_on_the_demo(tmp_path: Path) -> None:
    train.run(compose("train", ["experiment=images/shapes", f"run={tmp_path / 'run'}"]))
    bench = Bench(load(tmp_path / "run"), 64)
    data = ShapesData(size=16)
    data.setup("fit")
    filled = bench.inpainting(1)
    assert filled["replaced, caption obeyed"]["value"] >= 0.85
    assert filled["replaced, known pixels changed"]["value"] == filled["completed, known pixels changed"]["value"] == 0
    weak, strong = bench.editing(0.05), bench.editing(0.6)
    assert weak["place of the input"]["value"] > 0.8 > 0.2 > strong["place of the input"]["value"]
    assert strong["colour and shape of the prompt"]["value"] > 0.8
    pool = {2: 4, 3: 4}
    plain, restored = bench.restoring(pool, "bicubic", data), bench.restoring(pool, "PiGDM", data)
    assert restored["PSNR, dB"]["value"] > plain["PSNR, dB"]["value"] + 5
    assert restored["Frechet"]["value"] < plain["Frechet"]["value"] / 2
    assert bench.inverting(50)["reconstruction PSNR, dB"]["value"] > 30
    rates = bench.negating()
    for end, least in (("no negative prompt", 0.02), ("negative", 0.0)):
        shown = sum(rate["value"] for name, rate in rates.items() if name.endswith(f", {end}"))
        assert shown > least if least else shown < 0.05
