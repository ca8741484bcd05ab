"""The report's words: a summary, verdicts, and what the terms mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from framework.studies.analysis import Analysis
from framework.studies.labels import listed
from framework.studies.report.results import beats_all, best
from framework.studies.report.tables import Cell, Table


@dataclass(frozen=True)
class Verdict:
    """What is said of one domain. `winners`: the best at each budget, which `details` say in words, by metric."""

    domain: str
    sentences: Sequence[str]
    winners: Table
    details: Mapping[str, Sequence[str]]
    failures: Sequence[str]


def summary(analysis: Analysis, names: Mapping[str, str]) -> list[str]:
    """What was compared, how much of it there is, and how often there is a clear best; the first paragraph."""
    study, cells = analysis.study, analysis.study.compared()
    methods, seeds = cells["method"].nunique(), cells["seed"].nunique()
    budgets = sorted(cells["budget"].dropna().unique())
    ok = int((cells["status"] == "ok").sum())
    planned = len(cells) + len(study.missing)
    samples = sorted(cells["n"].dropna().unique())
    sentences = [
        f"{_count(methods, 'method')} on {_count(len(study.runs), 'model')} of {listed(study.domains)}, at "
        f"{_count(len(budgets), 'budget')} {_range(budgets, study.budget_unit)}, with {_count(seeds, 'seed')} of "
        f"{'–'.join(f'{n:g}' for n in dict.fromkeys([*samples[:1], *samples[-1:]]))} samples each, all methods from "
        f"the same noise; {ok:,} of {planned:,} cells gave numbers.",
    ]
    found = analysis.verdicts[analysis.verdicts["kind"] == "best"]
    clear = [beats_all(analysis, v.run, v.metric, v.budget, v.best) for v in found.itertuples()]
    if clear:
        sentences.append(
            f"Of {_count(len(clear), 'comparison')} (a model, a metric and a budget), {sum(clear)} "
            f"{'has' if sum(clear) == 1 else 'have'} a method that is shown to be better than every other; in "
            f"{len(clear) - sum(clear)} the data cannot tell the best from at least one other."
        )
    firsts = [
        f"{listed(_leading(of_domain['best'], names))} in {domain}"
        for domain in study.domains
        if len(of_domain := found[found["domain"] == domain])
    ]
    if firsts:
        sentences.append(f"Most often the best value is that of {'; '.join(firsts)}.")
    return sentences + _sentences(analysis.verdicts, "incomplete")


def across(analysis: Analysis) -> list[str]:
    """What is said of several domains together."""
    return _sentences(analysis.verdicts, "domains")


def verdicts(analysis: Analysis, names: Mapping[str, str]) -> list[Verdict]:
    """One a domain, in the study's order."""
    study, table = analysis.study, analysis.verdicts
    result = []
    for domain in study.domains:
        of_domain = table[table["domain"] == domain]
        several = sum(run.domain == domain for run in study.runs.values()) > 1
        details = {
            f"{run}: " * several + study.metric(run, metric).label: _sentences(group, "best")
            for (run, metric), group in of_domain[of_domain["kind"] == "best"].groupby(["run", "metric"], sort=False)
        }
        ranked, failed = _sentences(of_domain, "ranks"), _sentences(of_domain, "failures")
        result.append(Verdict(domain, ranked, winners(analysis, domain, names), details, failed))
    return result


