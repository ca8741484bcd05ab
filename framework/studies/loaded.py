"""A study's folder as it is read: what was asked for, and every cell that has been measured.

A *cell* is a run x method x budget x seed: n samples drawn from the same prompts and the same initial noise as
every other cell of that run and seed. What is here is only read: no statistic is made, and nothing is left
out; a cell that failed is a row with its reason, a cell that was planned and has no file is in `missing`.

    study.json                what was asked for: runs, metrics of each run, planned cells, protocol
    cells/<key>.json          what the cell is, how it ended, what it cost, its set metrics
    cells/<key>.parquet       one row a sample: index, prompt, one column a metric of samples
    cells/<key>.safetensors   "features" (n, D), where there are any
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pyarrow.parquet import ParquetFile
from safetensors.numpy import load_file

from framework.errors import DataError, UserError

OK, FAILED, NOT_APPLICABLE = "ok", "failed", "not applicable"
ERROR = "error"  # the metric that every domain has: the distance to the reference solution
COST = ("evaluations", "forward", "backward", "flops", "seconds_p50", "seconds_p95", "peak_bytes")
TEXT = ("key", "run", "domain", "experiment", "method", "solver", "grid", "guidance", "status", "reason", "phase")
NUMBERS = ("training_seed", "budget", "steps", "seed", "n", "order")


@dataclass(frozen=True)
class Metric:
    """What is measured: one number a sample ("value", or "binary": 0 or 1), or one a cell ("set")."""

    name: str
    label: str
    better: Literal["higher", "lower"]
    kind: Literal["value", "binary", "set"]
    unit: str = ""
    ceiling: float = math.nan  # what real data reach

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.better == "higher" else -1


@dataclass(frozen=True)
class Run:
    """A trained model. Runs of one `experiment` differ in their training seed alone."""

    name: str
    domain: str
    experiment: str
    training_seed: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # everything else that study.json says


@dataclass(frozen=True, eq=False)
class Loaded:
    """A study's folder.

    Attributes:
        folder: where it lies.
        info: study.json as it is.
        runs: by name, in the order of study.json.
        metrics: of each run, by its name; `error` is among them where any sample has one.
        cells: one row a cell that has a file, in planned order: the entries of its JSON, `cost.*` and `set.*`
            for those of its `cost` and `set_metrics`; `run` is the run's name.
        missing: keys of planned cells without a file.
    """

    folder: Path
    info: Mapping[str, Any]
    runs: Mapping[str, Run]
    metrics: Mapping[str, tuple[Metric, ...]]
    cells: pd.DataFrame
    missing: tuple[str, ...]

    @property
    def margin(self) -> float:
        """Of equivalence: absolute for shares, else a share of the value; studies that do not say have 0.02."""
        return float(self.info.get("protocol", {}).get("margin") or 0.02)

    @property
    def name(self) -> str:
        return str(self.info.get("name", self.folder.name))

    @property
    def budget_unit(self) -> str:
        return str(self.info.get("budget_unit", "evaluations"))

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.domain for run in self.runs.values()))

    def metric(self, run: str, name: str) -> Metric:
        """The metric of a run by its name; KeyError if the run has none of that name."""
        return {metric.name: metric for metric in self.metrics[run]}[name]

    def compared(self) -> pd.DataFrame:
        """The cells that are compared (those of tuning are not), failed ones too."""
        return self.cells[self.cells["phase"] != "tuning"]

    def samples(self, key: str) -> pd.DataFrame:
        """The cell's samples in the order of their index.

        Raises:
            DataError: if the cell has no readable table, or an index occurs twice.
        """
        path = self.folder / "cells" / f"{key}.parquet"
        try:
            rows = ParquetFile(path).read().to_pandas()
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read ({error}); delete the cell's files and run the study again"
            ) from error
        if "index" not in rows or rows["index"].duplicated().any():
            raise DataError(f"{path} must have a column 'index' in which no number occurs twice")
        return rows.sort_values("index", ignore_index=True)

    def features(self, key: str) -> np.ndarray | None:
        """The features (n, D) of the cell's samples, or None where there are none."""
        path = self.folder / "cells" / f"{key}.safetensors"
        return load_file(path)["features"] if path.exists() else None


