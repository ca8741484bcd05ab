"""The conformance kit on the toy experiment, one test a check, and what only this modality can promise."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from experiments.suite import ExperimentSuite

from diffract_my_modality.data import SHAPES, MyModalityData
from diffract_my_modality.metrics import recognise


class TestToy(ExperimentSuite):
    """`expected` may name checks that are known to fail, each with the reason: {"round_trip": "phases are lost"}."""

    experiment = "my_modality/toy"
    overrides = ("data.train_length=256", "data.validation_length=256")
    thorough = True
    expected: ClassVar[dict[str, str]] = {}


def test_the_rule_sees_the_shape_of_every_real_curve() -> None:
    real = MyModalityData(validation_length=300).reference(300, seed=0)
    assert set(real.labels.tolist()) == set(range(len(SHAPES)))
    assert (recognise(real.curves.numpy()) == real.labels.numpy()).mean() > 0.99


def test_the_rule_sees_no_shape_in_noise() -> None:
    noise = np.random.default_rng(0).standard_normal((300, 32))
    assert (recognise(noise) == -1).mean() > 0.99
