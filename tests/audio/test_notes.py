"""The notes set: sounds are what their piece says, items are functions of their place, splits do not mix."""

from itertools import product

import numpy as np
import pytest
import torch

from modalities.audio.notes import (
    BAND,
    HARMONICS,
    HEADS,
    LEVELS,
    SPLITS,
    Notes,
    amplitudes,
    harmonics,
    loudest,
    synthesise,
)
from modalities.audio.notes_captions import (
    ENVELOPES,
    LOUDNESSES,
    PITCHES,
    PRESETS,
    TIMBRES,
    Piece,
    frequency,
    heldout_prompts,
    is_held_out,
    note_name,
    parse_caption,
    with_loudness,
)

RATE = 8000


def steady(*pitches, timbre, rate=RATE, seconds=1.024):
    return synthesise(Piece.of(*pitches, timbre=timbre, envelope="sustained", loudness="medium"), rate, seconds)


def power(samples):
    """The power spectrum of the middle of a clip, under a window whose side lobes are below -90 dB."""
    middle = samples[len(samples) // 8 : -len(samples) // 8].astype(np.float64)
    return np.square(np.abs(np.fft.rfft(middle * np.blackman(len(middle)) ** 2)))


def share_near(samples, frequencies, rate=RATE, width=12.0):
    """The share of the power within `width` Hz of some frequencies."""
    p = power(samples)
    hz = np.fft.rfftfreq(2 * (len(p) - 1), 1 / rate)
    return p[np.abs(hz[:, None] - np.asarray(frequencies)).min(1) < width].sum() / p.sum()


@pytest.mark.parametrize("pitch", [52, 69, 83])
def test_a_pure_note_is_one_line(pitch):
    samples = steady(pitch, timbre="pure")
    assert 1 - share_near(samples, [frequency(pitch)]) < 1e-6


@pytest.mark.parametrize(("pitch", "timbre", "rate"), list(product([52, 66, 83], TIMBRES, [8000, 16000])))
def test_harmonics_have_the_amplitudes_of_the_timbre_and_stay_in_the_band(pitch, timbre, rate):
    samples = steady(pitch, timbre=timbre, rate=rate)
    f = frequency(pitch)
    count = min(HARMONICS, int(BAND * rate / f))
    measured = np.array([share_near(samples, [k * f], rate) for k in range(1, count + 1)])
    a = amplitudes(timbre, count)
    np.testing.assert_allclose(measured, a**2 / (a @ a), atol=1e-5)
    beyond = power(samples)[int(np.ceil((BAND * rate + 12) / rate * len(samples) * 0.75)) :]
    assert beyond.sum() < 1e-7 * power(samples).sum()


def test_horner_sums_the_harmonics():
    rng = np.random.default_rng(0)
    c, phase = rng.normal(size=7) + 1j * rng.normal(size=7), rng.uniform(0, 6, 50)
    k = np.arange(1, 8)
    np.testing.assert_allclose(harmonics(c, phase), np.imag(np.exp(1j * k * phase[:, None]) @ c), atol=1e-12)


def test_timbres_are_what_their_names_say():
    assert not amplitudes("pure", 9)[1:].any() and not amplitudes("hollow", 9)[1::2].any()
    assert (np.flatnonzero(amplitudes("organ", 24)) + 1).tolist() == [1, 2, 4, 8]
    assert (np.diff(amplitudes("bright", 24)) < 0).all() and amplitudes("reed", 24).argmax() == 1
    with pytest.raises(ValueError, match="pure, hollow"):
        amplitudes("purr", 3)


def test_timbres_differ_in_the_first_three_harmonics():
    """The highest note has no more below the band limit of 8 kHz; each pair is 3 dB apart in one of them."""
    first = np.maximum([amplitudes(timbre, 3) / np.linalg.norm(amplitudes(timbre, 3)) for timbre in TIMBRES], 0.05)
    gaps = np.abs(20 * np.log10(first[:, None] / first[None])).max(-1)
    assert BAND * RATE / frequency(PITCHES[-1]) > 3 and gaps[~np.eye(len(TIMBRES), dtype=bool)].min() > 3


@pytest.mark.parametrize(("envelope", "loudness", "seconds"), list(product(ENVELOPES, LOUDNESSES, [0.5, 1.024])))
def test_the_loudest_part_has_the_level_of_the_loudness(envelope, loudness, seconds):
    samples = synthesise(Piece.of(60, timbre="reed", envelope=envelope, loudness=loudness), RATE, seconds)
    assert samples.shape == (round(seconds * RATE),) and samples.dtype == np.float32
    assert loudest(samples, RATE) == pytest.approx(LEVELS[loudness], abs=1e-3)


def test_loudest_is_the_rms_of_the_loudest_part():
    """A sine of amplitude a has RMS a / sqrt 2; a fifth of a second of it is enough; silence is -inf."""
    x = np.zeros(RATE)
    x[4000:5600] = 0.5 * np.sin(2 * np.pi * 100 * np.arange(1600) / RATE)
    assert loudest(x, RATE) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=1e-9)
    assert loudest(np.zeros(RATE), RATE) == -np.inf


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_no_clicks(envelope):
    """Nothing at either end, and a step from sample to sample no larger than the sine's own."""
    samples = synthesise(Piece.of(60, timbre="pure", envelope=envelope, loudness="loud"))
    assert abs(samples[0]) < 1e-6 and abs(samples[-1]) < 1e-6
    assert np.abs(np.diff(samples)).max() < 1.1 * 2 * np.pi * frequency(60) / RATE * np.abs(samples).max()


