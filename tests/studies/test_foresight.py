"""What is foreseen of a study is what the study sees."""

from __future__ import annotations

import math

import numpy as np
import pytest

from framework.metrics.score import Score, verdicts
from framework.studies.foresight import foresee
from framework.studies.statistics.estimates import all_pairs
from framework.studies.statistics.families import holm
from framework.studies.statistics.seed_blocks import block_differences


def pilot(rng, k=200):
    shared = rng.normal(size=k)
    return [
        {
            "loudness": Score(10 + shared + 0.2 * rng.normal(size=k), "loudness error", "lower", unit="dB"),
            "valid": verdicts(np.ones(k), "valid"),
            "short": Score(np.full(k, math.nan), "length"),
        }
        for _ in range(2)
    ]


def test_a_foreseen_difference_is_found():
    rng = np.random.default_rng(0)
    foreseen = foresee(pilot(rng), n=90, methods=5)[0]
    first, second = all_pairs(5)
    found = []
    for _ in range(300):
        values = rng.normal(size=90) + 0.2 * rng.normal(size=(5, 90))
        values[0] -= foreseen.detectable
        found.append(holm(block_differences(values, first, second).p)[:4] <= 0.05)
    assert 0.78 <= np.mean(found) <= 0.97


def test_it_is_said_in_words():
    (foreseen,) = foresee(
        pilot(np.random.default_rng(1)), n=400, methods=12
    )  # the constant and the unknown say nothing
    assert foreseen.metric == "loudness"
    assert foreseen.unpaired / foreseen.detectable == pytest.approx(math.sqrt(1.04 / 0.04), rel=0.15)
    assert foreseen.relative == pytest.approx(foreseen.detectable / 10, rel=0.05)
    assert str(foreseen).startswith("loudness error: differences of 0.0") and "dB (" in str(foreseen)
    larger = foresee(pilot(np.random.default_rng(1)), n=1600, methods=12)[0]
    assert larger.detectable == pytest.approx(foreseen.detectable / 2, rel=0.02)
