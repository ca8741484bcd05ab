"""A run's measured numbers as arrays, a metric at a time: what statistics are made of.

Samples of methods are matched by seed and index (the same noise), methods by their label. A number that is not there is
NaN, whether the cell failed, was never run, or the sample could not be judged; `present` tells the first from the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from framework.errors import DataError

from .loaded import FAILED, OK, Loaded, Metric, Run


@dataclass(frozen=True, eq=False)
class Responses:
    """All that was measured of one run by one metric.

    Attributes:
        methods: labels, in planned order; axis m.
        budgets: as asked for, ascending; axis b.
        seeds: axis s.
        values: of samples, (m, b, s n) with the samples of all seeds one after the other; of sets, (m, b, s).
        left_out: of sets, the value without each block of samples, (m, b, s, k); None where cells do not have it.
        drawn: samples of cells that ended well, judged or not; for sets, those cells, (m, b).
        present: whether there is a cell that ended well, (m, b, s).
        failed: whether there is one that failed.
        reasons: why the first failed one of a method and budget did, or why it was not applicable, (m, b); "" if none.
        evaluations: network evaluations a sample, median over seeds; NaN where unknown, (m, b).
        seconds: seconds (p50), likewise.
    """

    run: Run
    metric: Metric
    methods: tuple[str, ...]
    budgets: tuple[float, ...]
    seeds: tuple[int, ...]
    values: Float[np.ndarray, "m b u"]
    left_out: Float[np.ndarray, "m b s k"] | None
    drawn: Int[np.ndarray, "m b"]
    present: Bool[np.ndarray, "m b s"]
    failed: Bool[np.ndarray, "m b s"]
    reasons: np.ndarray
    evaluations: Float[np.ndarray, "m b"]
    seconds: Float[np.ndarray, "m b"]

    @property
    def measured(self) -> Bool[np.ndarray, "m b"]:
        """Where there is any number."""
        return np.isfinite(self.values).any(axis=-1)

    @property
    def given(self) -> Int[np.ndarray, "m b"]:
        """How many of them have a number."""
        return np.isfinite(self.values).sum(axis=-1)


def responses(loaded: Loaded, run: str) -> dict[str, Responses]:
    """What was measured of a run, by metric; {} if it has no cells.

    Raises:
        DataError: if two cells are of the same method, budget and seed, or the seeds' samples do not match.
    """
    cells = loaded.compared()
    cells = cells[cells["run"] == run].reset_index(drop=True)
    if not len(cells):
        return {}
    twice = cells.duplicated(["method", "budget", "seed"])
    if twice.any():
        again = cells[twice].iloc[0]
        raise DataError(
            f"{loaded.folder}: run {run} has two cells of {again['method']} at {again['budget']:g} from seed "
            f"{again['seed']} ({again['key']}); methods need labels of their own"
        )
    methods = tuple(dict.fromkeys(cells["method"]))
    budgets = tuple(sorted(float(budget) for budget in cells["budget"].unique()))
    seeds = tuple(sorted(int(seed) for seed in cells["seed"].unique()))
    shape = (len(methods), len(budgets), len(seeds))
    places = {
        key: (methods.index(method), budgets.index(float(budget)), seeds.index(int(seed)))
        for key, method, budget, seed in zip(cells["key"], cells["method"], cells["budget"], cells["seed"], strict=True)
    }
    status = np.full(shape, "", dtype=object)
    costs = {name: np.full(shape, math.nan) for name in ("cost.evaluations", "cost.seconds_p50")}
    reasons = np.full(shape[:2], "", dtype=object)
    for row in cells.to_dict("records"):
        place = places[row["key"]]
        status[place] = row["status"]
        for name, numbers in costs.items():
            numbers[place] = row[name]
        if row["status"] != OK and not reasons[place[:2]]:
            reasons[place[:2]] = str(row["reason"] or row["status"])
    tables = {key: loaded.samples(key) for key in cells[cells["status"] == OK]["key"]}
    size = max((int(table["index"].max()) + 1 for table in tables.values() if len(table)), default=0)
    evaluations, seconds = (_median(numbers) for numbers in costs.values())
    samples = np.zeros(shape, dtype=int)
    for key, table in tables.items():
        samples[places[key]] = len(table)
    result: dict[str, Responses] = {}
    for metric in loaded.metrics[run]:
        left_out = None
        if metric.kind == "set":
            values = np.full(shape, math.nan)
            column = f"set.{metric.name}"
            for key, value in zip(cells["key"], cells.get(column, pd.Series(math.nan, cells.index)), strict=True):
                values[places[key]] = value
            left_out = _left_out(cells, metric.name, places, shape)
        else:
            values = np.full((*shape, size), math.nan)
            for key, table in tables.items():
                if metric.name in table:
                    values[places[key]][table["index"].to_numpy()] = table[metric.name].to_numpy(float)
            values = values.reshape(*shape[:2], -1)
        result[metric.name] = Responses(
            loaded.runs[run], metric, methods, budgets, seeds,
            np.where(np.isfinite(values), values, math.nan), left_out,
            (status == OK).sum(axis=-1) if metric.kind == "set" else samples.sum(axis=-1),
            status == OK, status == FAILED, reasons, evaluations, seconds,
        )  # fmt: skip
    return result


def _left_out(
    cells: pd.DataFrame, name: str, places: dict[str, tuple[int, int, int]], shape: tuple[int, ...]
) -> np.ndarray | None:
    """Values without each block, where every cell that has them has as many."""
    if "set_left_out" not in cells:
        return None
    given = {
        key: entry[name]
        for key, entry in zip(cells["key"], cells["set_left_out"], strict=True)
        if isinstance(entry, dict) and entry.get(name)
    }
    lengths = {len(values) for values in given.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        return None
    result = np.full((*shape, lengths.pop()), math.nan)
    for key, values in given.items():
        result[places[key]] = [math.nan if value is None else value for value in values]
    return result


def _median(numbers: Float[np.ndarray, "m b s"]) -> Float[np.ndarray, "m b"]:
    """The median of what is known, over the last axis; NaN where nothing is."""
    known = np.isfinite(numbers).any(axis=-1)
    result = np.full(numbers.shape[:2], math.nan)
    result[known] = np.nanmedian(numbers[known], axis=-1)
    return result
