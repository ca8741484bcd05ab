"""The conformance kit on the toy experiment, and what only clouds promise."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from diffract_pointclouds.clouds import Clouds, normalised
from diffract_pointclouds.data import FileData, ShapesData
from diffract_pointclouds.files import read_points, write_ply
from diffract_pointclouds.metrics import chamfer, cloud_metrics, earth_mover
from diffract_pointclouds.modality import PointClouds, permuted
from diffract_pointclouds.render import sheet
from diffract_pointclouds.shapes import NAMES, SHAPES, cylinder, make
from matplotlib.image import imread

from experiments.suite import ExperimentSuite
from framework.conditions import ClassCondition
from framework.editing.known import Known
from framework.editing.requests import Inpaint
from framework.errors import DataError, PromptError, UserError


class TestToy(ExperimentSuite):
    experiment = "pointclouds/toy"
    overrides = ("data.train_length=192", "data.validation_length=256", "backbone.width=32", "backbone.layers=2")


def modality() -> PointClouds:
    return PointClouds(ClassCondition(NAMES), least=20, most=30)


def clouds(count: int, points: int = 20, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((count, points, 3)))


def uniform(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3))


def test_points_lie_on_their_surfaces():
    p, u = np.array([0.3, 0.8]), uniform(500)
    x, y, z = SHAPES["torus"](p, u).T
    np.testing.assert_allclose((np.hypot(x, y) - 1) ** 2 + z**2, (0.2 + 0.25 * 0.3) ** 2, atol=1e-9)
    x, y, z = SHAPES["sphere"](p, u).T
    np.testing.assert_allclose(x**2 + y**2 + (z / (0.6 + 0.9 * 0.3)) ** 2, 1, atol=1e-9)
    x, y, z = SHAPES["cone"](p, u).T
    radius, height = 0.5 + 0.4 * 0.3, 1.2 + 0.8 * 0.8
    np.testing.assert_allclose(np.minimum(np.abs(z), np.abs(np.hypot(x, y) - radius * (1 - z / height))), 0, atol=1e-9)
    edges = np.array([1.0, 0.5 + 0.5 * 0.3, 0.5 + 0.8])
    place = SHAPES["box"](p, u) / edges
    np.testing.assert_allclose(np.minimum(place, 1 - place).min(1), 0, atol=1e-9)
    assert place.min() > -1e-9 and place.max() < 1 + 1e-9
    assert SHAPES["table"](p, u)[:, 2].max() < 0.8 + 0.8 * 0.3 + 0.03


def test_points_lie_evenly():
    """The share of a cylinder's points on its wall is that of its area, and as many lie in its upper half as below."""
    p, n = np.array([0.5, 0.5]), 20_000
    radius, height = 0.5, 1.7
    points = cylinder(p, uniform(n))
    wall = np.abs(np.hypot(points[:, 0], points[:, 1]) - radius) < 1e-9
    share = height / (height + radius)
    assert abs(wall.mean() - share) < 4 * np.sqrt(share * (1 - share) / n)
    assert abs((points[:, 2] < height / 2).mean() - 0.5) < 0.02
    angle = np.arctan2(*SHAPES["torus"](p, uniform(n))[:, :2].T)
    assert abs((angle > 0).mean() - 0.5) < 0.02


def test_made_clouds_are_functions_of_their_numbers_and_of_one_size():
    made, labels = make(np.arange(12), 4, "x", 20, 30)
    [again], [label] = make(np.array([7]), 4, "x", 20, 30)
    np.testing.assert_array_equal(again, made[7])
    assert label == labels[7] and set(labels.tolist()) == set(range(len(NAMES)))
    assert all(20 <= len(cloud) <= 30 for cloud in made)
    for cloud in made:
        np.testing.assert_allclose([*cloud.mean(0), (cloud**2).mean()], [0, 0, 0, 1], atol=1e-9)


