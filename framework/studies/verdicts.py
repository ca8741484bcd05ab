"""What a study found, in words: the table `verdicts`.

A sentence says what is best only together with what cannot be told from it, and how large a difference would have been
seen. It says what failed, what could not be judged, and what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .comparisons import A_BETTER, B_BETTER, EQUIVALENT, NOT_TESTED, UNKNOWN
from .labels import listed, number, short_names, triple
from .loaded import ERROR, FAILED, NOT_APPLICABLE, Loaded, Metric
from .ranking import FIRST

NAMED = 6  # methods that a sentence names
ALPHA = 0.05


def verdict_rows(loaded: Loaded, tables: Mapping[str, pd.DataFrame], *, margin: float) -> list[dict[str, Any]]:
    """Rows of `verdicts`: first what is missing or failed, then domains, then each run, metric and budget."""
    short = short_names(loaded.compared()["method"]) if len(loaded.cells) else {}
    rows = [*_incomplete(loaded), *_failures(loaded, short)]
    rows += _between_domains(tables["ranks"], tables["pairs"], tables["correlation"], short)
    rows += _ranks(loaded, tables["ranks"], tables["friedman"], short)
    rows += _pairing(loaded, tables["pairing"])
    pairs = {keys: group for keys, group in tables["pairs"].groupby(["run", "metric", "budget"], sort=False)}
    for (run, metric, budget), scores in tables["scores"].groupby(["run", "metric", "budget"], sort=False):
        family = pairs.get((run, metric, budget), tables["pairs"].iloc[:0])
        row = _best(loaded, loaded.metric(run, metric), scores, family, short, margin)
        rows += [row] if row else []
    return rows


def _row(kind: str, sentence: str, **keys: Any) -> dict[str, Any]:
    empty = {"run": None, "domain": None, "metric": None, "budget": math.nan, "best": None, "tied": ()}
    return {"kind": kind, **empty, **keys, "sentence": sentence}


def _incomplete(loaded: Loaded) -> list[dict[str, Any]]:
    if not loaded.missing:
        return []
    planned = len(loaded.missing) + len(loaded.cells)
    return [
        _row("incomplete", f"{len(loaded.missing)} of {planned} planned cells are not there yet: all is preliminary.")
    ]


def _failures(loaded: Loaded, short: Mapping[str, str]) -> list[dict[str, Any]]:
    """One sentence a run, method and reason of failing."""
    cells = loaded.compared()
    rows = []
    for status, words in ((FAILED, "failed"), (NOT_APPLICABLE, "could not be used")):
        ended = cells[cells["status"] == status].fillna({"reason": ""})
        for (run, method, reason), group in ended.groupby(["run", "method", "reason"], sort=False):
            budgets = [f"{b:g}" for b in sorted(group["budget"].unique())]
            of = cells[(cells["run"] == run) & (cells["method"] == method)]
            sentence = (
                f"{_name(short, method)} {words} in {len(group)} of its {len(of)} cells "
                f"(at {listed(budgets)} {loaded.budget_unit}): {reason or 'no reason was given'}."
            )
            rows.append(_row("failures", sentence, run=run, domain=loaded.runs[run].domain, best=None, tied=(method,)))
    return rows


def _best(
    loaded: Loaded, metric: Metric, scores: pd.DataFrame, family: pd.DataFrame, short: Mapping[str, str], margin: float
) -> dict[str, Any] | None:
    """What is best at one budget, and what cannot be told from it."""
    known = scores[scores["value"].notna()]
    if len(known) < 2:
        return None
    best = known.loc[known["place"].idxmin()]
    others = _against(best["method"], family)
    name, names = _name(short, best["method"]), {v: [_name(short, m) for m in ms] for v, ms in others.items()}
    unit = f" {metric.unit}" if metric.unit else ""
    at = f"at {best['budget']:g} {loaded.budget_unit}"
    value = _interval(best) + unit
    tied, same, worse = (names.get(verdict, []) for verdict in (UNKNOWN, EQUIVALENT, A_BETTER))
    mine = family[(family["method_a"] == best["method"]) | (family["method_b"] == best["method"])]
    unclear = mine[mine["verdict"] == UNKNOWN]
    size = f"{int(best['n'])} {_units(best)}"
    seen = unclear["detectable"].max()
    could = f"; a difference of {number(seen, 2)}{unit} could have been seen" if math.isfinite(seen) else ""
    text = []
    if others.get(NOT_TESTED) and not (tied or same or worse):
        text.append(f"{name} has the best value {at}, {value}, but one seed says nothing of how far to trust it.")
    elif tied and not worse and not same:
        text.append(
            f"No method can be told from the best {at} at this sample size ({size}{could}): the best value is that "
            f"of {name}, {value}; the others are {listed(tied, NAMED)}."
        )
    else:
        text.append(f"{name} is best {at}: {value}.")
        if tied:
            text.append(f"{listed(tied, NAMED)} cannot be told apart from it at this sample size ({size}{could}).")
        if same:
            kind = f"{margin:g}" if metric.kind == "binary" else f"{100 * margin:g} %"
            text.append(f"{listed(same, NAMED)} {_is(same)} the same as it up to {kind}.")
        if worse:
            text.append(f"{listed(worse, NAMED)} {_is(worse)} worse.")
    if names.get(B_BETTER):
        text.append(
            f"On the samples that both have, {listed(names[B_BETTER], NAMED)} {_is(names[B_BETTER])} better than it."
        )
    text += _gaps(known, short)
    keys = {key: best[key] for key in ("run", "domain", "metric", "budget")}
    unclear_names = tuple(m for v in (UNKNOWN, EQUIVALENT, NOT_TESTED) for m in others.get(v, ()))
    return _row("best", " ".join(text), **keys, best=best["method"], tied=unclear_names)


def _against(best: str, family: pd.DataFrame) -> dict[str, list[str]]:
    """The other methods by verdict, as if the best were always method a."""
    turned = {A_BETTER: B_BETTER, B_BETTER: A_BETTER}
    others: dict[str, list[str]] = {}
    for a, b, verdict in zip(family["method_a"], family["method_b"], family["verdict"], strict=True):
        if a == best:
            others.setdefault(verdict, []).append(b)
        elif b == best:
            others.setdefault(turned.get(verdict, verdict), []).append(a)
    return others


def _gaps(scores: pd.DataFrame, short: Mapping[str, str]) -> list[str]:
    """Who has samples that could not be judged, or lacks the cells of a seed."""
    text = []
    gaps = scores[scores["missing"] > 0]
    if len(gaps):
        parts = [f"{_name(short, r.method)} {r.missing} of {r.n + r.missing}" for r in gaps.itertuples()]
        text.append(
            f"Not every sample could be judged ({listed(parts, NAMED)} could not); "
            "methods are compared on those that could."
        )
    failed = scores[scores["failed"] > 0]
    if len(failed):
        parts = [f"{_name(short, r.method)} in {r.failed}" for r in failed.itertuples()]
        text.append(f"Some seeds failed and are not in the value ({listed(parts, NAMED)}).")
    return text


def _ranks(loaded: Loaded, ranks: pd.DataFrame, tests: pd.DataFrame, short: Mapping[str, str]) -> list[dict[str, Any]]:
    """Over all budgets, each domain."""
    rows = []
    for test in tests[(tests["scope"] == "domain") & tests["budget"].isna()].to_dict("records"):
        if test["metric"] == FIRST:
            continue
        here, difference = _ranks_of(ranks, test["domain"], test["metric"]), test["critical_difference"]
        best = str(here.index[0])
        near = [str(name) for name in here.index[1:] if here[name] - here.iloc[0] <= difference]
        label = _label(loaded, test["domain"], test["metric"])
        count = f"{test['methods']} methods, {test['blocks']} independent blocks"
        if test["p"] < ALPHA:
            text = [
                f"Over all budgets, {_name(short, best)} ranks best by {label}: mean rank {here.iloc[0]:.1f} ({count})."
            ]
            if near:
                names = listed([_name(short, name) for name in near], NAMED)
                text.append(f"{names} {_is(near)} within the critical difference of {difference:.1f}.")
        else:
            text = [f"Over all budgets, ranks by {label} do not tell the methods apart ({count})."]
            near = [str(name) for name in here.index[1:]]
        if test["left_out"]:
            names = listed([_name(short, name) for name in test["left_out"]], NAMED)
            text.append(f"Not ranked, since values are missing: {names}.")
        keys = {"domain": test["domain"], "metric": test["metric"]}
        rows.append(_row("ranks", " ".join(text), **keys, best=best, tied=tuple(near)))
    return rows


def _between_domains(
    ranks: pd.DataFrame, pairs: pd.DataFrame, correlation: pd.DataFrame, short: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Whether the order of one domain, and its best method, hold in another."""
    rows = []
    overall = correlation[correlation["budget"].isna() & (correlation["coefficient"] == "spearman")]
    for found in overall.to_dict("records"):
        a, b = found["domain_a"], found["domain_b"]
        metric = ERROR if found["metric_a"] == found["metric_b"] == ERROR else FIRST
        by = ERROR if metric == ERROR else f"{found['metric_a']} and {found['metric_b']}"
        interval = f" [{found['low']:.2f}, {found['high']:.2f}]" if math.isfinite(found["low"]) else ""
        first, second = (_ranks_of(ranks, domain, metric) for domain in (a, b))
        sentence = (
            f"The orders of {found['methods']} methods in {a} and in {b}, by {by} over all budgets, correlate with "
            f"{found['value']:.2f}{interval} (Spearman)."
        )
        if first.index[0] in second.index:
            there = pairs[(pairs["domain"] == b) & (pairs["metric"] == found["metric_b"])]
            sentence += " " + _carries(first, second, there, (a, b), short)
        rows.append(_row("domains", sentence, domain=b, metric=metric, best=str(second.index[0])))
    return rows