@pytest.mark.parametrize(("pitches", "timbre", "lines"), [((60, 64), "pure", [1]), ((72, 83), "organ", [1, 2, 4])])
def test_a_chord_is_two_voices_of_equal_power(pitches, timbre, lines):
    """Also where the band holds three lines of the lower voice and two of the upper."""
    chord = steady(*pitches, timbre=timbre)
    for pitch in pitches:
        assert share_near(chord, frequency(pitch) * np.array(lines)) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_item_depends_on_seed_split_and_index_only(preset):
    short, long = Notes(preset, length=4), Notes(preset, length=3000)
    backwards = [long[i] for i in (3, 2, 1, 0)][::-1]
    for i in range(4):
        assert torch.equal(short[i]["waveform"], backwards[i]["waveform"])
        assert torch.equal(short[i]["labels"], backwards[i]["labels"])
        assert short[i]["caption"] == backwards[i]["caption"]
    for other in (Notes(preset, length=4, seed=1), Notes(preset, "validation", length=4)):
        assert all(not torch.equal(short[i]["waveform"], other[i]["waveform"]) for i in range(4))


@pytest.mark.parametrize("preset", PRESETS)
def test_items_are_whole_and_within_full_scale(preset):
    items = Notes(preset, length=60, seed=5)
    for i in range(60):
        item = items[i]
        waveform = item["waveform"]
        assert waveform.dtype == torch.float32 and waveform.shape == (8192,) and item["length"] == 8192
        assert 0.01 < waveform.abs().max() < 1
        assert parse_caption(item["caption"]) == items.described(i)
    with pytest.raises(IndexError, match="item 60"):
        items[60]


def test_labels_are_classes_of_the_heads():
    items = Notes("mixed", length=40)
    for i in range(40):
        labels, piece = items[i]["labels"], items.described(i)
        assert labels.dtype == torch.int64 and labels.shape == (len(HEADS),)
        words = [names[label] for names, label in zip(HEADS.values(), labels.tolist(), strict=True)]
        assert words == [note_name(piece.pitches[0]), piece.timbre, piece.envelope, piece.loudness]


@pytest.mark.parametrize("preset", PRESETS)
def test_splits_do_not_share_combinations(preset):
    said = {}
    for split in SPLITS:
        items = Notes(preset, split, length=500)
        said[split] = {with_loudness(items.described(i), None) for i in range(500)}
    prompts = {with_loudness(parse_caption(text), None) for text in heldout_prompts(preset, 200, seed=0)}
    assert said["train"] & said["validation"]
    assert not (said["heldout"] | prompts) & (said["train"] | said["validation"])
    assert all(map(is_held_out, said["heldout"] | prompts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "singel"}, "single, double, mixed"),
        ({"split": "test"}, "train, validation, heldout"),
        ({"length": 0}, "at least one"),
        ({"rate": 4000}, "8000 Hz or more"),
        ({"seconds": 0.2}, "0.5 s or more"),
    ],
)
def test_wrong_arguments_name_the_right_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        Notes(**{"length": 2, **arguments})


def test_what_is_unsaid_cannot_be_played():
    with pytest.raises(ValueError, match="needs a timbre, an envelope and a loudness"):
        synthesise(Piece.of(60, timbre="pure"))