HEADER = "ply\nformat {} 1.0\ncomment made by hand\nelement camera 1\nproperty int id\nelement vertex 2\n"
REST = "property uchar red\nproperty double x\nproperty double z\nproperty double y\nelement face 1\n"
REST += "property list uchar int vertex_indices\nend_header\n"
BODIES = {
    "ascii": b"7\n255 1 3 2\n0 4.5 6 -5\n3 0 1 0\n",
    "binary_big_endian": struct.pack(">iBdddBdddBiii", 7, 255, 1, 3, 2, 0, 4.5, 6, -5, 3, 0, 1, 0),
    "binary_little_endian": struct.pack("<iBdddBdddBiii", 7, 255, 1, 3, 2, 0, 4.5, 6, -5, 3, 0, 1, 0),
}


@pytest.mark.parametrize("kind", BODIES)
def test_ply_files_of_others_are_read(tmp_path, kind):
    (tmp_path / "x.ply").write_bytes((HEADER + REST).format(kind).encode() + BODIES[kind])
    np.testing.assert_array_equal(read_points(tmp_path / "x.ply"), [[1, 2, 3], [4.5, -5, 6]])


def test_our_ply_files_come_back_with_their_comments(tmp_path):
    points = clouds(1)[0].astype(np.float32)
    file = write_ply(tmp_path / "x.ply", points, {"prompt": "two\nlines é"})
    np.testing.assert_array_equal(read_points(file), points)
    assert b"comment prompt: two lines ?\n" in file.read_bytes()
    (tmp_path / "x.xyz").write_text("\n".join(f"{x} {y} {z} 0.5" for x, y, z in points))
    np.testing.assert_allclose(read_points(tmp_path / "x.xyz"), points, rtol=1e-6)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"solid cube",
        (HEADER + REST).format("ascii").encode() + b"7\n255 1 3 2\n",
        b"ply\nformat x 1.0\nend_header\n",
    ],
)
def test_a_broken_ply_file_says_so(tmp_path, content):
    (tmp_path / "x.ply").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.ply"):
        modality().read(tmp_path / "x.ply")


def test_distances_by_hand():
    a = Clouds.of([np.array([[0.0, 0, 0], [2, 0, 0]])])
    b = Clouds.of([np.array([[0.0, 0, 0], [0, 1, 0]]), np.array([[0.0, 0, 0], [2, 0, 0]])], size=5)
    np.testing.assert_allclose(chamfer(a, b), [[(0 + 4) / 2 + (0 + 1) / 2, 0]])
    np.testing.assert_allclose(chamfer(b, a), chamfer(a, b).T)
    np.testing.assert_allclose(earth_mover(a, b), [[min(0 + np.sqrt(5), 1 + 2) / 2, 0]], rtol=1e-6)


def test_distances_know_no_order_and_see_a_shift():
    a, b = Clouds.of(clouds(2)), Clouds.of([cloud[::-1].copy() for cloud in clouds(2)], size=29)
    moved = Clouds(a.points + torch.tensor([0.0, 0.3, 0.0]), a.mask)
    np.testing.assert_allclose(np.diag(chamfer(a, b)), 0, atol=1e-6)
    np.testing.assert_allclose(np.diag(earth_mover(a, b)), 0, atol=1e-6)
    assert np.diag(earth_mover(a, moved)) == pytest.approx([0.3, 0.3], abs=0.02)


def test_sets_are_judged_as_their_definitions_have_it():
    """The real clouds as samples cover all; one cloud again and again covers one, and is told apart."""
    made, labels = make(np.arange(48), 0, "x", 60, 60)
    real, other = Clouds.of(made[:24]), Clouds.of(made[24:])
    same = cloud_metrics(real, real, labels[:24], labels[:24], 8, 0)
    assert same["cov/cd"].value == 1 and same["mmd/cd"].value == pytest.approx(0, abs=1e-9)
    assert same["1nna/cd"].value == 0 and same["class_accuracy"].value == 1 and same["cov/emd"].value == 1
    fresh = cloud_metrics(other, real, labels[24:], labels[:24], 8, 0)
    stuck = cloud_metrics(Clouds.join([other[:1]] * 24), real, labels[24:], labels[:24], 0, 0)
    assert stuck["cov/cd"].value == 1 / 24 and stuck["mmd/cd"].value > 2 * fresh["mmd/cd"].value
    noise = cloud_metrics(Clouds.of(clouds(24, 60)), real, labels[24:], labels[:24], 8, 0)
    assert noise["1nna/cd"].value > 0.9 > fresh["1nna/cd"].value and noise["mmd/emd"].value > fresh["mmd/emd"].value