def winners(analysis: Analysis, domain: str, names: Mapping[str, str]) -> Table:
    """The best method of each metric (rows) at each budget (columns), and how many it cannot be told apart from."""
    study = analysis.study
    runs = [run for run in study.runs.values() if run.domain == domain]
    budgets = sorted(analysis.scores.loc[analysis.scores["domain"] == domain, "budget"].dropna().unique())
    rows = []
    for run in runs:
        for metric in study.metrics[run.name]:
            cells = []
            for budget in budgets:
                winner, tied = best(analysis, run.name, metric.name, budget)
                others = len(tied - {winner})
                said = f"or {_count(others, 'other')}" if others else ""
                alone = beats_all(analysis, run.name, metric.name, budget, winner)
                cells.append(Cell(names.get(winner, winner) or "–", said, best=alone))
            label = f"{run.name}: {metric.label}" if len(runs) > 1 else metric.label
            if any(cell.text != "–" for cell in cells):
                rows.append([Cell(label), *cells])
    return Table(
        f"winners-{domain}",
        f"{domain}: the best at each budget",
        ["metric", *(f"{budget:g}" for budget in budgets)],
        rows,
        f'Columns: {study.budget_unit}. Bold: better than every other method. "or n others": the data cannot tell that '
        "many apart from it.",
    )


def _sentences(table: pd.DataFrame, kind: str) -> list[str]:
    return [str(sentence) for sentence in table.loc[table["kind"] == kind, "sentence"]]


def _leading(best: pd.Series, names: Mapping[str, str]) -> list[str]:
    """Those that are most often the best."""
    counts = best.value_counts()
    return [f"{names.get(m, m)} ({n} of {len(best)})" for m, n in counts.items() if n == counts.max()]


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def _range(budgets: Sequence[float], unit: str) -> str:
    if not budgets:
        return f"of {unit}"
    if len(budgets) == 1:
        return f"of {budgets[0]:g} {unit}"
    return f"from {budgets[0]:g} to {budgets[-1]:g} {unit}"


GLOSSARY = (
    ("Area under quality", "The mean of a metric over the logarithm of evaluations: one number for all budgets."),
    ("BCa interval", "Bias-corrected and accelerated bootstrap interval (Efron 1987): samples are drawn again, with "
     "replacement, and the skew of the estimate is corrected for."),
    ("Budget", "What a method may spend on a sample, in evaluations of the network or in seconds."),
    ("Cannot be told apart", "Neither a difference nor equivalence was shown. It does not mean that the methods are "
     "equal: a larger study might tell them apart."),
    ("Cell", "One method on one model at one budget and seed."),
    ("Critical difference", "Nemenyi's: mean ranks that are farther apart differ at the level of 5 % (Demšar 2006)."),
    ("Equivalent", "The difference was shown to be smaller than the margin that the protocol states (two one-sided "
     "tests)."),
    ("Error to the exact solution", "Root mean square distance, over a sample's numbers, between what a method made "
     "and the exact solution of the same equation from the same noise. It means the same in every domain."),
    ("Evaluation", "One sample through the network once. Guidance with two predictions a step costs two."),
    ("Friedman's test", "Whether all methods have the same mean rank over blocks (Friedman 1937)."),
    ("Grid", "The times at which a solver evaluates the network."),
    ("Holm's correction", "p-values of many comparisons made larger so that the chance of any false claim stays at 5 % "
     "(Holm 1979)."),
    ("Interval", "In 95 of 100 studies like this one it would hold the true value."),
    ("McNemar's test", "For yes-or-no metrics: counts the samples on which exactly one of two methods succeeds "
     "(McNemar 1947)."),
    ("Order", "How fast the error falls: at order p, twice the evaluations divide it by 2 to the power p."),
    ("Pairing", "All methods start from the same noise and prompts, so that differences are taken sample by sample; "
     "what samples have in common cancels."),
    ("Pareto front", "The points that no other beats at the same or less cost. Its probability: the share of resampled "
     "studies in which the point lies on it."),
    ("Power", "The chance that a true difference is found."),
    ("Reference solution", "The exact solution, computed by an adaptive Runge-Kutta method at tight tolerance."),
    ("Seed block", "The samples of one seed, treated as one observation where a metric belongs to a set of samples."),
    ("Wilson's interval", "An interval for a share of samples that is right near 0 and 1 too (Wilson 1927)."),
)  # fmt: skip
