"""Sound files hold the clips they were given; pictures show them where they sound; the page needs nothing else."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("soundfile")
pytest.importorskip("torchaudio")

import soundfile

from modalities.audio.page import html_page, write_page
from modalities.audio.render import (
    FLOOR_DB,
    colours,
    contact_sheet,
    decibels,
    encode_clip,
    envelope,
    pcm16,
    save_clips,
    scale_top,
    spectrogram_figure,
    trajectory_sheet,
)
from modalities.audio.spectrogram_picture import hertz_to_mel, log_mel, mel_to_hertz, spectrogram_pixels
from modalities.audio.waveforms import Waveforms

RATE = 8000


def tone(hertz, seconds=0.5, amplitude=0.5, rate=RATE):
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.fixture(scope="module")
def three():
    return Waveforms.of([tone(440), tone(1000, 0.25), torch.zeros(100)], RATE)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_file_holds_the_clip_to_16_bits_at_its_rate_and_says_how_it_was_made(tmp_path, three, format):
    rows = [{"seed": str(i), "solver": "ddim"} for i in range(3)]
    files = save_clips(three, tmp_path / "new", ["zero", "a café, 日本", ""], rows, format)
    assert [file.name for file in files] == [f"0000{i}.{format}" for i in range(3)]
    for i, path in enumerate(files):
        with soundfile.SoundFile(path) as file:
            assert (file.samplerate, file.channels, file.subtype) == (RATE, 1, "PCM_16")
            assert file.title == ["zero", "a café, 日本", ""][i]
            assert json.loads(file.comment) == rows[i]
            read = file.read()
        assert len(read) == three.lengths[i], "padding is no sound"
        assert np.abs(read - three.clip(i).double().numpy()).max() <= 0.5 / 32768


def test_what_came_from_16_bits_returns_to_the_same_numbers():
    numbers = np.arange(-32768, 32768, 7, dtype=np.int16)
    samples, gain = pcm16(torch.from_numpy(numbers / 32768).float())
    assert gain == 1 and np.array_equal(samples, numbers)


def test_a_loud_clip_is_scaled_as_a_whole_and_says_so():
    loud = tone(440, amplitude=2.0)
    content = encode_clip(loud, RATE, "", {"seed": "1"})
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert json.loads(file.comment) == {"seed": "1", "scaled": "-6.02 dB"}
        read = file.read()
    assert np.allclose(read, loud.numpy() / 2, atol=1.5 / 32768), "no sample was cut off"
    with pytest.raises(ValueError, match="1 of 2 samples"):
        encode_clip(torch.tensor([0.0, float("nan")]), RATE, "", {})


@pytest.mark.parametrize("hertz", [300, 1000, 3000])
def test_a_tone_shows_at_its_frequency_and_level_and_only_while_it_sounds(hertz):
    levels = decibels(tone(hertz, 0.25, 0.1), RATE, 100, 400, seconds=0.5)
    row = int(levels[:, 25].argmax())
    shown = mel_to_hertz(hertz_to_mel(RATE / 2) * (1 - row / 399))
    assert shown == pytest.approx(hertz, abs=RATE / 256), "within a bin"
    assert levels[row, 25] == pytest.approx(-20, abs=1.5)
    assert (levels[:, 51:] == FLOOR_DB).all()


def test_the_picture_of_a_tone_has_the_level_of_a_full_scale_sine_at_its_band():
    picture = log_mel(Waveforms.of([tone(1000, amplitude=0.1)], RATE), bands=40, frames=20, normalise=False)[0]
    assert picture[:, 10].max() == pytest.approx(-20, abs=2.5)
    centre = mel_to_hertz(hertz_to_mel(RATE / 2) * (int(picture[:, 10].argmax()) + 1) / 41)
    assert centre == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_pictures_have_the_asked_shape_at_every_rate(rate):
    pixels = spectrogram_pixels(Waveforms.of([tone(500, 2.0, rate=rate), tone(500, 0.01, rate=rate)], rate), 32, 24)
    assert pixels.shape == (2, 1, 32, 24) and pixels.dtype == torch.uint8
    assert pixels[0].max() > 200


def test_pictures_do_not_depend_on_padding_batch_or_level(three):
    alone = torch.cat([spectrogram_pixels(three[i]) for i in range(3)])
    assert torch.equal(spectrogram_pixels(three), alone)
    padded = Waveforms(torch.nn.functional.pad(three.samples, (0, 999)), three.lengths, RATE)
    assert torch.equal(spectrogram_pixels(padded), alone)
    quiet = Waveforms(three.samples / 8, three.lengths, RATE)
    assert torch.equal(spectrogram_pixels(quiet), alone)
    assert (spectrogram_pixels(quiet, normalise=False)[0].max() < alone[0].max()).all()
    assert not alone[2].any(), "silence is black"


def test_an_offset_is_not_seen_and_more_bands_than_can_be_resolved_are_refused():
    clip = tone(440)
    pixels = spectrogram_pixels(Waveforms.of([clip, clip + 0.3], RATE)).int()
    assert (pixels[0] - pixels[1]).abs().max() <= 2
    with pytest.raises(ValueError, match="200 mel bands are more"):
        spectrogram_pixels(Waveforms.of([clip], RATE), bands=200)


def test_an_envelope_holds_the_extremes():
    clip = torch.tensor([0.0, 0.5, -1.0, 0.25])
    assert envelope(clip, 4, 3, 1.5).tolist() == [[0.0, 0.5], [-1.0, 0.25], [0.0, 0.0]]


def test_a_sheet_shows_each_spectrogram_once_on_one_scale(three):
    loud = Waveforms.of([tone(440), tone(1000)], RATE)
    sheet = np.asarray(contact_sheet(loud, ["one", "$x_2$ & <two>"], columns=2))
    levels = [decibels(clip, RATE, 180, 108, 0.5) for clip in loud]
    top = scale_top(levels)
    for i, part in enumerate(levels):
        left = 14 + i * 194
        assert np.array_equal(sheet[48 : 48 + 108, left : left + 180], colours(part, top))
        assert sheet[160:172, left : left + 100].min() < 128, "the caption is below"
    with pytest.raises(ValueError, match="3 clips and 1 prompts"):
        contact_sheet(three, ["one"])


def test_a_trajectory_has_a_row_a_clip_and_a_column_a_step(three):
    sheet = np.asarray(trajectory_sheet([three] * 4, [f"step {i}" for i in range(4)], ["a", "b", "c"]))
    columns = [sheet[:, 14 + i * 184 : 14 + i * 184 + 180] for i in range(4)]
    rows = [column[22 + 18 : 22 + 18 + 108] for column in columns]
    assert all(np.array_equal(row, rows[0]) for row in rows)
    assert rows[0].reshape(-1, 3).std() > 10
    with pytest.raises(ValueError, match="2 steps of"):
        trajectory_sheet([three] * 2, ["one"], ["a", "b", "c"])


def test_a_figure_is_a_picture_of_any_clip_even_an_empty_one():
    sizes = {spectrogram_figure(clip, RATE, "a $tone$").size for clip in (tone(440), torch.zeros(0), torch.zeros(9))}
    assert len(sizes) == 1 and min(*sizes.pop()) > 300


class Page(HTMLParser):
    """Tags with their attributes; fails where tags do not match."""

    VOID = frozenset({"meta", "img", "path"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_has_a_player_and_a_picture_a_clip_and_no_way_outside(tmp_path, three):
    prompts = ["one", "<script>alert(1)</script>", 'a "b" & c']
    rows = [{"seed": str(i), "solver": "<b>ddim</b>"} for i in range(3)]
    text = write_page(tmp_path / "page.html", three, prompts, rows, "Sounds").read_text(encoding="utf-8")
    page = Page(text)
    players, pictures = page.all("audio"), page.all("img")
    assert len(players) == len(pictures) == 3
    assert "//" not in re.sub(r'base64,[^"]*"', "", text), "neither http: nor https: nor //host"
    assert all("controls" in player for player in players)
    assert len(page.all("script")) == 1 and not page.all("b")
    assert "default-src 'none'" in page.all("meta")[3]["content"]
    for prompt in prompts:
        assert prompt in page.text and any(prompt in picture["alt"] for picture in pictures)
    assert page.text.count("<b>ddim</b>") == 1, "what all share is said once"
    for i, (player, picture) in enumerate(zip(players, pictures, strict=True)):
        kind, content = player["src"].split(";base64,")
        assert kind == "data:audio/flac"
        read, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
        assert rate == RATE and len(read) == three.lengths[i]
        assert np.abs(read - three.clip(i).numpy()).max() <= 1 / 32768
        shown = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(shown)).size == (360, 136) and len(shown) < 30_000


def test_a_page_of_one_clip_shows_all_its_metadata_and_a_page_of_none_stands():
    page = Page(html_page(Waveforms.of([tone(440)], RATE), ["one"], [{"seed": "77"}], format="wav"))
    assert "77" in page.text and page.all("audio")[0]["src"].startswith("data:audio/wav;base64,UklGR")
    nothing = Waveforms(torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64), RATE)
    assert Page(html_page(nothing, [], [])).all("audio") == []
