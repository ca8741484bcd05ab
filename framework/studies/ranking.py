"""Tables of ranks: `ranks`, `friedman` and `correlation`, of runs, of domains and of the whole study.

A ranking is made in each independent block of samples (`evidence.rank_blocks`), in which all methods had the same
noise. At a budget of NaN a block's ranks at all common budgets are averaged and ranked again, so that a block still
counts once: budgets share a seed's noise, and taken as blocks of their own they would find differences between equal
methods.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .evidence import Evidence, rank_blocks
from .loaded import ERROR
from .statistics.correlation import kendall, spearman
from .statistics.friedman import block_ranks, friedman
from .statistics.frontier import probability_best

FIRST = "first"  # each run's first metric but the error


@dataclass(frozen=True)
class Scope:
    """Evidence that is ranked together: one entry a run, each of one metric."""

    scope: str
    run: str | None
    domain: str | None
    metric: str
    evidence: tuple[Evidence, ...]


def scopes(evidence: dict[tuple[str, str], Evidence]) -> list[Scope]:
    """Everything that is ranked: each run, each domain, and the study if it has several domains."""
    runs = {run: found.responses.run for (run, _), found in evidence.items()}
    of_run = {run: [metric for name, metric in evidence if name == run] for run in runs}
    first = {run: next((metric for metric in names if metric != ERROR), None) for run, names in of_run.items()}
    found = [Scope("run", run, runs[run].domain, metric, (one,)) for (run, metric), one in evidence.items()]

    def together(scope: str, domain: str | None, names: Sequence[str], metrics: Sequence[str]) -> None:
        for metric in metrics:
            chosen = [(run, first[run] if metric == FIRST else metric) for run in names]
            if all(key in evidence for key in chosen):
                parts = tuple(evidence[run, str(name)] for run, name in chosen)
                found.append(Scope(scope, None, domain, metric, parts))

    domains = list(dict.fromkeys(run.domain for run in runs.values()))
    for domain in domains:
        names = [run for run in runs if runs[run].domain == domain]
        together("domain", domain, names, [*of_run[names[0]], FIRST])
    if len(domains) > 1:
        together("study", None, list(runs), [ERROR, FIRST])
    return found


def ranking_rows(scope: Scope, *, level: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `ranks` and of `friedman` of one scope: at each budget, and at all."""
    everyone = list(dict.fromkeys(method for one in scope.evidence for method in one.responses.methods))
    budgets = sorted(set.intersection(*(set(one.responses.budgets) for one in scope.evidence)))
    tables = [_aligned(one, everyone, budgets) for one in scope.evidence]
    ranks, tests = [], []
    keys = {"scope": scope.scope, "run": scope.run, "domain": scope.domain, "metric": scope.metric}
    for chosen, budget in [*(([b], budget) for b, budget in enumerate(budgets)), (list(range(len(budgets))), math.nan)]:
        present = np.all([np.isfinite(table).any(axis=2) for table in tables], axis=0)[:, chosen]
        kept, common = _complete(present)
        if len(kept) < 2:
            continue
        columns = [chosen[b] for b in common]
        rows = np.concatenate([
            _rank(table[np.ix_(kept, columns)], one.metric.sign)
            for table, one in zip(tables, scope.evidence, strict=True)
        ])  # fmt: skip
        found = friedman(rows, level=level)
        names = [everyone[m] for m in kept]
        here = {**keys, "budget": budget}
        ranks += [
            {**here, "method": name, "rank": float(rank), "blocks": found.blocks}
            for name, rank in zip(names, found.ranks, strict=True)
        ]
        tests.append({
            **here, "statistic": found.statistic, "p": found.p, "blocks": found.blocks, "methods": len(names),
            "critical_difference": found.critical_difference,
            "groups": [tuple(names[m] for m in group) for group in found.groups()],
            "left_out": tuple(name for name in everyone if name not in names),
        })  # fmt: skip
    return ranks, tests


