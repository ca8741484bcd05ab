"""Sound files: what is written comes back, nothing clips, what is broken says so."""

import io

import numpy as np
import pytest
import soundfile
import torch

from framework.errors import DataError, UserError
from modalities.audio.files import read_audio, read_metadata, resample, write_audio

RATE = 16_000


def sine(frequency=440.0, seconds=0.5, rate=RATE, amplitude=0.5):
    return (
        amplitude * torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * rate)).double() / rate)
    ).float()


def encoded(samples, rate=RATE, form="WAV", encoding=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.asarray(samples), rate, format=form, subtype=encoding)
    return buffer.getvalue()


def noise(n=8_000):
    return 0.3 * torch.randn(n, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)


# Round trips


@pytest.mark.parametrize(("suffix", "bits"), [(".wav", 16), (".flac", 24), (".WAV", 16)])
def test_a_grid_of_16_or_24_bits_comes_back_exactly(tmp_path, suffix, bits):
    steps = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (5_000,), generator=torch.Generator().manual_seed(0))
    steps[0] = -(2 ** (bits - 1))
    samples = steps / 2.0 ** (bits - 1)
    path = write_audio(tmp_path / f"a{suffix}", samples, RATE)
    assert path == tmp_path / f"a{suffix}" and torch.equal(read_audio(path, RATE), samples)
    assert torch.equal(read_audio(path.read_bytes(), RATE), samples)


@pytest.mark.parametrize(("suffix", "step"), [(".wav", 2.0**-15), (".flac", 2.0**-23)])
def test_rounding_is_all_that_is_lost(tmp_path, suffix, step):
    samples = noise()
    error = read_audio(write_audio(tmp_path / f"a{suffix}", samples, RATE), RATE) - samples
    assert 0 < error.abs().max() <= step


def test_ogg_is_close(tmp_path):
    samples = sine() + sine(1_000, amplitude=0.2)
    back = read_audio(write_audio(tmp_path / "a.ogg", samples, RATE), RATE)
    assert len(back) == len(samples) and (back - samples).square().mean() < 0.01 * samples.square().mean()


@pytest.mark.parametrize(("form", "encoding"), [("MP3", None), ("OGG", "OPUS"), ("AIFF", "PCM_24"), ("WAV", "FLOAT")])
def test_other_formats_are_read(form, encoding):
    """Lossy coders shift a sound by a few samples, so it is the spectra that are compared."""
    samples = sine(1_000)
    back = read_audio(encoded(samples, form=form, encoding=encoding), RATE)
    spectra = [torch.fft.rfft(clip).abs() for clip in (samples, back[: len(samples)])]
    assert len(back) == len(samples) and torch.nn.functional.cosine_similarity(*spectra, dim=0) > 0.99


