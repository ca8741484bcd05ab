"""Tables of quality against cost: `pareto` and `area`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from .evidence import Evidence
from .responses import Responses
from .statistics.area import area_weights
from .statistics.bootstrap import Resamples, bca_means
from .statistics.estimates import Estimates
from .statistics.frontier import on_front
from .statistics.seed_blocks import jackknife_means, student_means

EVALUATIONS, SECONDS = "evaluations", "seconds"


def pareto_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Rows of `pareto` of one run and metric, for both costs."""
    responses, sign = evidence.responses, evidence.metric.sign
    value, low, high = evidence.estimates
    rows = []
    for axis, costs in ((EVALUATIONS, responses.evaluations), (SECONDS, responses.seconds)):
        usable = np.isfinite(costs) & np.isfinite(value)
        m, b = np.nonzero(usable)
        # Costs that differ by rounding are the same.
        cost = np.array([float(f"{c:.9g}") for c in costs[usable]])
        front = on_front(cost, sign * value[usable][None])[0]
        draws = sign * evidence.draws[:, usable]
        drawn = np.isfinite(draws).all(axis=0)
        # A method of which no draws can be made cannot be passed over: then nothing is said of any.
        share = on_front(cost, draws).mean(axis=0) if drawn.all() else np.full(len(cost), math.nan)
        rows += [
            {
                "run": responses.run.name, "domain": responses.run.domain, "metric": evidence.metric.name, "axis": axis,
                "method": responses.methods[m[k]], "budget": responses.budgets[b[k]], "cost": cost[k],
                "value": value[m[k], b[k]], "low": low[m[k], b[k]], "high": high[m[k], b[k]],
                "on_front": bool(front[k]), "probability_on_front": float(share[k]),
            }
            for k in np.lexsort((m, cost))
        ]  # fmt: skip
    return rows


def area_rows(evidence: Evidence, *, level: float) -> list[dict[str, Any]]:
    """Rows of `area` of one run and metric."""
    responses = evidence.responses
    points = [_points(responses, m) for m in range(len(responses.methods))]
    ends = _common_range([responses.evaluations[m, p] for m, p in enumerate(points)])
    if ends is None:
        return []
    rows = []
    for m, method in enumerate(responses.methods):
        evaluations = responses.evaluations[m, points[m]]
        row: dict[str, Any] = {
            "run": responses.run.name, "domain": responses.run.domain, "metric": evidence.metric.name, "method": method,
            "value": math.nan, "low": math.nan, "high": math.nan,
            "evaluations_from": ends[0], "evaluations_to": ends[1], "n": 0, "how": "nothing",
            "better": evidence.metric.better,
        }  # fmt: skip
        if len(evaluations) >= 2 and evaluations.min() <= ends[0] and evaluations.max() >= ends[1]:
            weights = area_weights(evaluations, *ends)
            used = weights > 0
            estimate, n, how = _area(responses, m, points[m][used], weights[used], level)
            row |= {"value": estimate.value[0], "low": estimate.low[0], "high": estimate.high[0], "n": n, "how": how}
        rows.append(row)
    values = np.array([row["value"] for row in rows])
    known = np.isfinite(values)
    places = np.full(len(rows), math.nan)
    places[known] = rankdata(-evidence.metric.sign * values[known])
    return [{**row, "place": place} for row, place in zip(rows, places, strict=True)]


def _area(
    responses: Responses, m: int, points: np.ndarray, weights: np.ndarray, level: float
) -> tuple[Estimates, int, str]:
    """Each unit (sample, or seed) has its own area, if it was judged at all the budgets."""
    areas = np.einsum("bu,b->u", responses.values[m, points], weights)[:, None]
    n = int(np.isfinite(areas).sum())
    if responses.metric.kind != "set":
        return bca_means(areas, Resamples(len(areas)), level=level), n, "bca"
    if responses.left_out is not None:
        left_out = np.einsum("bsk,b->sk", responses.left_out[m, points], weights)[:, :, None]
        return jackknife_means(areas, left_out, level=level), n, "jackknife"
    return student_means(areas, level=level), n, "seed blocks" if n > 1 else "one seed"


def _points(responses: Responses, m: int) -> np.ndarray:
    """Budgets at which a method was measured, one for each number of evaluations."""
    usable = np.flatnonzero(np.isfinite(responses.evaluations[m]) & responses.measured[m])
    _, first = np.unique(responses.evaluations[m, usable], return_index=True)
    return usable[first]


def _common_range(evaluations: list[np.ndarray]) -> tuple[float, float] | None:
    """The range that most methods share: those that would halve it (in log2) are left without an area."""
    spans = [(float(e.min()), float(e.max())) for e in evaluations if len(e) >= 2]
    if not spans:
        return None
    whole = math.log2(max(high for _, high in spans) / min(low for low, _ in spans))
    while True:
        low, high = max(low for low, _ in spans), min(high for _, high in spans)
        if low < high and math.log2(high / low) >= whole / 2:
            return low, high
        if len(spans) == 1:
            return None
        spans.remove(min(spans, key=lambda span: span[1] / span[0]))
