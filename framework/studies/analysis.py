"""What a study's cells say: tables of estimates with intervals, of differences with verdicts, of ranks and fronts.

Every table has the columns that `COLUMNS` lists, even where it has no rows. In all of them `run` is the name of a
run, `domain` what its modality calls itself, `metric` a metric's name, `budget` a budget as it was asked for (NaN:
over all budgets), and `value, low, high` an estimate with its 95 % interval; NaN ends: the data say nothing of it.
Differences are method_a - method_b in the metric's own unit, whichever way is better.

A family of comparisons, within which Holm's correction holds the chance of any false claim to 5 %, is all pairs of
methods of one run, metric and budget. `how` names what an interval is made of:

    bca          BCa bootstrap of samples (metrics of kind "value"), nowhere inside Student's interval; differences are
                 paired by seed and index
    wilson       Wilson's interval of a share; for differences of paired shares "newcombe"
    jackknife    set metrics with values without each block of samples, paired over blocks
    seed blocks  set metrics with one value a seed: Student's t over seeds, paired over seeds
    trainings    t over the means of runs of one experiment, which differ in their training seed
    one seed     a set metric of one seed: no interval
    nothing      no cell of this method gave a number
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .comparisons import pair_rows, pairing_rows, power_rows, score_rows, table
from .evidence import gather
from .fronts import area_rows, pareto_rows
from .loaded import Loaded, load
from .ranking import correlation_rows, ranking_rows, scopes
from .responses import responses
from .trainings import training_rows
from .verdicts import verdict_rows

_KEYS = ("run", "domain", "metric", "budget")
_ESTIMATE = ("value", "low", "high")
_PAIR = (
    "method_a", "method_b", "value_a", "value_b",
    "difference", "low", "high",  # method_a - method_b
    "p", "p_holm",  # of no difference; after Holm within the family
    "margin", "p_equivalent",  # a difference below the margin is none; p (after Holm) of not being below it
    "verdict",  # "a better", "b better", "equivalent", "cannot be told apart", "not tested" (one seed)
    "n",  # samples that both have; for set metrics: seeds
    "seeds",
    "pairing_gain",  # variance of the unpaired difference / of the paired one
    "detectable",  # the smallest difference seen in 80 % of studies of this size, after Bonferroni in its family
    "comparisons",  # pairs in the family
    "how", "test",  # "t", "McNemar exact", "McNemar"
    "variance_paired", "variance_unpaired",  # of one unit's difference
)  # fmt: skip

COLUMNS: Mapping[str, tuple[str, ...]] = {
    # One row a run, metric, method and budget. `evaluations` and `seconds` are the cost of a sample (median over
    # seeds); `n` samples have a score and `missing` ones have none; `failed` seeds whose cell failed, `reason` why the
    # first did; `place` among the methods at this budget (1 is best; 1.5: shared), `probability_best` in new studies
    # like this one.
    "scores": (
        *_KEYS, "experiment", "method", "solver", "grid", "guidance", "evaluations", "seconds", *_ESTIMATE,
        "n", "seeds", "missing", "failed", "reason", "how", "better", "place", "probability_best",
    ),
    # One row a pair of methods within a family, in the order of the methods.
    "pairs": (*_KEYS, *_PAIR),
    # Mean ranks over independent blocks (1 is best). `scope`: "run", "domain" (all of its runs) or "study" (all
    # domains; metric "error" where all runs have it, and "first": each run's first metric but that). `budget` NaN: in
    # each block the ranks at all common budgets are averaged and ranked again. A domain's are over those metrics that
    # all its runs have, and over "first" too.
    "ranks": ("scope", *_KEYS, "method", "rank", "blocks"),
    # One row a scope, metric and budget of `ranks`: Friedman's test, Nemenyi's critical difference (methods whose mean
    # ranks differ by more are different), `groups`: the largest sets of neighbours that do not (tuples of methods),
    # `left_out`: methods without a cell in some block.
    "friedman": (
        "scope", *_KEYS, "statistic", "p", "blocks", "methods", "critical_difference", "groups", "left_out",
    ),
    # Rank correlation of methods between two domains; `coefficient` "spearman" or "kendall"; `same_best`: probability
    # that the same method would be best in both in new studies like this one.
    "correlation": (
        "domain_a", "domain_b", "metric_a", "metric_b", "budget", "coefficient", *_ESTIMATE, "methods", "same_best",
    ),
    # One row a run, metric, method, budget and axis of cost ("evaluations" or "seconds"): `cost` on that axis, whether
    # the point is on the Pareto front of the estimates, and in what share of new studies like this one it would be.
    "pareto": (
        "run", "domain", "metric", "axis", "method", "budget", "cost", *_ESTIMATE, "on_front", "probability_on_front",
    ),
    # Mean quality over log2 evaluations between `evaluations_from` and `evaluations_to` (the range that all methods
    # with a value share); in the metric's unit; `value` NaN where a method does not cover the range.
    "area": (
        "run", "domain", "metric", "method", *_ESTIMATE, "evaluations_from", "evaluations_to", "n", "how", "better",
        "place",
    ),
    # What sharing noise brings: `gain` = variance of the unpaired / of the paired difference (median over pairs,
    # `low` and `high` quartiles): so many times more samples would be needed without.
    "pairing": (
        "domain", "metric", "budget", "gain", "low", "high", "variance_unpaired", "variance_paired", "pairs",
    ),
    # What a family can see: `detectable` (median over pairs) at 80 % power, after Bonferroni over its `comparisons`,
    # the same without pairing, and as a share of the median value.
    "power": (
        *_KEYS, "n", "seeds", "comparisons", "sd_paired", "detectable", "detectable_unpaired", "relative",
    ),
    # `kind`: "best" (a run, metric and budget: `best` method, `tied`: those that cannot be told apart from it),
    # "failures", "ranks", "domains", "pairing", "incomplete".
    "verdicts": ("kind", *_KEYS, "best", "tied", "sentence"),
    # The same as `scores` and `pairs` over the runs of an experiment with several training seeds; `run` is the
    # experiment, `n` the number of runs.
    "training_scores": (*_KEYS, "method", *_ESTIMATE, "n", "how", "better", "place"),
    "training_pairs": (*_KEYS, *_PAIR),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Analysis:
    """The tables of a study, whose columns `COLUMNS` explains, and what they were made with.

    Attributes:
        study: the folder that was read. `study.missing` are the planned cells that are not there yet.
        cells: `study.cells`, failed and tuning ones too.
        level: nominal coverage of every interval, 1 - the significance level.
        margin: relative margin of equivalence of metrics of kind "value" and "set" (share of the mean of the two
            values); the same number, absolute, for shares ("binary").
    """

    study: Loaded
    level: float
    margin: float
    cells: pd.DataFrame
    scores: pd.DataFrame
    pairs: pd.DataFrame
    ranks: pd.DataFrame
    friedman: pd.DataFrame
    correlation: pd.DataFrame
    pareto: pd.DataFrame
    area: pd.DataFrame
    pairing: pd.DataFrame
    power: pd.DataFrame
    verdicts: pd.DataFrame
    training_scores: pd.DataFrame
    training_pairs: pd.DataFrame

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by its name, `cells` first."""
        return {"cells": self.cells, **{name: getattr(self, name) for name in COLUMNS}}


