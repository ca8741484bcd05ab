"""All figures of a study: which data each is drawn from, and under which name it is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from framework.studies.analysis import Analysis
from framework.studies.loaded import ERROR
from framework.studies.ranking import FIRST
from framework.studies.report import convergence, critical, heat, pareto
from framework.studies.report.conduct import metric_labels
from framework.studies.report.drawing import Drawing, Mark, styled
from framework.studies.report.tables import slug

COSTS = {"evaluations": "network evaluations per sample", "seconds": "seconds per sample"}


@dataclass(frozen=True)
class Figures:
    """Drawings by what they are; `pareto` and `convergence` by run, `slopes` the numbers of the latter."""

    pareto: Mapping[str, list[Drawing]]
    convergence: Mapping[str, Drawing]
    slopes: Mapping[str, pd.DataFrame]
    critical: Mapping[str, list[Drawing]]  # by domain; "" of all of them
    heat: Drawing | None
    ranks: pd.DataFrame  # what the heat map shows


def draw_all(analysis: Analysis, marks: Mapping[str, Mark], folder: Path) -> Figures:
    """Draw what the data allow, and write it to `folder`/figures."""
    ranks = rank_table(analysis)
    with styled():
        converging = {run: _convergence(analysis, run, marks, folder) for run in analysis.study.runs}
        return Figures(
            pareto={run: _pareto(analysis, run, marks, folder) for run in analysis.study.runs},
            convergence={run: found[0] for run, found in converging.items() if found},
            slopes={run: found[1] for run, found in converging.items() if found},
            critical=_critical(analysis, marks, folder),
            heat=heat.draw(ranks, marks, folder, "ranks", "Mean ranks") if ranks.size else None,
            ranks=ranks,
        )


def best_first(analysis: Analysis) -> list[str]:
    """Methods as they should stand out: of each domain in turn the next best one, by mean rank over its metrics."""
    ranks = rank_table(analysis)
    by_domain = [list(ranks[d].mean(axis=1).dropna().sort_values(kind="stable").index) for d in dict.fromkeys(
        domain for domain, _ in ranks.columns)]  # fmt: skip
    order = [method for place in range(len(ranks)) for methods in by_domain for method in methods[place : place + 1]]
    known = dict.fromkeys([*order, *analysis.scores["method"], *analysis.study.compared()["method"]])
    return [str(method) for method in known]


def rank_table(analysis: Analysis) -> pd.DataFrame:
    """Mean ranks over all budgets: a row a method, a column a (domain, label of a metric)."""
    ranks = analysis.ranks
    ranks = ranks[(ranks["scope"] == "domain") & ranks["budget"].isna() & (ranks["metric"] != FIRST)]
    if not len(ranks):
        return pd.DataFrame(columns=pd.MultiIndex.from_tuples([], names=["domain", "metric"]))
    labels = metric_labels(analysis)
    named = ranks.assign(
        label=[_metric_name(labels, d, m) for d, m in zip(ranks["domain"], ranks["metric"], strict=True)]
    )
    table = named.pivot_table(index="method", columns=["domain", "label"], values="rank", sort=False)
    order = {domain: i for i, domain in enumerate(analysis.study.domains)}
    return table[sorted(table.columns, key=lambda column: order.get(column[0], len(order)))]


def _metric_name(labels: Mapping[tuple[str, str], str], domain: str, metric: str) -> str:
    """The label of a metric, short enough for a column."""
    return "error" if metric == ERROR else labels.get((domain, metric), metric)


def _axis(analysis: Analysis) -> str:
    return "seconds" if analysis.study.budget_unit == "seconds" else "evaluations"


def _pareto(analysis: Analysis, run: str, marks: Mapping[str, Mark], folder: Path) -> list[Drawing]:
    axis = _axis(analysis)
    found = analysis.pareto[(analysis.pareto["run"] == run) & (analysis.pareto["axis"] == axis)]
    metrics = analysis.study.metrics[run]
    own = [metric for metric in metrics if metric.name != ERROR] or list(metrics)
    drawings = []
    for metric in own:
        points = found[found["metric"] == metric.name]
        if np.isfinite(points["value"]).any():
            points = points.rename(columns={"cost": "x", "probability_on_front": "probability"})
            name = f"pareto-{slug(run)}-{slug(metric.name)}"
            title = f"{run} · {metric.label}"
            drawings.append(pareto.draw(points, marks, folder, name, title, metric, COSTS[axis]))
    return drawings


def _convergence(
    analysis: Analysis, run: str, marks: Mapping[str, Mark], folder: Path
) -> tuple[Drawing, pd.DataFrame] | None:
    scores = analysis.scores
    scores = scores[(scores["run"] == run) & (scores["metric"] == ERROR)].rename(columns={"evaluations": "x"})
    if not np.isfinite(scores["value"]).any():
        return None
    cells = analysis.study.compared()
    cells = cells[(cells["run"] == run) & (cells["status"] == "ok")]
    orders = cells.groupby("method")["order"].first()
    points = scores.assign(order=scores["method"].map(orders))
    name = f"convergence-{slug(run)}"
    drawing = convergence.draw(points, marks, folder, name, f"{run} · convergence", COSTS["evaluations"])
    return drawing, convergence.slopes(points)


def _critical(analysis: Analysis, marks: Mapping[str, Mark], folder: Path) -> dict[str, list[Drawing]]:
    tests = analysis.friedman
    of_domain = (tests["scope"] == "domain") & (tests["metric"] != FIRST)
    tests = tests[((tests["scope"] == "study") | of_domain) & tests["budget"].isna()]
    tests = tests.sort_values("scope", key=lambda scope: scope != "study", kind="stable")
    labels = metric_labels(analysis)
    found: dict[str, list[Drawing]] = {}
    for test in tests.itertuples():
        domain = str(test.domain) if test.scope == "domain" else ""
        ranks = analysis.ranks
        ranks = ranks[(ranks["scope"] == test.scope) & ranks["budget"].isna() & (ranks["metric"] == test.metric)]
        ranks = (ranks if not domain else ranks[ranks["domain"] == domain]).dropna(subset="rank")
        if len(ranks) < 2 or not math.isfinite(test.p):
            continue
        words = "each domain's first metric" if test.metric == FIRST else _metric_name(labels, domain, str(test.metric))
        found.setdefault(domain, []).append(
            critical.draw(
                dict(zip(ranks["method"], ranks["rank"], strict=True)),
                float(test.critical_difference),
                test.groups,
                float(test.p),
                int(test.blocks),
                marks,
                folder,
                f"critical-{slug(domain or 'all domains')}-{slug(str(test.metric))}",
                f"{domain or 'all domains'} · {words}",
            )
        )
    return found