def _carries(
    first: pd.Series, second: pd.Series, pairs: pd.DataFrame, domains: tuple[str, str], short: Mapping[str, str]
) -> str:
    """What becomes of one domain's best method in another domain, whose paired comparisons are `pairs`.

    Ranks say where it stands; whether it is worse is asked sample by sample, which a few blocks of ranks cannot tell.
    """
    best, there = str(first.index[0]), str(second.index[0])
    if best == there:
        return f"{_name(short, best)} ranks best in both."
    place, gap = list(second.index).index(best) + 1, float(second[best] - second.iloc[0])
    against = ((there, best, A_BETTER), (best, there, B_BETTER))
    of_both = [pairs[(pairs["method_a"] == a) & (pairs["method_b"] == b)] for a, b, _ in against]
    asked = {float(budget) for found in of_both for budget in found["budget"]}
    lost = {
        float(budget)
        for found, (_, _, won) in zip(of_both, against, strict=True)
        for budget in found[found["verdict"] == won]["budget"]
    }
    other, count = _name(short, there), f"{len(asked)} budget" + "s" * (len(asked) != 1)
    clear = f"; the best there, {other}, is shown to be better at {len(lost)} of {count}"
    if not lost:
        clear = f"; at none of {count} can it be told from the best there, {other}"
    return (
        f"The best of {domains[0]}, {_name(short, best)}, ranks {place} of {len(second)} in {domains[1]} "
        f"(mean ranks {gap:.1f} apart){clear}."
    )


