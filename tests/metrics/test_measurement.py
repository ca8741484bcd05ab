"""What is written is what is read, and a reader never sees half a file."""

from __future__ import annotations

import json
import math
import os

import pytest
from rich.console import Console

from framework.metrics.measurement import Measurement, read_metrics, table, write_metrics

METRICS = {
    "frechet": Measurement(1.5, 1.25, 1.75, 2048, 7),
    "ceiling/frechet": Measurement(0.125, 0.1, 0.15, 2048, 7),
    "caption_accuracy/double": Measurement(math.nan, math.nan, math.nan, 0, 7),
}


def test_round_trip(tmp_path):
    path = tmp_path / "evaluation" / "metrics.json"
    write_metrics(path, METRICS)
    read = read_metrics(path)
    assert list(read) == list(METRICS)
    assert read["frechet"] == METRICS["frechet"]
    assert math.isnan(read["caption_accuracy/double"].value)


def test_file_is_strict_json_with_exactly_five_keys(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics(path, METRICS)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert all(set(record) == {"value", "low", "high", "n", "seed"} for record in content.values())
    assert content["caption_accuracy/double"]["value"] is None


def test_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_metrics(path, METRICS)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_metrics(path, {})
    monkeypatch.undo()
    assert read_metrics(path)["frechet"] == METRICS["frechet"]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"frechet": {"value": 1.0}}', '{"frechet": 1.0}'])
def test_reading_something_else_names_the_file(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.json"):
        read_metrics(path)


def test_table_shows_the_ceiling_beside_the_value():
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(table(METRICS))
    lines = [line for line in console.export_text().splitlines() if "frechet" in line]
    assert len(lines) == 1
    assert "1.5" in lines[0] and "0.125" in lines[0]
