"""How many atoms a molecule has: drawn as the data's are, given what is known of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.data.counter import uniforms
from framework.errors import PromptError

BINS = 20


@dataclass(frozen=True)
class Sizes:
    """`counts[n]` training molecules have n atoms.

    `by_property` has, for a property, `edges` of bins of its values and `counts` for each bin, one more than edges.
    """

    counts: Sequence[int]
    by_property: Mapping[str, Mapping[str, Sequence[Any]]]

    @property
    def commonest(self) -> int:
        return int(np.argmax(self.counts))

    def draw(self, seed: int, sample: int, properties: Mapping[str, float], least: int = 1) -> int:
        """A size of at least `least`, a function of the seed and of the sample's index.

        With several properties the chances under each are multiplied, as if they were independent given the size.

        Raises:
            PromptError: no molecule of the data is so large.
        """
        law = np.asarray(self.counts, np.float64) / sum(self.counts)
        prior = law.copy()
        for name, value in properties.items():
            if name in self.by_property:
                known = self.by_property[name]
                counts = np.zeros_like(prior)
                here = known["counts"][bisect_right(list(known["edges"]), value)][: len(prior)]
                counts[: len(here)] = here
                smoothed = counts + 1e-3 * counts.sum() * prior
                law = law * np.divide(smoothed, prior, out=np.zeros_like(prior), where=prior > 0)
        law[:least] = 0
        if law.sum() == 0:
            raise PromptError(
                f"the model's data has at most {len(self.counts) - 1} atoms, {least} or more are wanted: "
                "say n_atoms= to try"
            )
        share = uniforms(seed, "molecules/sizes", np.array([sample]), 1)[0, 0]
        return int(np.searchsorted(np.cumsum(law) / law.sum(), share, side="right"))

    def spread(self, n: int) -> list[int]:
        """`n` sizes at even quantiles."""
        cumulative = np.cumsum(self.counts) / sum(self.counts)
        return [int(np.searchsorted(cumulative, (i + 0.5) / n)) for i in range(n)]


def by_property(values: np.ndarray, sizes: np.ndarray) -> dict[str, list[Any]]:
    """The entry of `Sizes.by_property` of a property's values (n,), NaN where unknown, and the sizes (n,)."""
    known = ~np.isnan(values)
    values, sizes = values[known], sizes[known]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])).tolist() if len(values) else []
    place = np.searchsorted(edges, values, side="right")
    width = int(sizes.max()) + 1 if len(sizes) else 1
    counts = [np.bincount(sizes[place == k], minlength=width).tolist() for k in range(len(edges) + 1)]
    return {"edges": edges, "counts": counts}
