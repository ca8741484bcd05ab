"""A cell is known by what its samples depend on, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from framework.studies.cell import Cell, Choice, Method, Protocol

CELL = Cell(
    run="points",
    domain="points",
    experiment="e",
    training_seed=0,
    model_hash="m",
    method=Method("a", Choice("a", {"x": 1}), Choice("g", {"y": 2}), Choice("n", None)),
    budget=8.0,
    seed=0,
    prompts="p",
    protocol=Protocol(n=8),
    steps=4,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_hash": "other"},
        {"method": replace(CELL.method, solver=Choice("a", {"x": 2}))},
        {"method": replace(CELL.method, grid=Choice("g", {"y": 3}))},
        {"method": replace(CELL.method, guidance=Choice("n", {"scale": 2.0}))},
        {"steps": 5},
        {"seed": 1},
        {"prompts": "others"},
        {"protocol": Protocol(n=9)},
        {"protocol": Protocol(n=8, brownian=False)},
        {"protocol": Protocol(n=8, metrics=("error",))},
    ],
)
def test_what_samples_depend_on_makes_another_content_and_key(changes: dict[str, Any]) -> None:
    other = replace(CELL, **changes)
    assert other.content != CELL.content
    assert other.key != CELL.key


@pytest.mark.parametrize(
    "changes", [{"method": replace(CELL.method, label="b")}, {"phase": "tuning"}, {"budget": 9.0}, {"run": "again"}]
)
def test_what_it_is_called_makes_another_key_of_the_same_content(changes: dict[str, Any]) -> None:
    other = replace(CELL, **changes)
    assert other.content == CELL.content
    assert other.key != CELL.key


def test_how_it_is_shown_makes_no_other_cell() -> None:
    assert replace(CELL, protocol=Protocol(n=8, shown=0)).key == CELL.key


def test_the_order_of_settings_makes_no_other_cell() -> None:
    one, two = ({"x": 1, "z": [1, {"w": None}]}, {"z": [1, {"w": None}], "x": 1})
    cells = [replace(CELL, method=replace(CELL.method, solver=Choice("a", config))) for config in (one, two)]
    assert cells[0].key == cells[1].key