def load(folder: str | Path) -> Loaded:
    """Read a study's folder.

    Raises:
        UserError: if it is not one.
        DataError: if a file of it is damaged; the file is named.
    """
    folder = Path(folder)
    if not (folder / "study.json").is_file():
        raise UserError(f"{folder} is not a study: it has no study.json (make one with `diffract compare`)")
    info = _read(folder / "study.json")
    asked = set(info.get("planned", []))  # cells of an earlier plan may lie there too
    records = [_read(path) for path in sorted((folder / "cells").glob("*.json")) if not asked or path.stem in asked]
    runs: dict[str, Run] = {}
    names: dict[str, str] = {}
    for entry in info["runs"]:
        name = str(entry.get("name") or entry["run"])
        known = {"run", "name", "domain", "experiment", "training_seed"}
        details = {key: value for key, value in entry.items() if key not in known}
        experiment = str(entry.get("experiment") or name)
        runs[name] = Run(name, str(entry["domain"]), experiment, entry.get("training_seed"), details)
        names |= {name: name, str(entry.get("run", name)): name}
    cells = _cells(records, names, info.get("planned", []))
    planned = [key for key in info.get("planned", []) if key not in set(cells["key"])]
    metrics = {names[run]: tuple(_metric(entry) for entry in entries) for run, entries in info["metrics"].items()}
    loaded = Loaded(folder, info, runs, {run: metrics.get(run, ()) for run in runs}, cells, tuple(planned))
    return _with_error(loaded)


def _cells(records: list[dict[str, Any]], names: Mapping[str, str], planned: list[str]) -> pd.DataFrame:
    """One row a record, with columns for all that a cell may have, whatever these have."""
    rows = []
    for record in records:
        row = {name: value for name, value in record.items() if name not in ("cost", "set_metrics")}
        if row["run"] not in names:
            raise DataError(f"cell {row['key']} is of run {row['run']!r}, of which study.json says nothing")
        row["run"] = names[row["run"]]
        row |= {f"cost.{name}": value for name, value in (record.get("cost") or {}).items()}
        row |= {f"set.{name}": value for name, value in (record.get("set_metrics") or {}).items()}
        rows.append(row)
    cells = pd.DataFrame(rows)
    for name in (*TEXT, "stochastic"):
        if name not in cells:
            cells[name] = None
    for name in (*NUMBERS, *(f"cost.{part}" for part in COST)):
        cells[name] = pd.to_numeric(cells[name]) if name in cells else math.nan
    for name in [name for name in cells if name.startswith("set.")]:
        cells[name] = pd.to_numeric(cells[name])
    place = {key: position for position, key in enumerate(planned)}
    order = sorted(range(len(cells)), key=lambda i: (place.get(cells["key"][i], len(place)), cells["key"][i]))
    return cells.iloc[order].reset_index(drop=True)


def _with_error(loaded: Loaded) -> Loaded:
    """Add the metric `error` to runs whose samples have one and whose list does not say so."""
    metrics = dict(loaded.metrics)
    for run, known in metrics.items():
        if any(metric.name == ERROR for metric in known):
            continue
        cells = loaded.cells[(loaded.cells["run"] == run) & (loaded.cells["status"] == OK)]
        if any(loaded.samples(key).get(ERROR, pd.Series(dtype=float)).notna().any() for key in cells["key"]):
            metrics[run] = (Metric(ERROR, "error to the exact solution", "lower", "value"), *known)
    return Loaded(loaded.folder, loaded.info, loaded.runs, metrics, loaded.cells, loaded.missing)


def _metric(entry: Mapping[str, Any]) -> Metric:
    ceiling = entry.get("ceiling")
    return Metric(
        name=str(entry["name"]),
        label=str(entry.get("label") or entry["name"]),
        better=entry["better"],
        kind=entry["kind"],
        unit=str(entry.get("unit") or ""),
        ceiling=math.nan if ceiling is None else float(ceiling),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); delete it and run the study again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold an object, not a {type(content).__name__}")
    return content
