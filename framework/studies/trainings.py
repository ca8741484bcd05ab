"""Tables over runs of one experiment, which differ in their training seed: `training_scores` and `training_pairs`.

Samples of one trained model share that model: however many they are, they say how well it is known, and not how well
its recipe is. The units are therefore the models, K of them, and intervals and tests are Student's on their means
(and on their paired differences), with K - 1 degrees of freedom: exact for normal means. To resample models and then
their samples is no better. Measured on 95 % intervals: over 3 models such a bootstrap covers 73 % (over 8, 87 %)
where models differ much, and over 12 or more 99 % where they hardly do, since its second stage counts the samples'
chance twice.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from .comparisons import family_rows
from .evidence import Comparison, Evidence
from .statistics.equivalence import equivalent_means
from .statistics.estimates import all_pairs
from .statistics.seed_blocks import block_differences, student_means


def training_rows(
    evidence: dict[tuple[str, str], Evidence], *, margin: float, level: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of both tables, for each experiment with two runs or more and each metric that all of them have."""
    experiments: dict[tuple[str, str], list[Evidence]] = {}
    for (_, metric), one in evidence.items():
        experiments.setdefault((one.responses.run.experiment, metric), []).append(one)
    scores: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for (experiment, metric), runs in experiments.items():
        if len(runs) < 2:
            continue
        everyone = list(dict.fromkeys(method for one in runs for method in one.responses.methods))
        for budget in sorted(set.intersection(*(set(one.responses.budgets) for one in runs))):
            keys = {"run": experiment, "domain": runs[0].responses.run.domain, "metric": metric, "budget": budget}
            values = np.stack([_values(one, everyone, budget) for one in runs], axis=1)  # (m, k)
            complete = np.flatnonzero(np.isfinite(values).all(axis=1))
            if not len(complete):
                continue
            names, values = [everyone[m] for m in complete], values[complete]
            estimates = student_means(values.T, level=level)
            sign = runs[0].metric.sign
            places = rankdata(-sign * estimates.value)
            scores += [
                {
                    **keys, "method": name, "value": estimates.value[m], "low": estimates.low[m],
                    "high": estimates.high[m], "n": len(runs), "how": "trainings", "better": runs[0].metric.better,
                    "place": places[m],
                }
                for m, name in enumerate(names)
            ]  # fmt: skip
            if len(names) < 2:
                continue
            first, second = all_pairs(len(names))
            differences = block_differences(values, first, second, level=level)
            sizes = np.abs(estimates.value)
            binary = runs[0].metric.kind == "binary"
            margins = np.full(len(first), margin) if binary else margin * (sizes[first] + sizes[second]) / 2
            p_equivalent = equivalent_means(differences.estimates.value, differences.error, differences.df, margins)
            test = np.full(len(first), "t", dtype=object)
            seeds = np.full(len(first), len(runs))
            pairs += family_rows(
                keys,
                [(names[a], names[b]) for a, b in zip(first, second, strict=True)],
                estimates.value[first],
                estimates.value[second],
                Comparison(differences, p_equivalent, margins, "trainings", test),
                seeds,
                sign=sign,
                level=level,
            )
    return scores, pairs


def _values(one: Evidence, methods: list[str], budget: float) -> np.ndarray:
    """A run's estimates at a budget, in this order of methods; NaN for those that it has not."""
    responses = one.responses
    result = np.full(len(methods), math.nan)
    rows = [methods.index(method) for method in responses.methods]
    result[rows] = one.estimates.value[:, responses.budgets.index(budget)]
    return result