def test_prompts_say_how_many_points():
    clouds_ = modality()
    drawn = clouds_.complete(["cone", "cone points=50", None, 3], 0, (0, 1, 2, 3))
    assert [row.prompt for row in drawn] == ["cone", "cone", None, 3] and drawn[1].points == 50
    assert all(20 <= row.points <= 30 for i, row in enumerate(drawn) if i != 1)
    assert drawn[2:] == clouds_.complete([None, 3], 0, (2, 3))
    condition = clouds_.parse(drawn)
    assert condition["mask"].sum(1).tolist() == [row.points for row in drawn] and condition["mask"].shape[1] == 50
    assert condition["label"].tolist() == [3, 3, 6, 3]
    for wrong in ("cone points=1", "cone points=99999", "pyramid points=20"):
        with pytest.raises(PromptError):
            clouds_.parse([wrong])


def test_a_part_of_a_file_is_kept(tmp_path):
    file = write_ply(tmp_path / "x.ply", 3 + 2 * clouds(1)[0], {})
    state, condition = modality().encode(modality().read(file))
    task = next(task for task in Inpaint(str(file), redo="z=0.5-1").tasks(modality()) if isinstance(task, Known))
    z = state[0, :, 2]
    np.testing.assert_array_equal(task.mask[0, :, 0].numpy(), (z < (z.min() + z.max()) / 2).numpy())
    torch.testing.assert_close(state[0].double(), torch.tensor(normalised(clouds(1)[0])), atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="regions are"):
        modality().region("upper", state, condition)


def test_a_permutation_moves_points_and_nothing_else():
    cloud = Clouds.of(clouds(2) + clouds(1, 12))
    state, condition = modality().encode({"points": cloud.points, "mask": cloud.mask, "label": torch.zeros(3).long()})
    moved = permuted(state, condition, 0)
    assert not torch.equal(moved, state) and torch.equal(moved[2, 12:], state[2, 12:])
    assert torch.equal(moved.sort(1).values, state.sort(1).values)


def test_folders_of_files_become_classes_and_bad_files_are_named(tmp_path):
    for i, cloud in enumerate(clouds(12, 40)):
        (tmp_path / f"kind{i % 2}").mkdir(exist_ok=True)
        write_ply(tmp_path / f"kind{i % 2}" / f"{i}.ply", cloud, {})
    (tmp_path / "kind0" / "bad.ply").write_text("no")
    write_ply(tmp_path / "kind1" / "few.ply", clouds(1, 9)[0], {})
    data = FileData(str(tmp_path), least=10, most=32, held_out_share=0.4, max_bad_share=0.5)
    data.setup()
    assert data.class_names == ("kind0", "kind1") and {item.name for item in data.bad_items} == {
        "kind0/bad.ply",
        "kind1/few.ply",
    }
    assert len(data.train_set) + len(data.validation_set) == 12
    assert data.train_set[0]["mask"].sum() == 32


def test_single_clouds_are_scored():
    data = ShapesData(train_length=12, validation_length=60, least=20, most=30)
    data.setup()
    real, asked = modality().real(data, 10, 1)
    scores = modality().scores(real, asked, data, 0)
    assert scores["nearest"].values == pytest.approx(0, abs=1e-6) and scores["class"].values.all()
    wrong = modality().scores(real, [(k + 1) % 6 for k in asked], data, 0)
    assert not wrong["class"].values.any()
    shuffled = Clouds.of([cloud[::-1].copy() for cloud in real.arrays()])
    np.testing.assert_array_equal(modality().features(real, data), modality().features(shuffled, data))
    assert all("<circle" in drawn for drawn in modality().show(real, asked))


def test_the_sheet_shows_each_cloud(tmp_path):
    """There is ink in every one of four tiles, and more for more points."""
    inks = []
    for points in (20, 200):
        picture = sheet(clouds(4, points), ["a", "b", "c", "d"], tmp_path / "sheet.png")
        dark = imread(picture)[..., :3].min(2) < 0.9
        inks.append([tile.mean() for tile in np.array_split(dark, 4, axis=1)])
    assert min(inks[0]) > 0.005 and min(inks[1]) > 2 * max(inks[0])
