"""Ranks of k methods over N independent blocks: Friedman's test and Nemenyi's critical difference.

In each block the methods are ranked (1 is best, ties share their mean rank); R_j is the mean rank of method j.

    chi^2 = (k - 1) sum_j (R_j - (k + 1)/2)^2 N^2 / sum_ij (r_ij - (k + 1)/2)^2        (Friedman, 1937, with ties)
    F     = (N - 1) chi^2 / (N (k - 1) - chi^2)  with k - 1 and (k - 1)(N - 1) df       (Iman and Davenport, 1980)
    CD    = q_a sqrt(k (k + 1) / (6 N)),  q_a the studentised range of k with infinite df over sqrt 2   (Nemenyi, 1963)

Mean ranks that differ by more than CD belong to different methods, at level a for all pairs together (Demsar, 2006,
JMLR 7: his tables are what tests compare with). The blocks must be independent: other seeds, other samples, other
models. Budgets of one seed are not, since they share its noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.stats import f as fisher
from scipy.stats import rankdata, studentized_range

FAR = 1e6  # degrees of freedom that are as good as infinite; scipy's integral fails at infinity for large k


@dataclass(frozen=True, eq=False)
class Ranking:
    """Mean ranks of methods and what they can tell apart.

    Attributes:
        ranks: mean rank of each method.
        statistic: Friedman's chi^2 with its correction for ties; NaN for fewer than two blocks or methods.
        p: of equal methods, by Iman and Davenport's F.
        blocks: N.
        critical_difference: Nemenyi's; NaN where there is no test.
    """

    ranks: Float[np.ndarray, " k"]
    statistic: float
    p: float
    blocks: int
    critical_difference: float

    def groups(self) -> list[tuple[int, ...]]:
        """The largest runs of methods, by rank, none of which differ by more than the critical difference."""
        order = np.argsort(self.ranks, kind="stable")
        sorted_ranks = self.ranks[order]
        found: list[tuple[int, ...]] = []
        reached = 0
        for start in range(len(order)):
            end = int(np.searchsorted(sorted_ranks, sorted_ranks[start] + self.critical_difference, side="right"))
            if end > reached and end - start > 1:
                found.append(tuple(int(method) for method in order[start:end]))
            reached = max(reached, end)
        return found


def block_ranks(values: Float[np.ndarray, "n k"], *, sign: int) -> Float[np.ndarray, "n k"]:
    """Ranks within each row, 1 the best; sign: 1 where higher is better, -1 where lower is."""
    return rankdata(-sign * np.asarray(values, float), axis=1)


def friedman(ranks: Float[np.ndarray, "n k"], *, level: float = 0.95) -> Ranking:
    """Test whether methods rank equally over independent blocks.

    Args:
        ranks: a row a block, a column a method, as `block_ranks` gives them.
        level: 1 - the significance level of the critical difference.
    """
    blocks, methods = ranks.shape
    means = ranks.mean(axis=0) if blocks else np.full(methods, math.nan)
    if blocks < 2 or methods < 2:
        return Ranking(means, math.nan, math.nan, blocks, math.nan)
    middle = (methods + 1) / 2
    spread = float(((ranks - middle) ** 2).sum())
    difference = critical_difference(methods, blocks, level=level)
    if spread == 0:  # everything ties with everything
        return Ranking(means, 0.0, 1.0, blocks, difference)
    statistic = (methods - 1) * blocks**2 * float(((means - middle) ** 2).sum()) / spread
    rest = blocks * (methods - 1) - statistic
    if rest <= 1e-9 * blocks * methods:  # all blocks agree; by chance they do so with (1/k!)^(N - 1)
        p = math.exp(-(blocks - 1) * math.lgamma(methods + 1))
    else:
        df = methods - 1
        p = float(fisher.sf((blocks - 1) * statistic / rest, df, df * (blocks - 1)))
    return Ranking(means, statistic, p, blocks, difference)


def critical_difference(methods: int, blocks: int, *, level: float = 0.95) -> float:
    """Nemenyi's critical difference of mean ranks of k >= 2 methods over N blocks."""
    return nemenyi_quantile(methods, level) * math.sqrt(methods * (methods + 1) / (6 * blocks))


@lru_cache(maxsize=256)
def nemenyi_quantile(methods: int, level: float) -> float:
    """q_a: the studentised range of k with infinite degrees of freedom, over sqrt 2."""
    return float(studentized_range.ppf(level, methods, FAR)) / math.sqrt(2)
