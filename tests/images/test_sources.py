"""Images from files: what is read is what was stored, what is broken is named, what is held out stays so."""

import csv
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from framework.data.bad_items import DataError
from modalities.images.data import Cifar10Data, DigitsData, ImageData, ImageFolderData, ShapesData
from modalities.images.decode import decode
from modalities.images.digits import DIGIT_NAMES, Digits
from modalities.images.image_set import ImageSet, Part, WithMirrored
from modalities.images.scenes import is_held_out
from modalities.images.shapes import Shapes, parse
from modalities.images.sources import CIFAR10_CLASSES, class_caption, list_hub, list_path


def encoded(pixels, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def random_pixels(n, height=32, width=32):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def write_parquet(path, cells, labels, image="img", label="label"):
    pq.write_table(pa.table({image: cells, label: pa.array(labels, pa.int64())}), path)
    return path


def write_cifar(path, n=60, **columns):
    pixels = random_pixels(n)
    cells = [{"bytes": encoded(picture), "path": f"{i}.png"} for i, picture in enumerate(pixels)]
    return write_parquet(path, cells, [i % 10 for i in range(n)], **columns), pixels


def write_folder(folder, names, size=16):
    for name, pixels in zip(names, random_pixels(len(names), size, size), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


# Decoding


@pytest.mark.parametrize(("mode", "expected"), [("L", (90, 90, 90)), ("RGBA", (255, 255, 255)), ("I;16", (90,) * 3)])
def test_all_modes_become_rgb(mode, expected):
    """Grey is grey, what is transparent is white, 16 bits are scaled to 8."""
    pixels = {
        "L": np.full((8, 8), 90, np.uint8),
        "RGBA": np.zeros((8, 8, 4), np.uint8),
        "I;16": np.full((8, 8), 90 * 256, np.uint16),
    }[mode]
    picture = decode(encoded(pixels), 8)
    assert picture.shape == (3, 8, 8) and tuple(picture[:, 4, 4]) == expected


def test_the_centre_square_is_kept():
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 200
    assert (decode(encoded(pixels), 16) == 200).all()
    halved = decode(encoded(pixels), 8)
    # The filter reaches over the crop's edge and rings a little, as an anti-aliasing filter does.
    assert halved.shape == (3, 8, 8) and (abs(halved.astype(int) - 200) < 12).all()


def test_a_picture_of_the_right_size_is_not_touched():
    pixels = random_pixels(1)[0]
    assert np.array_equal(decode(encoded(pixels), 32), pixels.transpose(2, 0, 1))


def test_a_photo_is_turned_upright():
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    upright = decode(buffer.getvalue(), 16)
    assert (upright[:, 8:] == 255).all() and (upright[:, :8] == 0).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_file_cut_anywhere_never_gives_a_picture_in_silence(form):
    """Every proper prefix either raises DataError, or lost nothing but trailing bytes that hold no pixels."""
    whole = encoded(random_pixels(1)[0], form)
    picture = decode(whole, 32)
    for length in [0, 1, 10, *range(20, len(whole) - 8, max(1, len(whole) // 60))]:
        try:
            assert np.array_equal(decode(whole[:length], 32), picture)
        except DataError as error:
            assert str(error)


# Bad items


BROKEN = {
    "cut": encoded(random_pixels(1)[0], "JPEG")[:400],
    "empty": b"",
    "text": b"<html>404 not found</html>",
}


def test_bad_items_are_skipped_counted_and_named(tmp_path):
    folder = tmp_path / "images"
    write_folder(folder, [f"{i:02d}.png" for i in range(40)])
    for name, content in BROKEN.items():
        (folder / f"{name}.jpg").write_bytes(content)
    data = ImageFolderData(str(folder), size=16, max_bad_share=0.1, skipped_path=str(tmp_path / "run/skipped.csv"))
    data.setup("fit")
    assert len(data.images) == 40
    with (tmp_path / "run/skipped.csv").open() as file:
        rows = {row["name"]: row["reason"] for row in csv.DictReader(file)}
    assert set(rows) == {"cut.jpg", "empty.jpg", "text.jpg"} == {item.name for item in data.bad_items}
    assert "Truncated" in rows["cut.jpg"] and "0 bytes" in rows["empty.jpg"] and "not an image" in rows["text.jpg"]


def test_too_many_bad_items_are_an_error_that_names_them(tmp_path):
    folder = tmp_path / "images"
    write_folder(folder, [f"{i:02d}.png" for i in range(40)])
    for name, content in BROKEN.items():
        (folder / f"{name}.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"3 of 43 .*max_bad_share=0\.05 .*'cut\.jpg'.*'empty\.jpg'"):
        ImageFolderData(str(folder), size=16, skipped_path=str(tmp_path / "skipped.csv")).setup()
    assert (tmp_path / "skipped.csv").read_text().count("\n") == 4


def test_a_set_of_bad_items_only_is_an_error_whatever_share_is_allowed(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 1"):
        ImageSet(list_path(tmp_path), 16, max_bad_share=1.0)


def test_a_bad_row_of_a_table_is_named(tmp_path):
    cells = [{"bytes": encoded(picture), "path": None} for picture in random_pixels(8)]
    cells[3], cells[5] = None, {"bytes": BROKEN["cut"], "path": "horse.jpg"}
    images = ImageSet(list_path(write_parquet(tmp_path / "t.parquet", cells, [0] * 7 + [None])), 32, 0.5)
    assert {item.name for item in images.bad} == {"row 3", "row 5 (horse.jpg)", "row 7"} and len(images) == 5


# Parquet and the hub


@pytest.mark.parametrize("columns", [{}, {"image": "image"}, {"image": "image", "label": "fine_label"}])
def test_a_parquet_file_is_read_back(tmp_path, columns):
    path, pixels = write_cifar(tmp_path / "train.parquet", **columns)
    images = ImageSet(list_path(path), 32)
    assert len(images) == 60 and images.class_names == tuple(CIFAR10_CLASSES)
    for i in range(60):
        assert np.array_equal(images[i]["image"], pixels[i].transpose(2, 0, 1)) and images[i]["label"] == i % 10
    assert images[0]["caption"] == "a photo of an airplane" and images[3]["caption"] == "a photo of a cat"


def test_class_names_come_from_the_table_itself(tmp_path):
    features = {"label": {"names": ["cup", "old_owl"], "_type": "ClassLabel"}}
    cells = [{"bytes": encoded(picture), "path": None} for picture in random_pixels(2)]
    table = pa.table({"img": cells, "label": [0, 1]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    listing = list_path(tmp_path / "x.parquet")
    assert listing.class_names == ("cup", "old_owl") and listing.items[1].caption == "a photo of an old owl"


def test_a_folder_of_parquet_files_gives_its_training_files(tmp_path):
    (tmp_path / "plain_text").mkdir()
    write_cifar(tmp_path / "plain_text/train-00000-of-00002.parquet", 20)
    write_cifar(tmp_path / "plain_text/train-00001-of-00002.parquet", 20)
    write_cifar(tmp_path / "plain_text/test-00000-of-00001.parquet", 20)
    assert len(list_path(tmp_path).items) == 40


def test_wrong_paths_and_tables_say_what_would_be_right(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list_path(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no images"):
        list_path(tmp_path)
    (tmp_path / "notes.parquet").write_text("hello")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list_path(tmp_path / "notes.parquet")
    pq.write_table(pa.table({"pixels": [1], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no column img or image; its columns are pixels, label"):
        list_path(tmp_path / "x.parquet")


def test_offline_the_error_says_which_file_to_put_where(monkeypatch):
    def refuse(name, split):
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=refuse))
    with pytest.raises(DataError, match=r"no route to host.*train Parquet file .*some/set.*data\.path="):
        Cifar10Data(name="some/set").setup()


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"diffract\[hf\]"):
        list_hub("some/set")


def test_a_hub_data_set_is_listed_undecoded(monkeypatch):
    datasets = pytest.importorskip("datasets")
    pixels = random_pixels(4)
    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    rows = {"img": [{"bytes": encoded(p), "path": None} for p in pixels], "label": [0, 1, 0, 1]}
    table = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: table)
    images = ImageSet(list_hub("some/set"), 32)
    assert images.class_names == ("cat", "dog") and images[3]["caption"] == "a photo of a dog"
    assert np.array_equal(images[2]["image"], pixels[2].transpose(2, 0, 1))


# Folders


def test_subfolders_are_classes(tmp_path):
    write_folder(tmp_path, ["owl/1.png", "owl/2.PNG", "cup/1.jpg", "cup/.hidden.png"])
    (tmp_path / "owl/notes.md").write_text("not an image, and nobody said so")
    listing = list_path(tmp_path)
    assert listing.class_names == ("cup", "owl") and listing.bad == ()
    found = {item.name: (item.label, item.caption) for item in listing.items}
    owl = (1, "a photo of an owl")
    assert found == {"cup/1.jpg": (0, "a photo of a cup"), "owl/1.png": owl, "owl/2.PNG": owl}


def test_captions_beside_the_images(tmp_path):
    write_folder(tmp_path, ["a.png", "b.png"])
    (tmp_path / "a.txt").write_text("an old boat\n")
    items = list_path(tmp_path).items
    assert [(item.caption, item.label) for item in items] == [("an old boat", -1), ("", -1)]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_captions_in_a_table(tmp_path, form):
    write_folder(tmp_path, ["a.png", "sub/b.png"])
    rows = {"a.png": "a boat, red", "sub/b.png": "two boats", "gone.png": "no boat"}
    if form == "csv":
        lines = ["file_name,text"] + [f'{name},"{text}"' for name, text in rows.items()]
    else:
        lines = [json.dumps({"file_name": name, "text": text}) for name, text in rows.items()]
    (tmp_path / f"metadata.{form}").write_text("\n".join(lines))
    listing = list_path(tmp_path)
    assert [item.caption for item in listing.items] == ["a boat, red", "two boats"]
    assert [item.name for item in listing.bad] == ["gone.png"]


def test_a_broken_table_of_captions_is_refused(tmp_path):
    write_folder(tmp_path, ["a.png"])
    (tmp_path / "metadata.csv").write_text("file,caption\na.png,x\n")
    with pytest.raises(DataError, match="entry 1 lacks 'file_name' or 'text'"):
        list_path(tmp_path)


@pytest.mark.parametrize(("name", "caption"), [("owl", "an owl"), ("hot_dog", "a hot dog"), ("Ibis", "an Ibis")])
def test_captions_of_classes(name, caption):
    assert class_caption(name) == f"a photo of {caption}"


# Sets


def test_what_does_not_fit_into_memory_is_decoded_at_access(tmp_path):
    write_folder(tmp_path, [f"{i}.png" for i in range(6)])
    (tmp_path / "3.png").write_bytes(b"")
    kept, lazy = (ImageSet(list_path(tmp_path), 16, 0.5, cache_bytes=size) for size in (2**30, 0))
    assert len(kept) == len(lazy) == 5
    for i in range(5):
        assert torch.equal(kept[i]["image"], lazy[i]["image"]) and kept.items[i] == lazy.items[i]


def test_more_data_do_not_move_an_item_across_the_split(tmp_path):
    write_folder(tmp_path, [f"{i:03d}.png" for i in range(100)], size=4)
    few = ImageSet(list_path(tmp_path), 4).split(0.2)
    write_folder(tmp_path, [f"x{i:03d}.png" for i in range(100)], size=4)
    more = ImageSet(list_path(tmp_path), 4).split(0.2)

    def names(part):
        return {part.whole.items[i].name for i in part.indices}

    for before, after in zip(few, more, strict=True):
        assert names(before) < names(after)
    assert not names(more[0]) & names(more[1]) and 0.1 < len(more[1]) / 200 < 0.3


def test_a_split_without_items_is_refused(tmp_path):
    write_folder(tmp_path, ["a.png", "b.png"])
    with pytest.raises(DataError, match="held_out_share"):
        ImageSet(list_path(tmp_path), 16).split(0.0)


def test_mirror_images_are_items_of_their_own():
    plain = Shapes(length=5)
    both = WithMirrored(plain)
    assert len(both) == 10
    for i in range(5):
        assert torch.equal(both[i]["image"], plain[i]["image"])
        assert torch.equal(both[5 + i]["image"], plain[i]["image"].flip(-1))
    with pytest.raises(IndexError):
        both[10]


def test_digits_are_split_by_label_and_seed():
    train, held_out = Digits("train"), Digits("heldout")
    assert len(train) == 1437 and len(held_out) == 360
    assert np.bincount(held_out.labels).min() >= 34 and np.bincount(held_out.labels).max() <= 38
    pictures = [{image.numpy().tobytes() for image in part.images} for part in (train, held_out)]
    assert not pictures[0] & pictures[1]
    item = train[0]
    assert item["image"].shape == (1, 16, 16) and item["image"].dtype == torch.uint8
    assert item["image"].max() > 200 and item["caption"] == f"the digit {DIGIT_NAMES[item['label']]}"
    assert not np.array_equal(Digits("heldout", seed=1).labels, held_out.labels)
    with pytest.raises(ValueError, match="train, heldout"):
        Digits("test")


# Data modules


def modules(tmp_path):
    path, _ = write_cifar(tmp_path / "train.parquet")
    write_folder(tmp_path / "folder", [f"{i}.png" for i in range(40)])
    for i in range(40):
        (tmp_path / "folder" / f"{i}.txt").write_text(f"picture {i}")
    return [
        ShapesData(train_length=50, validation_length=20, batch_size=8),
        ShapesData("double", train_length=50, validation_length=20, batch_size=8),
        DigitsData(batch_size=8),
        Cifar10Data(str(path), batch_size=8, held_out_share=0.3),
        ImageFolderData(str(tmp_path / "folder"), size=16, batch_size=8, held_out_share=0.3),
        ImageData(Shapes(length=20), lambda: Shapes(length=10), size=16, batch_size=8),
    ]


def test_every_module_gives_batches_prompts_and_real_images(tmp_path):
    for data in modules(tmp_path):
        data.setup("fit")
        for loader in (data.train_dataloader(), data.val_dataloader()):
            batch = next(iter(loader))
            n = len(batch["caption"])
            assert batch["image"].shape == (n, data.channels, data.size, data.size) and 0 < n <= 8
            assert batch["image"].dtype == torch.uint8
            assert batch["label"].shape == (n,) and batch["label"].dtype == torch.int64
        images, labels, captions = data.reference(10, seed=1)
        assert len(images) == len(labels) == len(captions) <= 10
        assert images.shape[1:] == (data.channels, data.size, data.size)
        assert torch.equal(images, data.reference(10, seed=1).images)
        assert not torch.equal(images, data.reference(10, seed=2).images)
        assert len(data.prompts(25, seed=0)) == 25 and data.prompts(25, seed=0) == data.prompts(25, seed=0)


def test_making_a_module_reads_nothing_and_setup_reads_once(tmp_path):
    data = ImageFolderData(str(tmp_path / "later"), size=16)
    write_folder(tmp_path / "later", [f"{i}.png" for i in range(40)])
    data.setup("fit")
    train = data.train_set
    data.setup("validate")
    assert data.train_set is train


def test_reference_images_were_not_trained_on(tmp_path):
    for data in modules(tmp_path)[:5]:
        data.setup()
        trained = {data.train_set[i]["image"].numpy().tobytes() for i in range(len(data.train_set))}
        assert not trained & {image.numpy().tobytes() for image in data.reference(10, 0).images}


def test_shapes_are_judged_on_held_out_combinations():
    data = ShapesData(train_length=10, validation_length=10)
    assert all(is_held_out(parse(text)) for text in data.prompts(40, 0) + data.reference(40, 0).captions)


def test_class_prompts_are_balanced():
    counts = np.bincount(DigitsData().prompts(25, seed=3), minlength=10)
    assert counts.min() == 2 and counts.max() == 3


def test_cifar_is_mirrored_in_training_only(tmp_path):
    path, _ = write_cifar(tmp_path / "train.parquet")
    plain, mirrored = (Cifar10Data(str(path), mirror=mirror, held_out_share=0.3) for mirror in (False, True))
    plain.setup(), mirrored.setup()
    assert len(mirrored.train_set) == 2 * len(plain.train_set)
    assert isinstance(mirrored.validation_set, Part) and len(mirrored.validation_set) == len(plain.validation_set)
