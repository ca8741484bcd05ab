"""Each way in which images can be wrong moves the number that is there for it, beyond its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from framework.metrics.feature_net import train_features
from framework.metrics.pictures import (
    Pictures,
    evaluate_images,
    feature_metrics,
    label_metrics,
    verdict_metrics,
)
from modalities.images.digits import Digits

SET_METRICS = {"frechet", "kid", "precision", "recall", "density", "coverage"}


@pytest.fixture(scope="module")
def digits():
    data = Digits("train")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data.images[order], torch.as_tensor(data.labels)[order]


@pytest.fixture(scope="module")
def net(digits):
    return train_features(*digits, seed=0, steps=60)


@pytest.fixture(scope="module")
def evaluate(digits, net):
    images, labels = digits
    held_out = Pictures(images[1000:], labels[1000:])

    def of(samples, asked=None):
        return evaluate_images(Pictures(samples, asked), images[:600], net, seed=3, classifier=net, held_out=held_out)

    return of


def test_real_images_are_as_good_as_the_ceiling(evaluate, digits):
    images, labels = digits[0][600:1000], digits[1][600:1000]
    result = evaluate(images, labels)
    names = SET_METRICS | {"class_accuracy"}
    assert set(result) == names | {f"ceiling/{name}" for name in names}
    assert result["class_accuracy"].value > 0.95
    for name in names:
        measured, ceiling = result[name], result[f"ceiling/{name}"]
        assert measured.n == 400 and ceiling.n == 400, "the ceiling is taken at the same number of images"
        assert measured.seed == 3
        assert measured.low <= measured.value <= measured.high
        assert measured.low <= ceiling.high and ceiling.low <= measured.high, f"{name}: intervals overlap"


def test_noise_dropped_modes_and_memorisation_each_show(evaluate, digits):
    images, labels = digits[0][600:1000], digits[1][600:1000]
    noise = 80 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    noisy = evaluate((images.float() + noise).clamp(0, 255).to(torch.uint8))
    few = evaluate(images[labels < 4], labels[labels < 4])
    copies = evaluate(digits[0][:20].repeat(20, 1, 1, 1))
    for wrong in (noisy, few, copies):
        assert wrong["frechet"].low > wrong["ceiling/frechet"].high
        assert wrong["kid"].value > wrong["ceiling/kid"].high
    assert noisy["precision"].value < noisy["ceiling/precision"].low
    assert few["recall"].high < few["ceiling/recall"].low and few["class_accuracy"].value > 0.95
    assert copies["precision"].value == 1 and copies["recall"].high < copies["ceiling/recall"].low


def test_the_wrong_class_is_seen(net, digits):
    images, labels = digits[0][:200], digits[1][:200].clone()
    labels[:50] = (labels[:50] + 1) % 10
    labels[-20:] = -1
    measured = label_metrics(Pictures(images, labels), net, seed=0)["class_accuracy"]
    assert measured.n == 180
    assert measured.value == pytest.approx(130 / 180, abs=0.03)
    assert label_metrics(Pictures(images), net, seed=0) == {}


def test_heads_have_names_and_an_image_is_right_if_all_its_labels_are():
    class Oracle:
        classes = (2, 2)

        def predict(self, images):
            return np.zeros((len(images), 2), dtype=np.int64)

    labels = np.array([[0, 0], [0, 1], [1, -1], [-1, 0], [-1, -1]])
    pictures = Pictures(np.zeros((5, 1, 8, 8), np.uint8), labels)
    result = label_metrics(pictures, Oracle(), seed=0, heads=("colour", "shape"))
    assert {name: (m.value * m.n, m.n) for name, m in result.items()} == {
        "class_accuracy": (2, 4),
        "class_accuracy/colour": (2, 3),
        "class_accuracy/shape": (2, 3),
    }
    with pytest.raises(ValueError, match="1 names"):
        label_metrics(pictures, Oracle(), seed=0, heads=("colour",))


def test_verdicts_become_proportions_by_group_and_attribute():
    result = verdict_metrics(
        {"single": {"all": np.array([1, 1, 0, 1]), "colour": np.array([1, 1])}, "double": {}}, seed=5
    )
    assert list(result) == [
        "caption_accuracy/single",
        "caption_accuracy/single/colour",
        "caption_accuracy/double",
    ]
    assert (result["caption_accuracy/single"].value, result["caption_accuracy/single"].n) == (0.75, 4)
    assert 0 < result["caption_accuracy/single/colour"].low < 1 == result["caption_accuracy/single/colour"].high
    assert math.isnan(result["caption_accuracy/double"].value) and result["caption_accuracy/double"].n == 0
    with pytest.raises(ValueError, match="0 or 1"):
        verdict_metrics({"single": {"all": np.array([0.5])}}, seed=0)


@pytest.mark.parametrize("n", [1, 11, 12, 30])
def test_few_images_are_measured_or_said_to_be_too_few(n):
    rows = np.random.default_rng(0).normal(size=(n, 4))
    result = feature_metrics(rows, np.random.default_rng(1).normal(size=(50, 4)), seed=0)
    assert set(result) == SET_METRICS
    for measured in result.values():
        assert measured.n == n
        assert math.isnan(measured.value) == (n < 12)