def test_channels_are_averaged():
    left, right = sine(), sine(700)
    stereo = encoded(torch.stack([left, right], 1), encoding="FLOAT")
    assert torch.allclose(read_audio(stereo, RATE), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_metadata_are_tags(tmp_path, suffix):
    metadata = {"title": "Füße – 七", "prompt": 'a "low" bell\nfar away', "seed": "7"}
    path = write_audio(tmp_path / f"a{suffix}", sine(), RATE, metadata)
    assert read_metadata(path) == metadata
    with soundfile.SoundFile(path) as file:
        assert file.title == metadata["title"] and file.software.startswith("diffract")


def test_a_file_of_another_origin_has_no_metadata(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", RATE, 1) as file:
        file.comment = "12"
        file.write(sine().numpy())
    soundfile.write(tmp_path / "b.wav", sine().numpy(), RATE)
    assert read_metadata(tmp_path / "a.wav") == {} == read_metadata(tmp_path / "b.wav")


# Writing


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_nothing_clips_and_the_file_says_how_it_was_scaled(tmp_path, suffix):
    samples = sine(amplitude=2.5)
    path = write_audio(tmp_path / f"a{suffix}", samples, RATE, {"seed": "1"})
    back = read_audio(path, RATE)
    gain = 10 ** (float(read_metadata(path)["gain_db"]) / 20)
    assert back.abs().max() <= 1 and gain == pytest.approx(1 / 2.5, rel=0.1 if suffix == ".ogg" else 1e-3)
    assert read_metadata(path)["seed"] == "1"
    assert (back - gain * samples).abs().max() < (0.05 if suffix == ".ogg" else 1e-3)


def test_a_square_wave_does_not_clip_when_ogg_overshoots(tmp_path):
    """Vorbis gives a full-scale square wave back with peaks at 1.5: it has to be written more quietly."""
    path = write_audio(tmp_path / "a.ogg", sine(300, amplitude=1.0).sign(), RATE)
    assert 0.9 < read_audio(path, RATE).abs().max() <= 1
    assert float(read_metadata(path)["gain_db"]) < -2


def test_what_fits_is_not_scaled(tmp_path):
    assert "gain_db" not in read_metadata(write_audio(tmp_path / "a.wav", sine(amplitude=1.0), RATE, {"seed": "1"}))


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match=r"'a\.m4a'.*\.wav, \.flac, \.ogg"):
        write_audio(tmp_path / "a.m4a", sine(), RATE)
    for samples in (torch.zeros(0), torch.zeros(2, 100), torch.full((100,), torch.nan)):
        with pytest.raises(ValueError, match="finite samples"):
            write_audio(tmp_path / "a.wav", samples, RATE)
    with pytest.raises(UserError, match="cannot write FLAC at 900000 Hz"):
        write_audio(tmp_path / "a.flac", sine(), 900_000)
    assert list(tmp_path.iterdir()) == []


# Rates


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 22_254])
def test_resampling_keeps_length_and_frequency(rate):
    """22,254 Hz and 16,000 Hz have so little in common that the filter of all phases would not fit into memory."""
    back = read_audio(encoded(sine(1_000, 1.0, rate), rate, encoding="FLOAT"), RATE)
    assert abs(len(back) - RATE) <= 1
    middle = slice(RATE // 10, RATE - RATE // 10)  # the filter's ends see the silence around the clip
    assert (back - sine(1_000, 1.0)[: len(back)])[middle].abs().max() < 0.01


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    assert resample(sine(5_000, 1.0), RATE, 8_000)[400:-400].abs().max() < 0.01


# Broken files


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty .0 bytes"),
        (b"<html>404 not found</html>", "not readable as sound"),
        (np.random.default_rng(0).bytes(9_000), "not readable as sound"),
        (encoded(torch.zeros(0)), "empty .0 samples"),
        (encoded(sine(), rate=500), "implausible rate: 500 Hz"),
        (encoded(sine(), rate=4_000_000), "implausible rate: 4000000 Hz"),
        (encoded([0.0, np.nan, 0.1] * 100, encoding="FLOAT"), "not finite"),
    ],
)
def test_what_is_no_sound_says_why(tmp_path, content, reason):
    (tmp_path / "a.wav").write_bytes(content)
    for source in (content, tmp_path / "a.wav", str(tmp_path / "a.wav")):
        with pytest.raises(DataError, match=reason):
            read_audio(source, RATE)


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_audio(tmp_path / "gone.wav", RATE)
    with pytest.raises(DataError):
        read_audio(tmp_path, RATE)


FORMS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("AIFF", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
]


@pytest.mark.parametrize(("form", "encoding"), FORMS)
def test_a_file_cut_anywhere_is_refused(tmp_path, form, encoding):
    whole = encoded(noise(48_000), form=form, encoding=encoding)
    assert len(read_audio(whole, RATE)) == 48_000
    for length in [1, 10, 50, 200, *range(400, len(whole), len(whole) // 20), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut off|not readable|empty"):
            read_audio(tmp_path / "cut", RATE)


def test_an_ogg_cut_between_two_pages_is_refused():
    whole = encoded(noise(480_000), form="OGG", encoding="VORBIS")
    pages = [i for i in range(len(whole)) if whole.startswith(b"OggS", i)]
    assert len(pages) > 10
    with pytest.raises(DataError, match="last page"):
        read_audio(whole[: pages[8]], RATE)


def test_half_an_mp3_is_refused():
    whole = encoded(noise(48_000), form="MP3")
    with pytest.raises(DataError, match="cut off"):
        read_audio(whole[: len(whole) // 2], RATE)


def test_a_wav_from_a_pipe_is_read():
    """What writes into a pipe cannot go back to say how long it was, and says 2^32 - 1."""
    whole = bytearray(encoded(sine()))
    place = whole.index(b"data") + 4
    whole[place : place + 4] = b"\xff" * 4
    assert torch.allclose(read_audio(bytes(whole), RATE), sine(), atol=2.0**-15)