def analyse(study: str | Path | Loaded, *, margin: float | None = None, level: float = 0.95) -> Analysis:
    """Make all tables of a study, complete or not.

    Args:
        study: its folder, or what `load` returned.
        margin: see `Analysis`; by default the study's.
        level: of the intervals.
    """
    loaded = study if isinstance(study, Loaded) else load(study)
    margin = loaded.margin if margin is None else margin
    evidence = {
        (run, name): gather(found, level=level)
        for run in loaded.runs
        for name, found in responses(loaded, run).items()
        if found.values.size  # else no cell of the run has any sample
    }
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for one in evidence.values():
        rows["scores"] += score_rows(loaded, one)
        rows["pairs"] += pair_rows(one, margin=margin, level=level)
        rows["pareto"] += pareto_rows(one)
        rows["area"] += area_rows(one, level=level)
    found_scopes = scopes(evidence)
    for scope in found_scopes:
        ranks, tests = ranking_rows(scope, level=level)
        rows["ranks"] += ranks
        rows["friedman"] += tests
    rows["training_scores"], rows["training_pairs"] = training_rows(evidence, margin=margin, level=level)
    tables = {name: table(found, COLUMNS[name]) for name, found in rows.items()}
    for name, more in (
        ("correlation", correlation_rows(tables["ranks"], found_scopes, level=level)),
        ("pairing", pairing_rows(tables["pairs"])),
        ("power", power_rows(tables["pairs"])),
    ):
        tables[name] = table(more, COLUMNS[name])
    tables["verdicts"] = table(verdict_rows(loaded, tables, margin=margin), COLUMNS["verdicts"])
    return Analysis(loaded, level, margin, loaded.cells, **tables)
