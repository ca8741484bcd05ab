"""The feature network learns, repeats, and comes out of its cache as it went in."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest
import torch

from framework.metrics import feature_net as features
from framework.metrics.feature_net import FeatureNet, cache_folder, extract, load_or_train, train_features
from modalities.images.digits import Digits
from modalities.images.inception import InceptionFeatures

STEPS = 80


@pytest.fixture(scope="module")
def digits():
    train, held_out = Digits("train"), Digits("heldout")
    return train.images, torch.as_tensor(train.labels), held_out.images, torch.as_tensor(held_out.labels)


@pytest.fixture(scope="module")
def net(digits):
    return train_features(digits[0], digits[1], seed=0, steps=STEPS)


def toy(n=64, heads=None):
    """Bright or dark images; with heads, also the side on which they are bright."""
    generator = torch.Generator().manual_seed(0)
    bright, right = torch.randint(2, (2, n), generator=generator)
    images = torch.zeros(n, 1, 8, 8)
    images[:, 0, :, :4] = (40 + 150 * bright * (1 - right))[:, None, None].float()
    images[:, 0, :, 4:] = (40 + 150 * bright * right)[:, None, None].float()
    side = torch.where(bright == 1, right, -1)
    labels = bright if heads is None else torch.stack([bright, side], dim=1)
    return (images + 10 * torch.rand(images.shape, generator=generator)).to(torch.uint8), labels


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_digits_are_recognised(net, digits):
    assert net.accuracy(digits[2], digits[3])[0] >= 0.95


def test_features_do_not_depend_on_the_batch(net, digits):
    whole = extract(net, digits[2])
    assert whole.shape == (len(digits[2]), net.dimensions) and whole.dtype == np.float32
    np.testing.assert_allclose(extract(net, digits[2], batch=7), whole, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(extract(net, digits[2].numpy()), whole)


def test_same_seed_same_network_and_nobody_elses_randomness():
    images, labels = toy()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = train_features(images, labels, seed=1, steps=5, width=4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(first, train_features(images, labels, seed=1, steps=5, width=4))
    assert not same(first, train_features(images, labels, seed=2, steps=5, width=4))


def test_several_heads_with_absent_labels():
    """The second head learns from the half of the images that have its label, and is judged on them alone."""
    images, labels = toy(256, heads=2)
    net = train_features(images, labels, seed=0, steps=60, width=8)
    assert net.classes == (2, 2)
    assert net.accuracy(images, labels) == [1.0, 1.0]
    assert [len(right) for right in net.correct(images, labels)] == [256, int((labels[:, 1] >= 0).sum())]


def test_absent_labels_weigh_nothing():
    logits = [torch.randn(6, 3, generator=torch.Generator().manual_seed(0))]
    targets = torch.tensor([[0], [2], [-1], [1], [-1], [-1]])
    present = [logits[0][[0, 1, 3]]]
    assert features._loss(logits, targets) == pytest.approx(float(features._loss(present, targets[[0, 1, 3]])))
    assert features._loss(logits, torch.full((6, 1), -1)) == 0


def test_progress_counts_to_the_end():
    seen = []
    train_features(*toy(), seed=0, steps=3, width=4, progress=lambda done, steps: seen.append((done, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_cache_returns_what_was_trained(tmp_path, monkeypatch):
    images, labels = toy()
    arguments = {"seed": 0, "steps": 4, "width": 4, "folder": tmp_path}
    first = load_or_train({"name": "toy"}, images, labels, **arguments)
    monkeypatch.setattr(features, "train_features", None)
    second = load_or_train({"name": "toy"}, images, labels, **arguments)
    assert same(first, second) and not second.training
    np.testing.assert_array_equal(extract(first, images), extract(second, images))


def test_anything_that_matters_changes_the_key(tmp_path):
    images, labels = toy()
    other_images = images.clone()
    other_images[0, 0, 0, 0] ^= 1
    variants = [
        ({"name": "toy"}, images, labels, 0, 2, 4),
        ({"name": "boy"}, images, labels, 0, 2, 4),
        ({"name": "toy"}, other_images, labels, 0, 2, 4),
        ({"name": "toy"}, images, 1 - labels, 0, 2, 4),
        ({"name": "toy"}, images, labels, 1, 2, 4),
        ({"name": "toy"}, images, labels, 0, 3, 4),
        ({"name": "toy"}, images, labels, 0, 2, 5),
    ]
    for identity, x, y, seed, steps, width in variants:
        load_or_train(identity, x, y, seed=seed, steps=steps, width=width, folder=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == len(variants)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "no record", "record not JSON", "record a list"])
def test_corrupt_cache_is_named_and_trained_again(tmp_path, damage):
    images, labels = toy()
    arguments = {"seed": 0, "steps": 2, "width": 4, "folder": tmp_path}
    first = load_or_train({"name": "toy"}, images, labels, **arguments)
    (weights,), (record,) = tmp_path.glob("*.safetensors"), tmp_path.glob("*.json")
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text("{" if damage == "record not JSON" else "[]")
    with pytest.warns(UserWarning, match=weights.name):
        second = load_or_train({"name": "toy"}, images, labels, **arguments)
    assert same(first, second)
    assert weights.read_bytes() == content and record.exists()


def test_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFRACT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("DIFFRACT_CACHE")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(cache_folder()) == os.path.join("/somewhere", ".cache", "diffract")


def test_what_cannot_be_features_is_refused():
    images, labels = toy()
    net = FeatureNet(1, 2, width=4)
    with pytest.raises(ValueError, match="uint8"):
        extract(net, images.float())
    with pytest.raises(ValueError, match="expects 1 channels, the images have 3"):
        extract(net, images.expand(-1, 3, -1, -1))
    with pytest.raises(ValueError, match="64 images have 63 labels"):
        train_features(images, labels[1:], seed=0)
    with pytest.raises(ValueError, match="head 0 has no label"):
        train_features(images, torch.full((64,), -1), seed=0)
    with pytest.raises(ValueError, match="1 heads, the labels 2"):
        net.accuracy(images, torch.zeros(64, 2, dtype=torch.long))


class Bomb:
    def __reduce__(self):
        return (os.abort, ())


def test_inception_weights_are_a_file_of_plain_tensors(tmp_path, monkeypatch):
    missing = tmp_path / "weights.pth"
    with pytest.raises(FileNotFoundError, match=r"weights\.pth.*torch-fidelity"):
        InceptionFeatures(missing)
    missing.write_bytes(pickle.dumps(Bomb(), protocol=2))
    pytest.importorskip("torch_fidelity")
    with pytest.raises(ValueError, match="not a file of plain weights"):
        InceptionFeatures(missing)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ImportError, match=r"diffract\[inception\]"):
        InceptionFeatures(missing)
