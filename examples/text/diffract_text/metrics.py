"""How good texts are: by the rules of their language where it has any, by their variety, and by a model's surprise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffract_text.data import TextData
from diffract_text.units import Units
from framework.metrics.intervals import Interval, assign_blocks, block_interval, jackknife_interval, wilson
from framework.metrics.measurement import Measurement

BLOCKS = 20


def share(verdicts: np.ndarray, seed: int) -> Measurement:
    """The share of texts that are right, with Wilson's interval."""
    interval = wilson(int(verdicts.sum()), len(verdicts)) if len(verdicts) else Interval(*[float("nan")] * 3)
    return Measurement(*interval, n=len(verdicts), seed=seed)


def distinct(texts: Sequence[str], n: int, units: Units) -> float:
    """The share of n-grams that are different from each other (Li et al. 2016, arXiv:1510.03055)."""
    grams = [tuple(row[i : i + n]) for row in map(units.split, texts) for i in range(len(row) - n + 1)]
    return len(set(grams)) / max(len(grams), 1)


def variety(texts: Sequence[str], n: int, units: Units, seed: int) -> Measurement:
    """`distinct` with its jackknife interval; it falls with the number of texts, so compare equal numbers."""
    value, blocks = distinct(texts, n, units), min(BLOCKS, len(texts))
    interval = Interval(value, float("nan"), float("nan"))
    if blocks > 1:
        block = assign_blocks(len(texts), blocks, seed)
        left = [
            distinct([text for text, b in zip(texts, block, strict=True) if b != k], n, units) for k in range(blocks)
        ]
        interval = jackknife_interval(value, np.array(left), support=(0.0, 1.0))
    return Measurement(*interval, n=len(texts), seed=seed)


def judged(texts: Sequence[str], data: TextData, units: Units, seed: int, some: int) -> dict[str, Measurement]:
    """The language's own verdicts, and the variety of words and of pairs of them in the first `some` texts."""
    verdicts = {name: share(values, seed) for name, values in data.judge(texts).items()}
    return verdicts | {f"distinct_{n}": variety(texts[:some], n, units, seed) for n in (1, 2)}


def perplexity(nats: np.ndarray, sizes: np.ndarray, seed: int) -> dict[str, Measurement]:
    """From the nats (N,) of texts of so many units (N,): exp of the nats a unit, and the mean nats of a text."""
    rows, blocks = np.stack([nats, sizes], 1).astype(np.float64), min(BLOCKS, len(nats))

    def measured(value: Interval) -> Measurement:
        return Measurement(*value, n=len(nats), seed=seed)

    a_unit = block_interval(lambda part, _: part[:, 0].sum() / part[:, 1].sum(), rows, None, blocks=blocks, seed=seed)
    a_text = block_interval(lambda part, _: part[:, 0].mean(), rows, None, blocks=blocks, seed=seed)
    return {"perplexity": measured(Interval(*np.exp(a_unit))), "nats_per_text": measured(a_text)}
