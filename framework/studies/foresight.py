"""What a study will be able to see, said before it is run.

From a pilot: a few samples of the same noise by two methods or more (the same sampler at two budgets will do), judged
as the study will judge them. What its size can detect follows from how much their differences scatter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from framework.metrics.score import Score

from .labels import number
from .statistics.power import plan


@dataclass(frozen=True)
class Foresight:
    """What differences of one metric a study of this size can detect, in four of five studies.

    Attributes:
        metric: its name.
        label: in words.
        unit: of the differences.
        detectable: with the noise that methods share.
        unpaired: had each method noise of its own.
        relative: `detectable` as a share of the pilot's mean; NaN where that is 0.
    """

    metric: str
    label: str
    unit: str
    detectable: float
    unpaired: float
    relative: float

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        share = f" ({100 * self.relative:.2g} %)" if math.isfinite(self.relative) else ""
        return (
            f"{self.label}: differences of {number(self.detectable, 2)}{unit}{share} will be found; "
            f"without shared noise {number(self.unpaired, 2)}{unit}"
        )


def foresee(pilot: Sequence[Mapping[str, Score]], *, n: int, methods: int, alpha: float = 0.05) -> list[Foresight]:
    """Say what a study can detect, by each metric that tells the pilot's methods apart at all.

    Args:
        pilot: the scores of each of its methods, on the same samples in the same order.
        n: samples of a method in the study, over all seeds.
        methods: that the study compares, all with all.
        alpha: chance of any false claim in a family.
    """
    found = []
    for name, score in pilot[0].items():
        values = np.stack([scores[name].values for scores in pilot])
        planned = plan(values, n, comparisons=math.comb(methods, 2), alpha=alpha)
        if not planned.detectable > 0:
            continue  # all agree, or too few could be judged: nothing is known of how differences scatter
        mean = abs(float(np.nanmean(values)))
        relative = planned.detectable / mean if mean > 0 else math.nan
        found.append(
            Foresight(name, score.label, score.unit, planned.detectable, planned.detectable_unpaired, relative)
        )
    return found
