"""The tables of results: scores, areas, ranks, verdicts on pairs, the measured orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from framework.studies.analysis import Analysis
from framework.studies.labels import number, percent, probability, triple
from framework.studies.loaded import Metric
from framework.studies.report.conduct import metric_labels
from framework.studies.report.tables import Cell, Table, slug

BEST_NOTE = "Bold: the best; underlined: what cannot be told apart from it. Brackets: {level} intervals."
SIGNS = {
    "a better": ("+", "good"),
    "b better": ("\N{MINUS SIGN}", "bad"),
    "equivalent": ("=", "same"),
    "cannot be told apart": ("·", ""),
    "not measured": ("", ""),
}
TURNED = {"a better": "b better", "b better": "a better"}


def scores(analysis: Analysis, run: str, metric: Metric, names: Mapping[str, str]) -> Table:
    """A row a method, a column a budget: estimates with intervals.

    Arguments:
        analysis: of the study.
        run, metric: whose scores.
        names: short names of methods, in the order of the rows.
    """
    found = _of(analysis.scores, run, metric.name)
    budgets = sorted(found["budget"].dropna().unique())
    winners = {budget: best(analysis, run, metric.name, budget) for budget in budgets}
    rows = []
    for method in names:
        of_method = found[found["method"] == method].set_index("budget")
        if len(of_method):
            cells = [
                _score(of_method.loc[budget], method, winners[budget]) if budget in of_method.index else Cell("–")
                for budget in budgets
            ]
            rows.append([Cell(names[method]), *cells])
    unit = f" ({metric.unit})" if metric.unit else ""
    ceiling = f" Real data: {number(metric.ceiling)}." if math.isfinite(metric.ceiling) else ""
    return Table(
        f"scores-{slug(run)}-{slug(metric.name)}",
        f"{run}: {metric.label}{unit}, {metric.better} is better",
        ["method", *(f"{budget:g}" for budget in budgets)],
        rows,
        f"Columns: {analysis.study.budget_unit}. {BEST_NOTE.format(level=percent(analysis.level))}{ceiling}",
    )


def best(analysis: Analysis, run: str, metric: str, budget: float) -> tuple[str, frozenset[str]]:
    """The best method of a budget, and those that cannot be told apart from it; "" where none was measured."""
    found = _of(analysis.verdicts, run, metric)
    found = found[(found["kind"] == "best") & (found["budget"] == budget)]
    return (str(found.iloc[0]["best"]), frozenset(found.iloc[0]["tied"])) if len(found) else ("", frozenset())


def beats_all(analysis: Analysis, run: str, metric: str, budget: float, method: str) -> bool:
    """Whether a method is shown to be better than every other that was measured."""
    family = _of(analysis.pairs, run, metric)
    family = family[family["budget"] == budget]
    verdicts = [
        *family.loc[family["method_a"] == method, "verdict"],
        *family.loc[family["method_b"] == method, "verdict"].replace(TURNED),
    ]
    return "a better" in verdicts and set(verdicts) <= {"a better", "not measured"}


def areas(analysis: Analysis, run: str, metrics: Sequence[Metric], names: Mapping[str, str]) -> Table:
    """A row a method, a column a metric: the mean quality over the logarithm of evaluations."""
    found = analysis.area[analysis.area["run"] == run]
    metrics = [metric for metric in metrics if (found["metric"] == metric.name).any()]
    rows = []
    for method in names:
        of_method = found[found["method"] == method].set_index("metric")
        if len(of_method):
            cells = [
                _estimate(of_method.loc[metric.name], best=of_method.loc[metric.name]["place"] == 1)
                if metric.name in of_method.index
                else Cell("–")
                for metric in metrics
            ]
            rows.append([Cell(names[method]), *cells])
    ranges = found[["evaluations_from", "evaluations_to"]].dropna()
    over = f" from {ranges.iloc[0, 0]:g} to {ranges.iloc[0, 1]:g}" if len(ranges) else ""
    return Table(
        f"area-{slug(run)}",
        f"{run}: area under quality against log evaluations",
        ["method", *(f"{metric.label} {'↑' if metric.better == 'higher' else '↓'}" for metric in metrics)],
        rows,
        f"Over evaluations{over}; brackets: {percent(analysis.level)} intervals. A dash: not measured in all of that.",
    )


def ranks(table: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """The numbers of the heat map: a row a method, a column a domain and metric."""
    lowest = table.min()
    rows = [
        [Cell(names[str(method)]), *(Cell(_rank(v), best=v == lowest[c], key=v) for c, v in row.items())]
        for method, row in table.iterrows()
    ]
    header = ["method", *(" · ".join(column) if isinstance(column, tuple) else str(column) for column in table.columns)]
    return Table("ranks", "Mean ranks over all budgets", header, rows, "1 is the best of the methods measured.")


def slopes(found: Mapping[str, pd.DataFrame], names: Mapping[str, str]) -> Table:
    """Declared and measured orders of convergence: a row a method, a column a run of `convergence.slopes`."""
    by_run = {run: table.set_index("method") for run, table in found.items()}
    rows = []
    for method in names:
        of_method = [table.loc[method] if method in table.index else None for table in by_run.values()]
        orders = [row["declared"] for row in of_method if row is not None and not pd.isna(row["declared"])]
        if any(row is not None for row in of_method):
            declared = Cell(f"{orders[0]:g}", key=float(orders[0])) if orders else Cell("–")
            rows.append([Cell(names[method]), declared, *(_slope(row) for row in of_method)])
    return Table(
        "orders",
        "Declared and measured orders",
        ["method", "declared", *found],
        rows,
        "Measured: minus the slope of log error over log evaluations at the last three budgets; in brackets the last "
        "error.",
    )


def _slope(row: pd.Series | None) -> Cell:
    if row is None:
        return Cell("–")
    return Cell(number(row["measured"], 2), f"[{number(row['error'], 2)}]", key=row["measured"])


def matrices(analysis: Analysis, run: str, metric: Metric, names: Mapping[str, str]) -> Iterator[Table]:
    """Verdicts on all pairs, a square for each budget: the row's method beside the column's."""
    found = _of(analysis.pairs, run, metric.name)
    for budget, of_budget in found.groupby("budget"):
        verdicts: dict[tuple[str, str], Any] = {}
        for pair in of_budget.itertuples():
            verdicts[pair.method_a, pair.method_b] = pair.verdict
            verdicts[pair.method_b, pair.method_a] = TURNED.get(str(pair.verdict), pair.verdict)
        methods = [method for method in names if any(method in pair for pair in verdicts)]
        rows = [
            [Cell(f"{i} {names[row]}"), *(_sign(verdicts.get((row, column))) for column in methods)]
            for i, row in enumerate(methods, 1)
        ]
        told = sum(verdict in TURNED for verdict in verdicts.values()) // 2
        yield Table(
            f"pairs-{slug(run)}-{slug(metric.name)}-{budget:g}",
            f"At {budget:g} {analysis.study.budget_unit}: {told} of {len(of_budget)} told apart",
            ["", *(str(i) for i in range(1, len(methods) + 1))],
            rows,
        )


def correlations(analysis: Analysis, coefficient: str) -> Table:
    """Do two domains order the methods alike: a row a pair of domains and metric, a column a budget."""
    found = analysis.correlation[analysis.correlation["coefficient"] == coefficient]
    return _between_domains(
        analysis,
        found,
        f"correlation-{coefficient}",
        f"Do two domains rank the methods alike? {coefficient.title()}'s correlation",
        _estimate,
        f"1: the same order, 0: no relation. Brackets: {percent(analysis.level)} intervals.",
    )


def same_best(analysis: Analysis) -> Table:
    """How probably one method is best in two domains, as `correlations`."""
    found = analysis.correlation.dropna(subset="same_best").drop_duplicates([*BETWEEN, "budget"])
    return _between_domains(
        analysis,
        found,
        "same-best",
        "Is one method best in both?",
        lambda row: Cell(percent(row["same_best"]), key=float(row["same_best"])),
        "The probability that the same method would be best in both domains in new studies like this one.",
    )


BETWEEN = ["domain_a", "domain_b", "metric_a", "metric_b"]


def _between_domains(
    analysis: Analysis, found: pd.DataFrame, name: str, title: str, shown: Callable[[pd.Series], Cell], note: str
) -> Table:
    budgets = sorted(found["budget"].dropna().unique())
    labels = metric_labels(analysis)
    overall = int(found["budget"].isna().any())
    rows = []
    for (a, b, metric_a, metric_b), group in found.groupby(BETWEEN, sort=False):
        by_budget = {"all" if pd.isna(row["budget"]) else row["budget"]: row for _, row in group.iterrows()}
        first = labels.get((a, metric_a), metric_a)
        second = labels.get((b, metric_b), metric_b)
        label = first if first == second else f"{first} / {second}"
        cells = [shown(by_budget[k]) if k in by_budget else Cell("–") for k in ["all"] * overall + budgets]
        rows.append([Cell(f"{a} – {b}: {label}"), *cells])
    unit = analysis.study.budget_unit
    header = ["domains", *["all budgets"] * overall, *(f"{budget:g}" for budget in budgets)]
    return Table(name, title, header, rows, f"Columns: {unit}. {note}")


def trainings(analysis: Analysis, names: Mapping[str, str]) -> Table:
    """Differences that hold over trainings with other seeds, not only over samples of one model."""
    rows = [
        [
            Cell(str(pair.run)), Cell(str(pair.metric)), Cell(f"{pair.budget:g}", key=pair.budget),
            Cell(f"{names[pair.method_a]} – {names[pair.method_b]}"),
            _interval(pair.difference, pair.low, pair.high), Cell(probability(pair.p_holm), key=pair.p_holm),
            Cell(said(pair.verdict, names[pair.method_a], names[pair.method_b])),
        ]
        for pair in analysis.training_pairs.itertuples()
    ]  # fmt: skip
    return Table(
        "trainings",
        "Differences over training seeds",
        ["experiment", "metric", "budget", "methods", "difference", "p (Holm)", "verdict"],
        rows,
    )


def said(verdict: str, a: str, b: str) -> str:
    """A verdict with the methods' names."""
    return {"a better": f"{a} better", "b better": f"{b} better"}.get(verdict, verdict)


def _of(table: pd.DataFrame, run: str, metric: str) -> pd.DataFrame:
    return table[(table["run"] == run) & (table["metric"] == metric)]


def _score(row: pd.Series, method: str, winner: tuple[str, frozenset[str]]) -> Cell:
    if pd.isna(row["value"]):
        return Cell("failed" if row["failed"] else "–")
    return _estimate(row, best=method == winner[0], tied=method in winner[1])


def _estimate(row: pd.Series, best: bool = False, tied: bool = False) -> Cell:
    return _interval(float(row["value"]), float(row["low"]), float(row["high"]), best, tied)


def _interval(value: float, low: float, high: float, best: bool = False, tied: bool = False) -> Cell:
    if not math.isfinite(value):
        return Cell("–")
    shown, below, above = triple(value, low, high)
    interval = f"[{below}, {above}]" if math.isfinite(low) and math.isfinite(high) else ""
    return Cell(shown, interval, best=bool(best), tied=bool(tied and not best), key=value)


def _rank(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"


def _sign(verdict: Any) -> Cell:
    text, tone = SIGNS.get(str(verdict), ("", ""))
    return Cell(text, tone=tone)
