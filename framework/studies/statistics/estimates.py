"""What every statistic returns: numbers with the ends of their intervals, for many columns at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Estimates(NamedTuple):
    """Values with intervals; NaN ends where the data say nothing of the spread."""

    value: Float[np.ndarray, ...]
    low: Float[np.ndarray, ...]
    high: Float[np.ndarray, ...]

    def covers(self, truth: float | np.ndarray) -> np.ndarray:
        """Whether each interval holds the truth."""
        return (self.low <= truth) & (truth <= self.high)


def all_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) with i < j of all pairs of `count` things, in order."""
    return np.triu_indices(count, k=1)