def correlation_rows(ranks: pd.DataFrame, found: Sequence[Scope], *, level: float) -> list[dict[str, Any]]:
    """Rows of `correlation`: mean ranks of methods in one domain against those in another."""
    domains = {(scope.domain, scope.metric): scope for scope in found if scope.scope == "domain"}
    names = list(dict.fromkeys(domain for domain, _ in domains))
    of_domains = ranks[ranks["scope"] == "domain"]
    rows = []
    for a, b in itertools.combinations(names, 2):
        for metric in (ERROR, FIRST):
            if (a, metric) not in domains or (b, metric) not in domains:
                continue
            table = of_domains[of_domains["metric"] == metric]
            for budget in [*sorted(table["budget"].dropna().unique()), math.nan]:
                here = table["budget"].isna() if math.isnan(budget) else table["budget"] == budget
                first, second = (
                    table[here & (table["domain"] == domain)].set_index("method")["rank"] for domain in (a, b)
                )
                common = first.index.intersection(second.index)
                if len(common) < 3:
                    continue
                same = (
                    math.nan
                    if math.isnan(budget)
                    else _same_best(domains[a, metric], domains[b, metric], budget, common)
                )
                of = {domain: domains[domain, metric].evidence[0].metric.name for domain in (a, b)}
                for name, statistic in (("spearman", spearman), ("kendall", kendall)):
                    value, low, high = statistic(first[common].to_numpy(), second[common].to_numpy(), level=level)
                    rows.append({
                        "domain_a": a, "domain_b": b, "metric_a": of[a], "metric_b": of[b], "budget": budget,
                        "coefficient": name, "value": value, "low": low, "high": high, "methods": len(common),
                        "same_best": same,
                    })  # fmt: skip
    return rows


def _same_best(first: Scope, second: Scope, budget: float, methods: Sequence[str]) -> float:
    """The chance that new studies of both domains, which share nothing, find the same method best."""
    shares = [_share_best(scope, budget, list(methods)) for scope in (first, second)]
    return float(shares[0] @ shares[1])


def _share_best(scope: Scope, budget: float, methods: list[str]) -> np.ndarray:
    each = []
    for one in scope.evidence:
        rows = [one.responses.methods.index(method) for method in methods]
        draws = one.draws[:, rows, one.responses.budgets.index(budget)]
        each.append(
            probability_best(one.metric.sign * draws) if np.isfinite(draws).all() else np.full(len(rows), math.nan)
        )
    return np.mean(each, axis=0)


def _aligned(one: Evidence, methods: list[str], budgets: list[float]) -> np.ndarray:
    """Block means (m, b, k) in this order of methods and budgets; NaN where there are none."""
    blocks = rank_blocks(one.responses)
    result = np.full((len(methods), len(budgets), blocks.shape[2]), math.nan)
    rows = [methods.index(method) for method in one.responses.methods]
    columns = [one.responses.budgets.index(budget) for budget in budgets]
    result[rows] = blocks[:, columns]
    return result


def _rank(blocks: np.ndarray, sign: int) -> np.ndarray:
    """Ranks (k, m) of blocks (m, b, k) in which everything is known."""
    known = blocks[:, :, np.isfinite(blocks).all(axis=(0, 1))]
    each = [block_ranks(known[:, b].T, sign=sign) for b in range(known.shape[1])]
    return rankdata(np.mean(each, axis=0), axis=1) if known.shape[2] else np.empty((0, len(blocks)))


def _complete(present: np.ndarray) -> tuple[list[int], list[int]]:
    """Methods and budgets of which every combination is there: methods that miss most go first.

    Methods are given up until those that are left share at least half of the budgets.
    """
    kept = [m for m in range(len(present)) if present[m].any()]
    while True:
        common = [b for b in range(present.shape[1]) if present[kept, b].all()] if kept else []
        if len(common) >= max(1, math.ceil(present.shape[1] / 2)) or len(kept) < 3:
            return (kept, common) if common else ([], [])
        counts = present[kept].sum(axis=1)
        # Of methods that miss as many, the last named goes.
        kept.pop(len(kept) - 1 - int(np.argmin(counts[::-1])))
