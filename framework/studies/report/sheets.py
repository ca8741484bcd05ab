"""Matched-noise sheets: the same noise and prompt along a row, a method a column, for eyes and ears.

Each cell of a study keeps its first samples as fragments of HTML (`show.json`), which the modality made. What a
page and a row can hold is limited: the sheets share `LIMIT` bytes, of many methods `COLUMNS` stand for all, and what
did not fit is counted and said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from framework.errors import DataError
from framework.studies.analysis import Analysis

LIMIT = 2_500_000  # bytes of all fragments
ROWS = 4
COLUMNS = 12


@dataclass(frozen=True)
class Row:
    """One noise and one prompt: a fragment of HTML for each method, None where there is none."""

    seed: int
    index: int
    prompt: str
    fragments: tuple[str | None, ...]


@dataclass(frozen=True)
class Sheet:
    """One run at one budget.

    `left_out` counts the rows that the limit of the page's size left no room for, `methods_left_out` the methods.
    """

    run: str
    budget: float
    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: int = 0
    methods_left_out: int = 0


def collect(analysis: Analysis, methods: Mapping[str, str], limit: int = LIMIT) -> list[Sheet]:
    """All sheets of a study, by run and budget; `methods` in the order of the columns, the best first.

    Of each run the middle budget is the first to be given room, then the smallest and the largest, then the others;
    rows are taken one by one, so that every sheet has some before one has all.

    Raises:
        DataError: a file of fragments is damaged.
    """
    found = [sheet for run in analysis.study.runs for sheet in _of_run(analysis, run, list(methods))]
    places = {run: _priority([s.budget for s in found if s.run == run]) for run in {s.run for s in found}}
    order = sorted(range(len(found)), key=lambda i: places[found[i].run][found[i].budget])
    kept: dict[int, int] = dict.fromkeys(range(len(found)), 0)
    room = limit
    for rank in sorted({places[s.run][s.budget] for s in found}):
        for row in range(ROWS):
            for i in (i for i in order if places[found[i].run][found[i].budget] == rank):
                if row < len(found[i].rows) and kept[i] == row and (size := _size(found[i].rows[row])) <= room:
                    kept[i], room = row + 1, room - size
    return [
        replace(sheet, rows=sheet.rows[: kept[i]], left_out=len(sheet.rows) - kept[i]) for i, sheet in enumerate(found)
    ]


def _of_run(analysis: Analysis, run: str, methods: list[str]) -> list[Sheet]:
    cells = analysis.study.compared()
    cells = cells[(cells["run"] == run) & (cells["status"] == "ok")]
    result = []
    for budget, at_budget in cells.groupby("budget"):
        fragments: dict[tuple[int, int], dict[str, str]] = {}
        prompts: dict[tuple[int, int], str] = {}
        for cell in at_budget.itertuples():
            shown = _fragments(analysis.study.folder, str(cell.key))
            if not shown:
                continue
            seed = int(cell.seed)
            for index, fragment in enumerate(shown):
                fragments.setdefault((seed, index), {})[str(cell.method)] = fragment
            if (seed, 0) not in prompts:
                said = _prompts(analysis, str(cell.key), len(shown))
                prompts |= {(seed, index): prompt for index, prompt in enumerate(said)}
        known = [m for m in methods if any(m in row for row in fragments.values())]
        columns = _some(known)
        rows = tuple(
            Row(seed, index, prompts.get((seed, index), ""), tuple(fragments[seed, index].get(m) for m in columns))
            for seed, index in sorted(fragments)[:ROWS]
        )
        if rows:
            result.append(Sheet(run, float(budget), columns, rows, methods_left_out=len(known) - len(columns)))
    return result


def _some(methods: list[str]) -> tuple[str, ...]:
    """All of a few; of many the first, the last and some at equal distances between."""
    places = np.linspace(0, len(methods) - 1, min(len(methods), COLUMNS)).round().astype(int)
    return tuple(methods[i] for i in places)


def _priority(budgets: list[float]) -> dict[float, int]:
    """Which budget is shown first: the middle one, the ends, then those between."""
    budgets = sorted(budgets)
    middle = budgets[len(budgets) // 2]
    order = list(dict.fromkeys([middle, budgets[0], budgets[-1], *budgets]))
    return {budget: place for place, budget in enumerate(order)}


def _size(row: Row) -> int:
    return sum(len(fragment.encode()) for fragment in row.fragments if fragment)


def _fragments(folder: Path, key: str) -> list[str]:
    path = folder / "cells" / key / "show.json"
    if not path.is_file():
        return []
    try:
        shown = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); delete it and run the study again") from error
    if not isinstance(shown, list) or not all(isinstance(fragment, str) for fragment in shown):
        raise DataError(f"{path} must hold a list of texts, the HTML fragments of samples")
    return shown


def _prompts(analysis: Analysis, key: str, n: int) -> list[str]:
    try:
        table = analysis.study.samples(key)
    except DataError:
        return []
    by_index = table.set_index("index").get("prompt", pd.Series(dtype=object))
    return [str(by_index[i]) if i in by_index.index and by_index[i] is not np.nan else "" for i in range(n)]
