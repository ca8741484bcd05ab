"""What is known of every method of a run by one metric: estimates, draws of them together, and independent blocks.

The kind of metric decides how: means of samples by the bootstrap, shares by Wilson, sets by their jackknife values
where cells have them, and by Student over seeds where not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .loaded import Metric
from .responses import Responses
from .statistics.bootstrap import Resamples, bca_ends
from .statistics.equivalence import equivalent_means
from .statistics.estimates import Estimates
from .statistics.frontier import draws_around, jackknife_deviations, seed_deviations
from .statistics.paired import Differences, paired_differences
from .statistics.seed_blocks import block_differences, jackknife_differences, jackknife_means, student_means
from .statistics.shares import FEW_DISCORDANT, count, equivalent_shares, mcnemar, newcombe, wilson

DRAWS = 2000
BLOCK = 20  # samples of a block whose ranks count as one ranking
MOST_BLOCKS = 10  # of a seed


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that tables are made of.

    Attributes:
        responses: the numbers.
        estimates: of each method and budget, (m, b).
        how: what the intervals are made of, (m, b), as `analysis` lists it.
        draws: of all estimates together, (r, m, b); NaN where there is no interval to draw from.
    """

    responses: Responses
    estimates: Estimates
    how: np.ndarray
    draws: Float[np.ndarray, "r m b"]

    @property
    def metric(self) -> Metric:
        return self.responses.metric


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pairs of methods at one budget.

    Attributes:
        differences: with intervals and p.
        p_equivalent: of each pair alone, that it differs by its margin or more.
        margin: of each pair.
        how: what the intervals are made of.
        test: of no difference, by name, of each pair.
    """

    differences: Differences
    p_equivalent: Float[np.ndarray, " c"]
    margin: Float[np.ndarray, " c"]
    how: str
    test: np.ndarray


def gather(responses: Responses, *, level: float) -> Evidence:
    """Estimate every method at every budget."""
    kind, seeds = responses.metric.kind, len(responses.seeds)
    methods, budgets, units = responses.values.shape
    values = responses.values.reshape(-1, units).T  # (u, m b)
    measured = responses.measured.ravel()
    how = np.full(methods * budgets, "nothing", dtype=object)
    if kind == "set":
        if responses.left_out is not None:
            left_out = np.moveaxis(responses.left_out.reshape(methods * budgets, seeds, -1), 0, -1)
            estimates = jackknife_means(values, left_out, level=level)
            deviations, df, word = jackknife_deviations(left_out), seeds * (left_out.shape[1] - 1), "jackknife"
        else:
            estimates = student_means(values, level=level)
            deviations, df, word = seed_deviations(values), max(1, seeds - 1), "seed blocks"
        draws = draws_around(estimates.value, deviations, df, draws=DRAWS, seed=0)
        known = np.isfinite(estimates.low)
        draws[:, ~known] = math.nan
        how[measured] = "one seed"
        how[known] = word
    else:
        draws = Resamples(units, DRAWS).means(values) if units else np.full((DRAWS, methods * budgets), math.nan)
        if kind == "binary":
            estimates = wilson(np.nansum(values, axis=0), np.isfinite(values).sum(axis=0), level=level)
        else:
            estimates = bca_ends(values, draws, level=level)
        how[measured] = "wilson" if kind == "binary" else "bca"
    shape = (methods, budgets)
    return Evidence(
        responses,
        Estimates(*(end.reshape(shape) for end in estimates)),
        how.reshape(shape),
        draws.reshape(DRAWS, *shape),
    )


def compare(
    responses: Responses, budget: int, first: np.ndarray, second: np.ndarray, *, margin: float, level: float
) -> Comparison:
    """Compare methods first[k] and second[k] at the budget of that index.

    Args:
        margin: of equivalence: absolute for shares, else a share of the mean of both values' sizes.
    """
    values = responses.values[:, budget]
    if responses.metric.kind == "binary":
        return _compare_shares(values, first, second, margin, level)
    how, test = "bca", "t"
    if responses.metric.kind == "value":
        differences = paired_differences(values, first, second, Resamples(values.shape[1]), level=level)
    elif responses.left_out is not None:
        how = "jackknife"
        differences = jackknife_differences(values, responses.left_out[:, budget], first, second, level=level)
    else:
        how = "seed blocks" if len(responses.seeds) > 1 else "one seed"
        differences = block_differences(values, first, second, level=level)
    both = np.isfinite(values[first]) & np.isfinite(values[second])
    sizes = [np.abs(_mean(np.where(both, values[rows], math.nan))) for rows in (first, second)]
    margins = margin * (sizes[0] + sizes[1]) / 2
    p_equivalent = equivalent_means(differences.estimates.value, differences.error, differences.df, margins)
    return Comparison(_certain(differences), p_equivalent, margins, how, np.full(len(first), test, dtype=object))


def _compare_shares(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, margin: float, level: float
) -> Comparison:
    counts = count(values[first], values[second])
    discordant = counts.first + counts.second
    n = counts.n
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = n / (n - 1)
        p, q = (counts.both + counts.first) / n, (counts.both + counts.second) / n
        paired = (discordant / n - (p - q) ** 2) * scale
        unpaired = (p * (1 - p) + q * (1 - q)) * scale
        # No discordant sample among n does not mean that there never is one.
        error = np.sqrt(np.maximum(paired, 1 / n) / n)
    p_value = np.where(n > 0, mcnemar(counts), math.nan)
    df = (n - 1).astype(float)
    differences = Differences(newcombe(counts, level=level), p_value, error, df, n, paired, unpaired)
    test = np.where(discordant < FEW_DISCORDANT, "McNemar exact", "McNemar").astype(object)
    margins = np.full(len(first), margin)
    return Comparison(differences, equivalent_shares(counts, margins), margins, "newcombe", test)


def rank_blocks(responses: Responses) -> Float[np.ndarray, "m b k"]:
    """Means over independent blocks: parts of each seed's samples, of at least `BLOCK`; of sets, the seeds."""
    values = responses.values
    if responses.metric.kind == "set":
        return values
    seeds = max(1, len(responses.seeds))
    per_seed = values.shape[-1] // seeds
    parts = int(np.clip(per_seed // BLOCK, 1, MOST_BLOCKS))
    block = np.repeat(np.arange(seeds), per_seed) * parts + np.tile(np.arange(per_seed) % parts, seeds)
    return np.stack([_mean(values[..., block == k]) for k in range(seeds * parts)], axis=-1)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1)


def _certain(differences: Differences) -> Differences:
    """Where every unit differs by the same number, the interval is that number."""
    value, low, high = differences.estimates
    same = (differences.variance_paired == 0) & (differences.n >= 2)
    ends = Estimates(value, np.where(same, value, low), np.where(same, value, high))
    return Differences(ends, *(getattr(differences, name) for name in _REST))


_REST = ("p", "error", "df", "n", "variance_paired", "variance_unpaired")
