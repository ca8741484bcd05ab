"""The drawn set: items are functions of their place, captions say what is drawn, splits do not mix."""

import numpy as np
import pytest
import torch

from framework.data.counter import uniforms
from modalities.images import shapes
from modalities.images.scenes import (
    BACKGROUNDS,
    COLOURS,
    OPPOSITE,
    PLACES,
    PRESETS,
    RELATIONS,
    SHAPES,
    SIZES,
    VOCABULARY,
    Scene,
    Thing,
    is_held_out,
    scenes_of,
)
from modalities.images.shapes import (
    KINDS,
    Shapes,
    caption,
    combinations,
    coverage,
    draw,
    heldout_prompts,
    parse,
)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_item_depends_on_seed_split_and_index_only(preset):
    short, long = Shapes(preset, length=5), Shapes(preset, length=3000)
    for i in range(5):
        assert torch.equal(short[i]["image"], long[i]["image"]) and short[i]["caption"] == long[i]["caption"]
    assert not torch.equal(short[0]["image"], short[1]["image"])
    for other in (Shapes(preset, length=5, seed=1), Shapes(preset, "validation", length=5)):
        assert any(not torch.equal(short[i]["image"], other[i]["image"]) for i in range(5))


def test_painting_at_once_and_item_by_item_agree(monkeypatch):
    painted = Shapes("mixed", length=30)
    monkeypatch.setattr(shapes, "CACHE_BYTES", 0)
    lazy = Shapes("mixed", length=30)
    assert lazy._painted is None
    assert all(torch.equal(painted[i]["image"], lazy[i]["image"]) for i in range(30))


def test_an_item_can_be_changed_without_changing_the_set():
    items = Shapes(length=2)
    before = items[0]["image"].clone()
    items[0]["image"].zero_()
    assert torch.equal(items[0]["image"], before)


@pytest.mark.parametrize(("preset", "number"), [("single", 360), ("double", 6336), ("mixed", 6696)])
def test_parse_inverts_caption_on_every_combination(preset, number):
    scenes = combinations(preset)
    captions = [caption(scene) for scene in scenes]
    assert len(set(captions)) == number
    assert all(parse(text) == scene for text, scene in zip(captions, scenes, strict=True))
    assert {word for text in captions for word in text.split()} <= set(VOCABULARY)


def test_parse_reads_what_people_write():
    assert parse("A red circle.") == Scene((Thing("circle", "red"),))
    assert parse("the large square in the middle") == Scene((Thing("square", None, "large"),), "centre")
    scene = parse("a red circle to the left of a blue square, on a gray background")
    assert scene == Scene((Thing("circle", "red"), Thing("square", "blue")), None, "left of", "grey")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a purple circle", "'purple'"),
        ("a red cirle", "did you mean 'circle'"),
        ("circle red", "examples"),
        ("", "examples"),
        ("a red circle left of", "examples"),
    ],
)
def test_parse_refuses_with_a_hint(text, hint):
    with pytest.raises(ValueError, match=hint):
        parse(text)


@pytest.mark.parametrize("count", [1, 2])
def test_about_15_percent_of_combinations_are_held_out_and_every_attribute_is_trained_on(count):
    scenes = scenes_of(count)
    trained = [scene for scene in scenes if not is_held_out(scene)]
    assert 0.12 < 1 - len(trained) / len(scenes) < 0.18
    for k in range(count):
        seen = {(scene.things[k].colour, scene.things[k].shape, scene.things[k].size) for scene in trained}
        assert len(seen) == len(COLOURS) * len(SHAPES) * len(SIZES)
    where = {(scene.place or scene.relation, scene.background) for scene in trained}
    assert len(where) == len(PLACES if count == 1 else RELATIONS) * len(BACKGROUNDS)


def test_scenes_of_one_meaning_are_held_out_together():
    for scene in scenes_of(2):
        same = Scene(scene.things[::-1], None, OPPOSITE[scene.relation], scene.background)
        assert is_held_out(scene) == is_held_out(same)


