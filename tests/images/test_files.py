"""Files, regions and measurements of a person's own, as people have them: any size, orientation, transparency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framework.conditions import Unconditional
from framework.errors import DataError, UserError
from modalities.images.files import read_image, read_mask, read_metadata
from modalities.images.modality import Images
from modalities.images.operators import operator, seen_in
from modalities.images.regions import latents_within, pixels_in
from modalities.images.render import save_png
from modalities.images.sheets import sheet_of, table


def test_a_picture_of_the_models_own_size_is_read_as_it_is(tmp_path: Path) -> None:
    for channels in (1, 3):
        image = torch.randint(0, 256, (channels, 16, 16), dtype=torch.uint8)
        path = save_png(image, tmp_path / "a.png", {"prompt": "a café", "seed": "3"})
        assert torch.equal(read_image(path, 16, channels), image)
        assert read_metadata(path) == {"prompt": "a café", "seed": "3"}


def test_a_photograph_is_turned_upright_cropped_and_flattened_on_white(tmp_path: Path) -> None:
    """A wide JPEG on its side: the camera says that the top is at the right."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "photo.jpg", 8, 3)
    assert int(upright[0, :3].min()) > 200 > 50 > int(upright[0, 5:].max()), "what was left is up"
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[2:4, 2:4] = (0, 0, 255, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    flat = read_image(tmp_path / "clear.png", 8, 3)
    assert flat[:, 0, 0].tolist() == [255, 255, 255] and flat[:, 2, 2].tolist() == [0, 0, 255]
    assert read_image(tmp_path / "photo.jpg", 8, 1).shape == (1, 8, 8)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    whole = save_png(torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8), tmp_path / "b.png", {})
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:900])
    for name, words in (("words.png", "not an image"), ("cut.png", "broken"), ("absent.png", "No such file")):
        with pytest.raises(DataError, match=rf"{name}.*{words}"):
            read_image(tmp_path / name, 8, 3)
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path, 8, 3)
    assert read_metadata(tmp_path / "words.png") is None


def test_regions_are_spans_boxes_and_masks(tmp_path: Path) -> None:
    half = pixels_in("x=0-0.5", 8)
    assert half[:, :4].all() and not half[:, 4:].any()
    corner = pixels_in("x=0-0.5 y=0.75-1", 8)
    assert torch.equal(corner, pixels_in("box=0,0.75,0.5,1", 8)) and int(corner.sum()) == 8
    save_png(half.to(torch.uint8)[None] * 255, tmp_path / "left half.png", {})
    assert torch.equal(pixels_in(f"mask={tmp_path / 'left half.png'}", 8), half)
    assert torch.equal(pixels_in(f"y=0.75-1 mask={tmp_path / 'left half.png'}", 8), corner)
    assert torch.equal(read_mask(tmp_path / "left half.png", 16), pixels_in("x=0-0.5", 16))
    assert pixels_in("", 8).all()


def test_a_latent_is_known_when_all_of_its_pixels_are() -> None:
    pixels = torch.ones(8, 8, dtype=torch.bool)
    pixels[2, 5] = False
    known = latents_within(pixels, 4, 4)
    assert int((~known).sum()) == 1 and not known[1, 2]


def test_measurements_are_means_over_blocks(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    path = save_png(image, tmp_path / "a.png", {})
    state = image[None].float() / 127.5 - 1
    for words in ("pool=4", "grey", "pool=2 grey"):
        how = operator(words, 8, 3)
        seen = seen_in(path, how, 8, 3)
        assert seen.shape == how.apply(state).shape
        torch.testing.assert_close(seen, how.apply(state), rtol=0, atol=1.01 / 127.5)  # pixels are whole numbers
    with pytest.raises(UserError, match="no colour can be restored"):
        operator("grey", 8, 1)
    with pytest.raises(UserError, match="name what the input shows"):
        operator("", 8, 3)


def test_the_modality_reads_what_it_writes(tmp_path: Path) -> None:
    modality = Images(Unconditional(), 8, 3)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    files = modality.render(images, [None, None], tmp_path, [{"seed": "1"}, {"seed": "2"}])
    state, condition = modality.encode(modality.read(files[1]))
    assert torch.equal(modality.decode(state, condition)[0], images[1]) and modality.told(files[1]) == {"seed": "2"}
    kept = modality.pasted(torch.zeros_like(images), modality.read(files[0]), None, "x=0-0.5")
    assert torch.equal(kept[1, :, :, 4:], images[0, :, :, 4:]) and not kept[..., :4].any()


def test_seeds_and_frames_make_tables() -> None:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    rows = [{"seed": str(seed), "index": "0"} for _ in range(2) for seed in (4, 5, 6)]
    texts = [prompt for prompt in ("a red circle", "a blue square") for _ in range(3)]
    made = np.asarray(sheet_of(images, texts, rows))
    assert np.array_equal(
        made, np.asarray(table(images, ["a red circle", "a blue square"], ["seed 4", "seed 5", "seed 6"]))
    )
    strip = [{"seed": "0", "index": str(i), "task": "Interpolate", "task.frames": "3"} for i in range(6)]
    assert np.array_equal(
        np.asarray(sheet_of(images, texts, strip)), np.asarray(table(images, texts[::3], ["0%", "50%", "100%"]))
    )
    plain = [{"seed": "0", "index": str(i)} for i in range(6)]
    assert np.asarray(sheet_of(images, texts, plain)).shape != made.shape
    with pytest.raises(ValueError, match="2 rows of 2 have 4"):
        table(images, ["a", "b"], ["c", "d"])
