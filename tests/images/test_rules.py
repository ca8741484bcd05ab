"""The rules are right on what they should accept, and wrong attributes are caught one by one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from modalities.images.scenes import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES, parse
from modalities.images.shapes import Shapes, caption, draw
from modalities.images.shapes_rules import ATTRIBUTES, caption_accuracy, judge, look

CASES = [("single", 16), ("single", 32), ("double", 24), ("double", 32), ("mixed", 24)]


def renders(preset, size, n):
    items = Shapes(preset, "validation", length=n, size=size, seed=7)
    chosen = [items[i] for i in range(n)]
    return np.stack([item["image"].numpy() for item in chosen]), [item["caption"] for item in chosen]


def blurred(images, width):
    return ndimage.gaussian_filter(images.astype(float), (0, 0, width, width))


def noisy(images, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("preset", "size"), CASES)
@pytest.mark.parametrize("spoil", [lambda x: x, lambda x: noisy(x, 10), lambda x: noisy(blurred(x, 0.5), 4)])
def test_real_renders_are_accepted(preset, size, spoil):
    images, captions = renders(preset, size, 200)
    assert caption_accuracy(spoil(images), captions)["all"].mean() >= 0.995


@pytest.mark.nightly
@pytest.mark.parametrize(("preset", "size"), CASES)
@pytest.mark.parametrize("spoil", [lambda x: x, lambda x: noisy(x, 10), lambda x: noisy(blurred(x, 0.5), 4)])
def test_two_thousand_renders_are_accepted(preset, size, spoil):
    images, captions = renders(preset, size, 2000)
    assert caption_accuracy(spoil(images), captions)["all"].mean() >= 0.995


def test_shuffled_captions_are_at_chance():
    """1 colour in 4, 1 shape in 3, 1 place in 5, 1 size in 2, 1 background in 3, 1 in 360 in all."""
    images, captions = renders("single", 16, 600)
    scores = {name: values.mean() for name, values in caption_accuracy(images, np.roll(captions, 1)).items()}
    assert scores["all"] < 0.02 and scores["count"] == 1
    chances = {"colour": 1 / 4, "shape": 1 / 3, "size": 1 / 2, "place": 1 / 5, "background": 1 / 3}
    for name, chance in chances.items():
        assert abs(scores[name] - chance) < 0.1, name


def wrong_scenes(scene):
    """The scene with one attribute changed, in every possible way: (attribute, scene)."""
    for k, thing in enumerate(scene.things):
        for attribute, values in {"colour": COLOURS, "shape": SHAPES, "size": SIZES}.items():
            for value in values:
                if value != getattr(thing, attribute):
                    things = list(scene.things)
                    things[k] = replace(thing, **{attribute: value})
                    yield attribute, replace(scene, things=tuple(things))
    for attribute, values in {"place": PLACES, "background": BACKGROUNDS, "relation": RELATIONS}.items():
        for value in values:
            if getattr(scene, attribute) not in (None, value):
                yield attribute, replace(scene, **{attribute: value})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("a small red circle at the left on a white background", 16),
        ("a large blue triangle at the bottom on a grey background", 16),
        ("a small yellow square left of a large green circle on a black background", 24),
        ("a large red triangle below a small blue square on a white background", 32),
    ],
)
def test_each_wrong_attribute_is_caught_alone(text, size):
    image = draw(parse(text), size)
    assert judge(image, text).all
    for attribute, scene in wrong_scenes(parse(text)):
        judgement = judge(image, caption(scene))
        assert [name for name in ATTRIBUTES if not getattr(judgement, name)] == [attribute], caption(scene)


def test_the_count_is_caught():
    two = draw(parse("a small red circle left of a small blue square on a black background"), 24)
    assert not judge(two, "a red circle").count
    one = draw(parse("a large red circle at the left on a black background"), 24)
    verdict = judge(one, "a red circle left of a blue square")
    assert not (verdict.count or verdict.colour or verdict.shape or verdict.relation)
    empty = np.full((3, 16, 16), 8, np.uint8)
    verdict = judge(empty, "a red circle on a black background")
    assert verdict.background and not (verdict.count or verdict.shape or verdict.all)


def test_either_order_of_naming_is_right():
    image = draw(parse("a large red circle left of a small blue square on a black background"), 24)
    assert judge(image, "a small blue square right of a large red circle on a black background").all
    assert not judge(image, "a small blue square left of a large red circle on a black background").relation


def test_a_speck_is_no_object_but_a_blob_is():
    text = "a large green square in the centre on a black background"
    image = draw(parse(text), 16)
    image[:, 0, 0] = 255
    assert judge(image, text).all
    image[:, 0:2, 0:3] = 255
    assert not judge(image, text).count


def test_what_is_like_nothing_is_nothing():
    """Best of three is not enough: a cross is no square, purple is no red, pink is no white."""
    cross = np.full((3, 16, 16), 8, np.uint8)
    cross[:, 7:9, 2:14] = cross[:, 2:14, 7:9] = np.array(COLOURS["red"], np.uint8)[:, None, None]
    assert look(cross)[1][0].shape is None
    square = np.full((3, 16, 16), 8, np.uint8)
    square[:, 4:12, 4:12] = np.array([150, 30, 160], np.uint8)[:, None, None]
    assert look(square)[1][0].colour is None and look(square)[1][0].shape == "square"
    pink = np.array([255, 150, 180], np.uint8)[:, None, None] * np.ones((1, 16, 16), np.uint8)
    assert look(pink) == (None, [])


def test_noise_is_never_right():
    images = np.random.default_rng(0).integers(0, 256, (100, 3, 16, 16), dtype=np.uint8)
    captions = renders("single", 16, 100)[1]
    assert caption_accuracy(images, captions)["all"].sum() == 0


def test_only_what_is_said_is_scored():
    image = draw(parse("a small red circle at the left on a white background"), 16)
    scores = caption_accuracy([image, image], ["a red circle", "a red circle at the top"])
    assert set(scores) == {"all", "count", "colour", "shape", "place"}
    assert scores["all"].tolist() == [1, 0] and scores["place"].tolist() == [0]


def test_tensors_and_arrays_are_judged_alike_and_others_refused():
    item = Shapes("single", length=1)[0]
    assert judge(item["image"], item["caption"]).all
    with pytest.raises(ValueError, match="uint8"):
        judge(item["image"].float(), item["caption"])
    with pytest.raises(ValueError, match="unknown word"):
        judge(item["image"], "a purple cow")
