"""The best of each solver's candidates, by what was measured on the seeds that are kept for tuning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from framework.studies.cell import OK, Cell, Choice
from framework.studies.plan import Study, Winners
from framework.studies.store import StudyFolder


def choose(
    study: Study, cells: Sequence[Cell], metrics: Mapping[str, Sequence[Mapping[str, Any]]], store: StudyFolder
) -> Winners:
    """The winners of the first phase.

    The first metric of `tuning.by` that every candidate of a solver has decides, else the run's first; a candidate that
    failed loses. Ties go to the one that was named first.

    Args:
        study: what is asked for.
        cells: of the first phase, finished.
        metrics: of each run, by its name.
        store: where they lie.
    """
    assert study.tuning is not None
    groups: dict[tuple[str, str, str, float], dict[tuple[str, str], list[Cell]]] = {}
    for cell in cells:
        solver = _named(study, cell)
        place = (cell.model_hash, solver.name, cell.method.guidance.name, cell.budget)
        candidate = (cell.method.solver.name, cell.method.grid.name)
        groups.setdefault(place, {}).setdefault(candidate, []).append(cell)
    winners = {}
    for place, candidates in groups.items():
        run = next(iter(candidates.values()))[0].run
        ways = {entry["name"]: entry for entry in metrics[run]}
        order = [name for name in (*study.tuning.by, *ways) if name in ways]
        values = {c: {name: _mean(name, mine, store) for name in order} for c, mine in candidates.items()}
        alive = [c for c, found in values.items() if any(map(math.isfinite, found.values()))]
        by = next((name for name in order if alive and all(math.isfinite(values[c][name]) for c in alive)), None)
        if by is not None:
            sign = 1 if ways[by]["better"] == "lower" else -1
            best = min(alive, key=lambda c: sign * values[c][by])
            winners[place] = (candidates[best][0].method.solver, candidates[best][0].method.grid)
    return winners


def _named(study: Study, cell: Cell) -> Choice:
    """Which of the study's solvers a candidate is one of: itself, or the one whose options it is among."""
    assert study.tuning is not None
    name = cell.method.solver.name
    for solver in study.solvers:
        if name in {solver.name, *(option.name for option in study.tuning.options.get(solver.name, ()))}:
            return solver
    raise KeyError(name)


def _mean(metric: str, cells: Sequence[Cell], store: StudyFolder) -> float:
    """The mean over all samples, or sets, of some cells; NaN unless all of them ended well and have it."""
    found: list[float] = []
    for cell in cells:
        record = store.json(f"cells/{cell.key}.json")
        if record is None or record["status"] != OK:
            return math.nan
        if metric in record["set_metrics"]:
            value = record["set_metrics"][metric]
            found.append(math.nan if value is None else value)
            continue
        table = pq.read_table(store.cells / f"{cell.key}.parquet")
        if metric not in table.column_names:
            return math.nan
        found += [value for value in table[metric].to_pylist() if value == value] or [math.nan]
    return sum(found) / len(found) if found else math.nan