def _pairing(loaded: Loaded, pairing: pd.DataFrame) -> list[dict[str, Any]]:
    """What sharing the noise was worth."""
    rows = []
    for found in pairing[pairing["budget"].isna()].to_dict("records"):
        gain, low, high = (number(found[name], 2) for name in ("gain", "low", "high"))
        sentence = (
            f"Sharing the noise divides the variance of differences by {gain} in {found['domain']}, by "
            f"{_label(loaded, found['domain'], found['metric'])} (half of all pairs: {low} to {high}): without it, so "
            "many times the samples would be needed."
        )
        rows.append(_row("pairing", sentence, domain=found["domain"], metric=found["metric"]))
    return rows


def _ranks_of(ranks: pd.DataFrame, domain: str, metric: str) -> pd.Series:
    """Mean ranks over all budgets by method, best first."""
    chosen = ranks[(ranks["scope"] == "domain") & (ranks["domain"] == domain) & (ranks["metric"] == metric)]
    return chosen[chosen["budget"].isna()].set_index("method")["rank"].sort_values(kind="stable")


def _label(loaded: Loaded, domain: str, metric: str) -> str:
    run = next(name for name, run in loaded.runs.items() if run.domain == domain)
    return loaded.metric(run, metric).label


def _interval(row: pd.Series) -> str:
    if not (math.isfinite(row["low"]) and math.isfinite(row["high"])):
        return number(row["value"])
    value, low, high = triple(row["value"], row["low"], row["high"])
    return f"{value} [{low}, {high}]"


def _units(row: pd.Series) -> str:
    return "seeds" if row["how"] in ("seed blocks", "one seed", "jackknife") else "samples"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _name(short: Mapping[str, str], method: str) -> str:
    return short.get(method, method)
