"""How the study was made and what it could see: models, costs, failures, pairing, power, protocol, environment."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from framework.studies.analysis import Analysis
from framework.studies.labels import listed, number, percent
from framework.studies.report.tables import Cell, Table, slug


def runs(analysis: Analysis) -> Table:
    """The models that were sampled from."""
    rows = []
    for run in analysis.study.runs.values():
        details = run.details
        rows.append(
            [
                Cell(run.name), Cell(run.domain), Cell(run.experiment),
                Cell("–" if run.training_seed is None else str(run.training_seed)),
                _scaled(details.get("parameters"), 1e6), _scaled(details.get("flops_per_evaluation"), 1e9),
                Cell(str(details.get("model_hash") or "–")[:12]),
            ]
        )  # fmt: skip
    header = ["model", "domain", "experiment", "training seed", "million parameters", "GFLOPs an evaluation", "hash"]
    return Table("models", "The models", header, rows)


def costs(analysis: Analysis, run: str, names: Mapping[str, str]) -> Table:
    """What each method's samples cost: a row a method and budget, medians over seeds."""
    cells = analysis.cells
    cells = cells[(cells["run"] == run) & (cells["status"] == "ok") & (cells["phase"] != "tuning")]
    rows = []
    for method in names:
        for budget, group in cells[cells["method"] == method].groupby("budget"):
            cost = {name: group[f"cost.{name}"].median() for name in COSTS}
            shown = [Cell(_amount(cost[name] / scale), key=cost[name]) for name, (_, scale) in COSTS.items()]
            rows.append([Cell(names[method]), Cell(f"{budget:g}", key=float(budget)), *shown])
    return Table(
        f"cost-{slug(run)}",
        f"{run}: what it cost",
        ["method", "budget", *(label for label, _ in COSTS.values())],
        rows,
        "Medians over seeds. Evaluations of the network are those of one sample, guidance counted.",
    )


COSTS: Mapping[str, tuple[str, float]] = {
    "evaluations": ("evaluations", 1.0),
    "backward": ("backward passes", 1.0),
    "flops": ("GFLOPs", 1e9),
    "seconds_p50": ("seconds p50", 1.0),
    "seconds_p95": ("seconds p95", 1.0),
    "peak_bytes": ("peak MB", 1e6),
}


def failures(analysis: Analysis, names: Mapping[str, str]) -> Table:
    """Cells without numbers, with the reason; those of one reason in one row."""
    cells = analysis.cells
    lost = cells[(cells["status"] != "ok") & (cells["phase"] != "tuning")].copy()
    lost["reason"] = lost["reason"].fillna("").replace("", "no reason was kept")
    rows = []
    for (status, run, method, reason), group in lost.groupby(["status", "run", "method", "reason"], sort=False):
        budgets = [f"{budget:g}" for budget in sorted(group["budget"].unique())]
        rows.append(
            [Cell(names.get(method, method)), Cell(run), Cell(status), Cell(listed(budgets)),
             Cell(str(len(group)), key=len(group)), Cell(reason)]
        )  # fmt: skip
    for key in analysis.study.missing:
        rows.append(
            [Cell(key), Cell("–"), Cell("not run yet"), Cell("–"), Cell("1", key=1), Cell("the study is not complete")]
        )
    return Table(
        "failures", "Cells without numbers", ["method", "model", "what", "budgets", "cells", "reason"], rows[:MOST],
        f"And {len(rows) - MOST} more: tables/cells.csv." if len(rows) > MOST else "",
    )  # fmt: skip


MOST = 200  # rows: a study that has just begun has thousands of missing cells


def pairing(analysis: Analysis) -> Table:
    """What it brings that all methods start from the same noise: a row a domain and metric, a column a budget."""
    found, labels = analysis.pairing, metric_labels(analysis)
    budgets = [float("nan")] * int(found["budget"].isna().any()) + sorted(found["budget"].dropna().unique())
    rows = []
    for (domain, metric), group in found.groupby(["domain", "metric"], sort=False):
        by_budget = {_key(row["budget"]): row for _, row in group.iterrows()}
        cells = [_gain(by_budget.get(_key(budget))) for budget in budgets]
        rows.append([Cell(f"{domain}: {labels.get((domain, metric), metric)}"), *cells])
    return Table(
        "pairing",
        "Gain of pairing",
        ["domain and metric", *(_key(budget) for budget in budgets)],
        rows,
        f"Columns: {analysis.study.budget_unit}. So many times more samples would have been needed with noise of each "
        "method's own: the variance of the unpaired difference over that of the paired one. Medians over pairs of "
        "methods; brackets: quartiles.",
    )


def power(analysis: Analysis) -> Table:
    """What difference the study could have seen: a row a model and metric, a column a budget."""
    found = analysis.power
    metrics = {(run, m.name): m for run, several in analysis.study.metrics.items() for m in several}
    budgets = sorted(found["budget"].dropna().unique())
    rows = []
    for (run, metric), group in found.groupby(["run", "metric"], sort=False):
        by_budget = {row["budget"]: row for _, row in group.iterrows()}
        unit = f" ({metrics[run, metric].unit})" if metrics[run, metric].unit else ""
        cells = [_detectable(by_budget.get(budget)) for budget in budgets]
        rows.append([Cell(f"{run}: {metrics[run, metric].label}{unit}"), *cells])
    return Table(
        "power",
        "The smallest detectable difference",
        ["model and metric", *(f"{budget:g}" for budget in budgets)],
        rows,
        f"Columns: {analysis.study.budget_unit}. The difference that 80 % of studies of this size would find, after "
        "correction for the number of comparisons, the median over pairs; in brackets as a share of the value. A "
        "smaller difference may exist without being seen here.",
    )


def settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines of a name and plain text, in their order."""
    lines = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            lines += settings(value, f"{name}.")
        elif isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
            lines.append((name, ", ".join(str(item) for item in value) or "none"))
        elif value is None or isinstance(value, str | int | float | bool):
            lines.append((name, "none" if value is None else str(value)))
        else:
            lines.append((name, json.dumps(value, ensure_ascii=False, default=str)))
    return lines


def metric_labels(analysis: Analysis) -> dict[tuple[str, str], str]:
    """Labels of metrics by (domain, name)."""
    study = analysis.study
    return {(study.runs[run].domain, m.name): m.label for run, metrics in study.metrics.items() for m in metrics}


def _amount(value: float) -> str:
    """A count as it is, a measurement with three digits."""
    return f"{value:.0f}" if math.isfinite(value) and value == round(value) else number(value)


def _key(budget: float) -> str:
    return "all" if math.isnan(budget) else f"{budget:g}"


def _gain(row: pd.Series | None) -> Cell:
    if row is None or not math.isfinite(row["gain"]):
        return Cell("–")
    quartiles = f"[{number(row['low'], 2)}, {number(row['high'], 2)}]" if math.isfinite(row["low"]) else ""
    return Cell(f"{number(row['gain'], 2)}×", quartiles, key=float(row["gain"]))


def _detectable(row: pd.Series | None) -> Cell:
    if row is None or not math.isfinite(row["detectable"]):
        return Cell("–")
    share = row["relative"]
    relative = f"[{percent(share) if share < 9.995 else number(100 * share, 2) + ' %'}]" if math.isfinite(share) else ""
    return Cell(number(row["detectable"], 2), relative, key=float(row["detectable"]))


def _scaled(value: Any, scale: float) -> Cell:
    return Cell("–") if value is None else Cell(number(float(value) / scale), key=float(value))
