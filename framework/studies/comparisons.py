"""Tables of estimates and of differences: `scores`, `pairs`, `pairing`, `power`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .evidence import Comparison, Evidence, compare
from .loaded import Loaded
from .statistics.estimates import all_pairs
from .statistics.families import holm
from .statistics.frontier import probability_best
from .statistics.power import noncentrality

A_BETTER, B_BETTER = "a better", "b better"
EQUIVALENT, UNKNOWN, NOT_TESTED = "equivalent", "cannot be told apart", "not tested"


def score_rows(loaded: Loaded, evidence: Evidence) -> list[dict[str, Any]]:
    """Rows of `scores` of one run and metric."""
    responses, metric = evidence.responses, evidence.metric
    parts = loaded.cells.drop_duplicates(["run", "method"]).set_index(["run", "method"])
    rows = []
    value, low, high = evidence.estimates
    for b, budget in enumerate(responses.budgets):
        places = _places(value[:, b], metric.sign)
        best = probability_best(metric.sign * evidence.draws[:, :, b])
        drawable = np.isfinite(evidence.draws[:, :, b]).any()
        for m, method in enumerate(responses.methods):
            if not (responses.present[m, b].any() or responses.reasons[m, b]):
                continue  # not run yet
            named = parts.loc[(responses.run.name, method)]
            rows.append({
                "run": responses.run.name, "domain": responses.run.domain, "metric": metric.name, "budget": budget,
                "experiment": responses.run.experiment, "method": method,
                "solver": named["solver"], "grid": named["grid"], "guidance": named["guidance"],
                "evaluations": responses.evaluations[m, b], "seconds": responses.seconds[m, b],
                "value": value[m, b], "low": low[m, b], "high": high[m, b],
                "n": int(responses.given[m, b]), "seeds": int(responses.present[m, b].sum()),
                "missing": int(responses.drawn[m, b] - responses.given[m, b]),
                "failed": int(responses.failed[m, b].sum()), "reason": responses.reasons[m, b],
                "how": evidence.how[m, b], "better": metric.better, "place": places[m],
                "probability_best": float(best[m]) if drawable else math.nan,
            })  # fmt: skip
    return rows


def pair_rows(evidence: Evidence, *, margin: float, level: float) -> list[dict[str, Any]]:
    """Rows of `pairs` of one run and metric: a family at each budget."""
    responses = evidence.responses
    rows = []
    for b, budget in enumerate(responses.budgets):
        measured = np.flatnonzero(responses.measured[:, b])
        if len(measured) < 2:
            continue
        i, j = all_pairs(len(measured))
        first, second = measured[i], measured[j]
        comparison = compare(responses, b, first, second, margin=margin, level=level)
        keys = {
            "run": responses.run.name, "domain": responses.run.domain, "metric": evidence.metric.name, "budget": budget,
        }  # fmt: skip
        names = [(responses.methods[a], responses.methods[c]) for a, c in zip(first, second, strict=True)]
        values = evidence.estimates.value[:, b]
        seeds = (responses.present[first, b] & responses.present[second, b]).sum(axis=-1)
        rows += family_rows(
            keys, names, values[first], values[second], comparison, seeds, sign=evidence.metric.sign, level=level
        )
    return rows


def family_rows(
    keys: dict[str, Any],
    names: list[tuple[str, str]],
    first: np.ndarray,
    second: np.ndarray,
    comparison: Comparison,
    seeds: np.ndarray,
    *,
    sign: int,
    level: float,
) -> list[dict[str, Any]]:
    """Rows of one family of comparisons, with verdicts after Holm's correction."""
    differences, alpha = comparison.differences, 1 - level
    p_holm, p_equivalent = holm(differences.p), holm(comparison.p_equivalent)
    value, low, high = differences.estimates
    seen = detectable(differences.error, differences.df, len(names), alpha)
    rows = []
    for k, (a, b) in enumerate(names):
        rows.append({
            **keys, "method_a": a, "method_b": b, "value_a": first[k], "value_b": second[k],
            "difference": value[k], "low": low[k], "high": high[k], "p": differences.p[k], "p_holm": p_holm[k],
            "margin": comparison.margin[k], "p_equivalent": p_equivalent[k],
            "verdict": _verdict(sign * value[k], p_holm[k], p_equivalent[k], alpha),
            "n": int(differences.n[k]), "seeds": int(seeds[k]), "pairing_gain": differences.gain[k],
            "detectable": seen[k], "comparisons": len(names), "how": comparison.how, "test": comparison.test[k],
            "variance_paired": differences.variance_paired[k], "variance_unpaired": differences.variance_unpaired[k],
        })  # fmt: skip
    return rows


def detectable(error: np.ndarray, df: np.ndarray, comparisons: int, alpha: float) -> np.ndarray:
    """The differences that would be found with a probability of 80 %, of these standard errors."""
    factors = [noncentrality(int(d), alpha / comparisons, 0.8) if d >= 1 else math.nan for d in df]
    return error * np.array(factors)


def pairing_rows(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `pairing`: of each domain and metric, at each budget and at all together."""
    rows = []
    for (domain, metric), group in pairs.groupby(["domain", "metric"], sort=False):
        for budget, part in [*group.groupby("budget"), (math.nan, group)]:
            known = part[part["pairing_gain"].notna()]
            if not len(known):
                continue
            # Not interpolated: a pair that differs by a constant gains infinitely much.
            quartiles = np.quantile(known["pairing_gain"], [0.25, 0.5, 0.75], method="lower")
            rows.append({
                "domain": domain, "metric": metric, "budget": budget,
                "gain": quartiles[1], "low": quartiles[0], "high": quartiles[2],
                "variance_unpaired": known["variance_unpaired"].median(),
                "variance_paired": known["variance_paired"].median(), "pairs": len(known),
            })  # fmt: skip
    return rows


def power_rows(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `power`: what each family can see."""
    rows = []
    for keys, group in pairs.groupby(["run", "domain", "metric", "budget"], sort=False):
        known = group[group["detectable"].notna()]
        if not len(known):
            continue
        n, comparisons = int(known["n"].median()), int(known["comparisons"].iloc[0])
        size = np.abs(pd.concat([known["value_a"], known["value_b"]])).median()
        seen, paired = float(known["detectable"].median()), float(known["variance_paired"].median())
        gain = known["variance_unpaired"].median() / paired if paired else math.nan
        rows.append({
            **dict(zip(("run", "domain", "metric", "budget"), keys, strict=True)),
            "n": n, "seeds": int(known["seeds"].median()), "comparisons": comparisons,
            "sd_paired": math.sqrt(paired), "detectable": seen,
            "detectable_unpaired": seen * math.sqrt(gain),
            "relative": seen / size if size > 0 else math.nan,
        })  # fmt: skip
    return rows


def table(rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """A table of these columns in this order, also where there are no rows."""
    return pd.DataFrame(list(rows), columns=list(columns))


def _verdict(gain: float, p_holm: float, p_equivalent: float, alpha: float) -> str:
    if math.isnan(p_holm):
        return NOT_TESTED
    if p_holm <= alpha:
        return A_BETTER if gain > 0 else B_BETTER
    return EQUIVALENT if p_equivalent <= alpha else UNKNOWN


def _places(values: np.ndarray, sign: int) -> np.ndarray:
    """Places among what is known, 1 the best, ties shared; NaN for the rest."""
    known = np.isfinite(values)
    result = np.full(len(values), math.nan)
    result[known] = rankdata(-sign * values[known])
    return result