@pytest.mark.parametrize("preset", PRESETS)
def test_splits_do_not_share_combinations(preset):
    captions = {
        split: {items[i]["caption"] for i in range(len(items))}
        for split in shapes.SPLITS
        for items in [Shapes(preset, split, length=400)]
    }
    assert not captions["heldout"] & (captions["train"] | captions["validation"])
    assert set(heldout_prompts(preset, 200, seed=0)).isdisjoint(captions["train"])


def test_heldout_prompts_are_all_asked_before_any_comes_again():
    n = sum(map(is_held_out, combinations("single")))
    prompts = heldout_prompts("single", 2 * n, seed=3)
    assert len(set(prompts[:n])) == n and prompts[:n] == prompts[n:]
    assert prompts != heldout_prompts("single", 2 * n, seed=4)
    relations = [parse(text).relation is not None for text in heldout_prompts("mixed", 10, seed=0)]
    assert sum(relations) == 5


def test_coverage_integrates_to_the_area():
    """Areas for radius r: pi r^2, (1.8 r)^2, (2 r)(1.9 r) / 2; corners are a little off."""
    radius = np.array([3.0, 4.6, 7.3])
    centre = np.array([[16.2, 15.7]] * 3)
    for shape, factor in {"circle": np.pi, "square": 3.24, "triangle": 1.9}.items():
        area = coverage(shape, centre, radius, 32).sum((1, 2))
        np.testing.assert_allclose(area, factor * radius**2, rtol=0.02)


def test_a_shape_follows_its_centre():
    """Moving an object by whole pixels moves its picture, and nothing else."""
    at = coverage("triangle", np.array([[8.3, 9.1]]), np.array([3.0]), 24)
    moved = coverage("triangle", np.array([[12.3, 11.1]]), np.array([3.0]), 24)
    np.testing.assert_allclose(moved, np.roll(at, (2, 4), axis=(1, 2)), atol=1e-5)


def test_a_drawn_scene_has_its_colours_where_it_says():
    image = draw(parse("a small red circle left of a large blue square on a white background"), 32)
    assert tuple(image[:, 16, 8]) == COLOURS["red"] and tuple(image[:, 16, 24]) == COLOURS["blue"]
    assert tuple(image[:, 0, 0]) == BACKGROUNDS["white"]


def test_an_incomplete_scene_cannot_be_drawn():
    with pytest.raises(ValueError, match="a background"):
        draw(parse("a red circle"), 16)


def test_dropped_words_leave_the_picture_alone():
    full, some = Shapes("mixed", length=200), Shapes("mixed", length=200, dropout=0.5)
    shorter = 0
    for i in range(200):
        assert torch.equal(full[i]["image"], some[i]["image"])
        words, kept = full[i]["caption"].split(), some[i]["caption"].split()
        shorter += len(kept) < len(words)
        assert parse(some[i]["caption"]).things[0].colour == parse(full[i]["caption"]).things[0].colour
    assert 100 < shorter < 200
    bare = Shapes("single", length=20, dropout=1.0)
    assert all(len(bare[i]["caption"].split()) == 3 for i in range(20))


def test_labels_are_the_kinds_of_single_objects():
    single, double = Shapes("single", length=50), Shapes("double", length=5)
    assert all(KINDS[single[i]["label"]] in single[i]["caption"] for i in range(50))
    assert all(double[i]["label"] == -1 for i in range(5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "singel"}, "single, double, mixed"),
        ({"split": "test"}, "train, validation, heldout"),
        ({"size": 8}, "16 to 32"),
        ({"preset": "double", "size": 16}, "24 to 32"),
        ({"length": 0}, "at least one"),
        ({"dropout": 2.0}, "probability"),
    ],
)
def test_wrong_arguments_name_the_right_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**{"length": 2, **arguments})


def test_counter_numbers_are_uniform_and_shared_by_no_two_items():
    numbers = uniforms(0, "a", np.arange(2000), 5)
    assert len(np.unique(numbers)) == numbers.size and numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.02 and abs(numbers.var() - 1 / 12) < 0.005
    assert np.array_equal(uniforms(0, "a", np.array([7]), 5)[0], numbers[7])
    assert not np.intersect1d(numbers, uniforms(0, "b", np.arange(2000), 5)).size
