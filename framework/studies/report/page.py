"""The report's page: what goes where, rendered by a template that escapes all but the figures and the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from framework.studies.analysis import Analysis
from framework.studies.labels import percent
from framework.studies.report import conduct, results, words
from framework.studies.report.drawing import PALETTE, Drawing
from framework.studies.report.figures import Figures
from framework.studies.report.sheets import Row, Sheet
from framework.studies.report.tables import Table

CONTENTS = (
    ("verdicts", "Verdicts"),
    ("pareto", "Quality against cost"),
    ("convergence", "Convergence to the exact solution"),
    ("critical", "Which mean ranks differ"),
    ("ranks", "Ranks across domains"),
    ("area", "Area under quality"),
    ("scores", "Scores"),
    ("pairs", "Pairwise verdicts"),
    ("samples", "Samples from the same noise"),
    ("pairing", "What sharing the noise brings"),
    ("power", "What could have been seen"),
    ("failures", "Failures and what was not applicable"),
    ("protocol", "Protocol and environment"),
    ("command", "To make it again"),
    ("glossary", "Glossary"),
)
SIGNS = 40_000  # verdicts on pairs that the page shows at most; all of them are in tables/pairs.csv


@dataclass(frozen=True)
class ShownSheet:
    """A sheet with the names of its columns."""

    run: str
    budget: str
    names: Sequence[str]
    rows: Sequence[Row]
    left_out: int
    methods_left_out: int
    open: bool


@dataclass(frozen=True)
class Tables:
    """The tables of a report, as the page shows them and as they are written."""

    scores: Mapping[str, list[Table]]
    areas: list[Table]
    slopes: Table
    costs: list[Table]
    ranks: Table
    correlations: list[Table]
    trainings: Table
    pairing: Table
    power: Table
    failures: Table
    models: Table
    winners: list[Table]

    def all(self) -> list[Table]:
        """Those that have rows."""
        single = [self.slopes, self.ranks, self.trainings, self.pairing, self.power, self.failures, self.models]
        several = [*self.areas, *self.costs, *self.winners, *self.correlations]
        return [
            table
            for table in [*single, *several, *(t for tables in self.scores.values() for t in tables)]
            if table.rows
        ]


def tables(analysis: Analysis, figures: Figures, names: Mapping[str, str]) -> Tables:
    """All tables of a report; `names` are the short names of methods, in the order of rows."""
    study = analysis.study
    return Tables(
        scores={
            run: [t for metric in metrics if (t := results.scores(analysis, run, metric, names)).rows]
            for run, metrics in study.metrics.items()
        },
        areas=[results.areas(analysis, run, metrics, names) for run, metrics in study.metrics.items()],
        slopes=results.slopes(figures.slopes, names),
        costs=[conduct.costs(analysis, run, names) for run in study.runs],
        ranks=results.ranks(figures.ranks, names),
        correlations=[
            *(results.correlations(analysis, name) for name in ("spearman", "kendall")),
            results.same_best(analysis),
        ],
        trainings=results.trainings(analysis, names),
        pairing=conduct.pairing(analysis),
        power=conduct.power(analysis),
        failures=conduct.failures(analysis, names),
        models=conduct.runs(analysis),
        winners=[verdict.winners for verdict in words.verdicts(analysis, names)],
    )


def html(
    analysis: Analysis, figures: Figures, tables: Tables, sheets: Sequence[Sheet], names: Mapping[str, str]
) -> str:
    """The page, which needs nothing else, not even a network."""
    study = analysis.study
    first, more = _first_trainings(analysis, figures)
    pairs, left_out = _pairs(analysis, names)
    return _environment().get_template("report.html.jinja").render(
        title=f"{study.name}: a comparison of {str(study.info.get('axis') or 'methods').replace('_', ' ')}",
        summary=words.summary(analysis, names),
        across=words.across(analysis),
        contents=CONTENTS,
        palette=PALETTE,
        level=percent(analysis.level),
        verdicts=words.verdicts(analysis, names),
        pareto=first,
        pareto_more=more,
        convergence=list(figures.convergence.values()),
        slopes=tables.slopes,
        critical=[drawing for drawings in figures.critical.values() for drawing in drawings],
        heat=figures.heat,
        ranks=tables.ranks,
        correlations=tables.correlations,
        areas=tables.areas,
        scores=list(tables.scores.items()),
        pairs=pairs,
        pairs_left_out=left_out,
        margin=f"{100 * analysis.margin:g} % of the value ({analysis.margin:g} of shares)",
        trainings=tables.trainings,
        sheets=_shown(sheets, names),
        unit=study.budget_unit,
        pairing=tables.pairing,
        power=tables.power,
        failures=tables.failures,
        models=tables.models,
        costs=[table for table in tables.costs if table.rows],
        protocol=conduct.settings(study.info.get("protocol") or {}),
        environment=conduct.settings(study.info.get("environment") or {}),
        command=str(study.info.get("command") or "not kept"),
        created=str(study.info.get("created") or ""),
        glossary=words.GLOSSARY,
    )  # fmt: skip


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _first_trainings(analysis: Analysis, figures: Figures) -> tuple[list[Drawing], list[Drawing]]:
    """Pareto plots of the first run of each experiment, and those of its other trainings."""
    first: list[Drawing] = []
    more: list[Drawing] = []
    seen = set()
    for name, run in analysis.study.runs.items():
        (more if run.experiment in seen else first).extend(figures.pareto.get(name, []))
        seen.add(run.experiment)
    return first, more


def _pairs(analysis: Analysis, names: Mapping[str, str]) -> tuple[list[tuple[str, str, list[Table]]], str]:
    """Squares by run and metric; where they are too many, only those of the middle budget of each."""
    signs = 2 * len(analysis.pairs)
    result = []
    for run, metrics in analysis.study.metrics.items():
        for metric in metrics:
            squares = list(results.matrices(analysis, run, metric, names))
            if signs > SIGNS:
                squares = squares[len(squares) // 2 :][:1]
            if squares:
                result.append((run, metric.label, squares))
    said = f"Of {len(analysis.pairs):,} comparisons those at the middle budgets are shown; all are in tables/pairs.csv."
    return result, said if signs > SIGNS else ""


def _shown(sheets: Sequence[Sheet], names: Mapping[str, str]) -> list[ShownSheet]:
    """Of each run the middle sheet is open."""
    shown = []
    for run in dict.fromkeys(sheet.run for sheet in sheets):
        of_run = [sheet for sheet in sheets if sheet.run == run]
        for i, sheet in enumerate(of_run):
            columns, left_out = [names[method] for method in sheet.methods], (sheet.left_out, sheet.methods_left_out)
            shown.append(ShownSheet(run, f"{sheet.budget:g}", columns, sheet.rows, *left_out, i == len(of_run) // 2))
    return shown
