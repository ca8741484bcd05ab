"""Pictures hold the pixels they were given, and say how they were made."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from modalities.images.render import (
    contact_sheet,
    enlarge,
    save_gif,
    save_png,
    save_pngs,
    to_picture,
    trajectory_strip,
    wrap,
)


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels_and_the_words(tmp_path, channels):
    image = torch.from_numpy(images(channels, 16, 16))
    path = save_png(image, tmp_path / "new" / "a.png", {"prompt": "a café, 日本", "seed": "7"})
    with Image.open(path) as read:
        assert read.text == {"prompt": "a café, 日本", "seed": "7"}
        pixels = np.asarray(read).reshape(16, 16, channels).transpose(2, 0, 1)
    assert np.array_equal(pixels, image)


def test_a_batch_of_pngs_is_numbered(tmp_path):
    batch = images(3, 3, 16, 16)
    paths = save_pngs(batch, tmp_path, ["a", "b", "c"], [4, 5, 6], {"solver": "ddim"})
    assert [path.name for path in paths] == ["00000.png", "00001.png", "00002.png"]
    with Image.open(paths[1]) as read:
        assert read.text == {"prompt": "b", "seed": "5", "solver": "ddim"}
        assert np.array_equal(np.asarray(read).transpose(2, 0, 1), batch[1])
    with pytest.raises(ValueError):
        save_pngs(batch, tmp_path, ["a"], [4], {})


@pytest.mark.parametrize(("size", "factor"), [(16, 6), (24, 4), (32, 3), (40, 3), (96, 1), (256, 1)])
def test_enlarging_repeats_pixels_a_whole_number_of_times(size, factor):
    image = images(3, size, size)
    large = np.asarray(enlarge(to_picture(image))).transpose(2, 0, 1)
    assert np.array_equal(large, image.repeat(factor, axis=1).repeat(factor, axis=2))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_image_over_its_caption(channels):
    batch = images(5, channels, 16, 16)
    sheet = np.asarray(contact_sheet(batch, ["short", "a caption that has to be wrapped", "", "x", "y"], columns=3))
    tiles = {np.asarray(enlarge(to_picture(image))).tobytes(): i for i, image in enumerate(batch)}
    found = []
    for top in range(sheet.shape[0] - 95):
        for left in (8, 112, 216):
            i = tiles.get(sheet[top : top + 96, left : left + 96].tobytes())
            if i is not None:
                found.append((i, left))
                below = sheet[top + 98 : top + 110, left : left + 96]
                assert (below.min() < 128) == (i != 2)
    assert found == [(0, 8), (1, 112), (2, 216), (3, 8), (4, 112)]


def test_wrapped_lines_fit_and_lose_nothing():
    font = ImageFont.load_default(12)
    text = "a small yellow triangle at the bottom on a grey background donaudampfschifffahrtsgesellschaft"
    lines = wrap(text, font, 96)
    assert all(font.getlength(line) <= 96 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrap("", font, 96) == []


def test_a_strip_has_a_row_a_sample_and_a_column_a_step():
    frames = images(4, 2, 3, 24, 24)
    strip = np.asarray(trajectory_strip(frames, [f"t={t}" for t in range(4)]))
    for step in range(4):
        for sample in range(2):
            left, top = 8 + step * 98, strip.shape[0] - 8 - (2 - sample) * 98
            shown = strip[top : top + 96 : 4, left : left + 96 : 4].transpose(2, 0, 1)
            assert np.array_equal(shown, frames[step, sample])
    with pytest.raises(ValueError, match="4 steps and 1 labels"):
        trajectory_strip(frames, ["t"])


def test_a_gif_has_a_frame_a_step_and_rests_on_the_last(tmp_path):
    frames = images(5, 3, 3, 16, 16)
    path = save_gif(frames, tmp_path / "film.gif", milliseconds=100)
    with Image.open(path) as film:
        assert film.n_frames == 5 and film.info["loop"] == 0
        durations = []
        for step in range(5):
            film.seek(step)
            durations.append(film.info["duration"])
        assert film.size == (2 * 98 + 2, 2 * 98 + 2)
    assert durations == [100, 100, 100, 100, 1000]


@pytest.mark.parametrize("wrong", [images(16, 16), images(4, 16, 16), images(3, 8, 8).astype(np.float32)])
def test_what_is_no_picture_is_refused(wrong):
    with pytest.raises(ValueError, match="uint8 of shape"):
        to_picture(wrong)


def test_empty_and_unequal_input_is_refused():
    with pytest.raises(ValueError, match="got 2 and 1"):
        contact_sheet(images(2, 3, 16, 16), ["one"])
    with pytest.raises(ValueError, match="trajectory has shape"):
        save_gif(images(2, 3, 16, 16), "nowhere.gif")
