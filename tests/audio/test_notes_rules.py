"""The rules on notes are right on clean clips, and each wrong attribute is caught alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from framework.errors import PromptError
from modalities.audio.notes import Notes, synthesise
from modalities.audio.notes_captions import ENVELOPES, LOUDNESSES, TIMBRES, Piece, caption, frequency, parse_caption
from modalities.audio.notes_pitch import differences, weighted_median, yin
from modalities.audio.notes_rules import ATTRIBUTES, find_envelope, judge, listen, pitch_error_cents
from modalities.audio.notes_templates import direction, find_pair, find_timbre, spectrum, voice
from modalities.audio.waveforms import Waveforms

RATE = 8000


def of(*clips, rate=RATE):
    return Waveforms.of([torch.as_tensor(clip) for clip in clips], rate)


def drawn(preset, n, seed=7, **options):
    items = Notes(preset, "heldout", length=n, seed=seed, **options)
    chosen = [items[i] for i in range(n)]
    return of(*(item["waveform"] for item in chosen), rate=items.rate), [item["caption"] for item in chosen]


def changed(piece, **values):
    return Piece(tuple(replace(note, **values) for note in piece.notes))


def wrong_pieces(piece):
    """The piece with one attribute changed in every possible way: (attribute, piece)."""
    for name, words in {"timbre": TIMBRES, "envelope": ENVELOPES, "loudness": LOUDNESSES}.items():
        yield from ((name, changed(piece, **{name: word})) for word in words if word != getattr(piece, name))
    for k in range(len(piece.notes)):
        for shift in (-1, 1):
            notes = list(piece.notes)
            notes[k] = replace(notes[k], pitch=notes[k].pitch + shift)
            yield "pitch", Piece(tuple(notes))


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("single", {}),
        ("double", {}),
        ("single", {"rate": 16000, "seconds": 0.5}),
        ("double", {"rate": 11025, "seconds": 2.0}),
    ],
)
def test_clean_clips_are_right_in_everything(preset, options):
    n = 40 if options else 100
    clips, captions = drawn(preset, n, **options)
    verdicts = judge(clips, captions)
    other = {"single": "double", "double": "single"}[preset]
    assert verdicts[other] == {} and set(verdicts[preset]) == {"all", *ATTRIBUTES}
    for name, values in verdicts[preset].items():
        assert values.shape == (n,) and values.dtype == np.int64 and values.mean() >= 0.99, name
    assert np.quantile(pitch_error_cents(clips[:30], captions[:30]), 0.9) < 20


@pytest.mark.parametrize("preset", ["single", "double"])
def test_noise_and_a_filter_are_survived(preset):
    """20 dB of white noise, and a first-order low pass that takes 3 dB at 1.7 kHz."""
    clips, captions = drawn(preset, 40)
    x = lfilter([0.6], [1, -0.4], clips.samples.numpy())
    rng = np.random.default_rng(0)
    x += 0.1 * np.sqrt(np.square(x).mean(1, keepdims=True)) * rng.standard_normal(x.shape)
    scores = judge(Waveforms(torch.tensor(x, dtype=torch.float32), clips.lengths, RATE), captions)[preset]
    assert min(scores[name].mean() for name in ATTRIBUTES) >= 0.95


@pytest.mark.parametrize("timbre", TIMBRES)
@pytest.mark.parametrize(("pitches", "envelope"), [((53,), "plucked"), ((82,), "swelling"), ((62, 69), "short")])
def test_each_wrong_attribute_is_caught_alone(timbre, pitches, envelope):
    piece = Piece.of(*pitches, timbre=timbre, envelope=envelope, loudness="medium")
    group = "single" if len(pitches) == 1 else "double"
    clip = synthesise(piece)
    assert judge(of(clip), [caption(piece)])[group]["all"].tolist() == [1]
    for attribute, other in wrong_pieces(piece):
        scores = judge(of(clip), [caption(other)])[group]
        assert [name for name in ATTRIBUTES if not scores[name][0]] == [attribute], caption(other)
        assert scores["all"].tolist() == [0]


def test_shuffled_captions_are_at_chance():
    clips, captions = drawn("single", 160)
    scores = {name: values.mean() for name, values in judge(clips, list(np.roll(captions, 1)))["single"].items()}
    assert scores["all"] < 0.03 and scores["pitch"] < 0.15
    for name, chance in {"timbre": 1 / 5, "envelope": 1 / 4, "loudness": 1 / 3}.items():
        assert abs(scores[name] - chance) < 0.13, name


def test_groups_keep_their_clips_apart():
    one = Piece.of(60, timbre="reed", envelope="short", loudness="loud")
    two = Piece.of(64, 68, timbre="pure", envelope="swelling", loudness="soft")
    clips = of(synthesise(one), synthesise(two), synthesise(one))
    wrong = changed(one, loudness="soft")
    scores = judge(clips, [caption(one), caption(two), caption(wrong)])
    assert scores["single"]["all"].tolist() == [1, 0] and scores["double"]["all"].tolist() == [1]
    assert scores["single"]["loudness"].tolist() == [1, 0]


def test_only_what_is_said_is_scored():
    clip = synthesise(Piece.of(60, timbre="reed", envelope="short", loudness="loud"))
    scores = judge(of(clip, clip), ["C4", "a hollow C4"])["single"]
    assert {name: values.tolist() for name, values in scores.items()} == {
        "all": [1, 0],
        "pitch": [1, 1],
        "timbre": [0],
    }


@pytest.mark.parametrize("timbre", TIMBRES)
def test_one_voice_is_not_two_and_two_are_not_one(timbre):
    rest = {"timbre": timbre, "envelope": "sustained", "loudness": "medium"}
    one, two = synthesise(Piece.of(64, **rest)), synthesise(Piece.of(64, 69, **rest))
    for other in (60, 67, 69, 73):
        assert judge(of(one), [caption(Piece.of(64, other, **rest))])["double"]["all"].tolist() == [0]
    for pitch in (52, 57, 64, 69):
        assert judge(of(two), [caption(Piece.of(pitch, **rest))])["single"]["all"].tolist() == [0]


@pytest.mark.parametrize("voices", [1, 2])
def test_what_is_like_nothing_is_nothing(voices):
    rng = np.random.default_rng(0)
    heard = [listen(0.2 * rng.standard_normal(8192), RATE, voices) for _ in range(20)]
    assert all(one.timbre is None for one in heard)
    assert voices == 2 or all(math.isnan(one.pitches[0]) for one in heard)
    for nothing in (np.zeros(8192), np.full(8192, np.nan)):
        silent = listen(nothing, RATE, voices)
        assert all(map(math.isnan, silent.pitches)) and len(silent.pitches) == voices
        assert (silent.timbre, silent.envelope, silent.loudness) == (None, None, None)
    scores = judge(of(np.zeros(8192)), ["a soft pure C4, short"])["single"]
    assert sum(int(values.sum()) for values in scores.values()) == 0
    assert np.isnan(pitch_error_cents(of(np.zeros(8192)), ["C4"]))[0]


def test_beyond_the_levels_there_is_no_loudness():
    clip = synthesise(Piece.of(60, timbre="pure", envelope="sustained", loudness="soft"))
    assert [listen(gain * clip, RATE, 1).loudness for gain in (1, 0.5, 3, 8)] == ["soft", None, "medium", "loud"]
    assert listen(16 * clip, RATE, 1).loudness is None


def test_padding_is_not_heard():
    piece = Piece.of(60, timbre="hollow", envelope="sustained", loudness="medium")
    clip = torch.from_numpy(synthesise(piece))
    longer = Waveforms(torch.nn.functional.pad(clip[None], (0, 8000)), torch.tensor([len(clip)]), RATE)
    assert judge(longer, [caption(piece)])["single"]["all"].tolist() == [1]
    whole = replace(longer, lengths=torch.tensor([len(clip) + 8000]))
    assert judge(whole, [caption(piece)])["single"]["envelope"].tolist() == [0]


def test_pitch_error_is_the_distance_in_cents_of_the_worst_voice():
    t = np.arange(8192) / RATE
    for f, asked, cents in ((440.0, "A4", 0), (440 * 2 ** (30 / 1200), "A4", 30), (440.0, "Gsharp4", 100)):
        assert pitch_error_cents(of(np.sin(2 * np.pi * f * t)), [asked])[0] == pytest.approx(cents, abs=1)
    chord = synthesise(Piece.of(64, 69, timbre="bright", envelope="sustained", loudness="loud"))
    for asked, cents in (("E4 and A4", 0), ("Dsharp4 and A4", 100), ("F4 and B4", 200)):
        assert pitch_error_cents(of(chord), [asked])[0] == pytest.approx(cents, abs=5)


@pytest.mark.parametrize("f", [150.0, 233.3, 440.0, 698.5, 987.0])
@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_yin_finds_the_frequency_of_a_sine_and_of_a_missing_fundamental(f, rate):
    t = np.arange(rate) / rate
    for x in (np.sin(2 * np.pi * f * t), np.sin(4 * np.pi * f * t) + np.sin(6 * np.pi * f * t)):
        assert 1200 * abs(math.log2(yin(x, rate) / f)) < 3


def test_yin_has_no_answer_where_there_is_no_pitch():
    rng = np.random.default_rng(0)
    for x in (rng.standard_normal(8192), np.zeros(8192), np.ones(100)):
        assert math.isnan(yin(x, RATE))


def test_differences_are_the_sums_they_say():
    x = np.random.default_rng(0).normal(size=(3, 50))
    width, longest = 30, 20
    direct = [[np.square(row[:width] - row[lag : lag + width]).sum() for lag in range(longest + 1)] for row in x]
    np.testing.assert_allclose(differences(x, width, longest), direct, atol=1e-10)


def test_weighted_median_of_equal_weights_and_of_one_heavy():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.ones(3)) == 2
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])) == 3


def test_a_template_is_the_spectrum_of_its_sound():
    """The cosine with a clean sound is almost 1 for its own timbre, and smaller for each other one."""
    for timbre in TIMBRES:
        clip = synthesise(Piece.of(57, timbre=timbre, envelope="sustained", loudness="loud"))
        heard = direction(spectrum(clip, RATE))
        fits = {name: float(direction(voice(name, frequency(57))) @ heard) for name in TIMBRES}
        assert fits.pop(timbre) > max(0.97, *(fit + 0.05 for fit in fits.values()))
        assert find_timbre(clip, RATE, frequency(57)) == timbre


def test_a_second_voice_must_be_loud_enough():
    t = np.arange(8192) / RATE
    low, high = (np.sin(2 * np.pi * frequency(pitch) * t) for pitch in (64, 70))
    pair = find_pair(low + 0.6 * high, RATE)
    assert pair.timbre == "pure" and pair.high == pytest.approx(frequency(70), rel=0.005)
    assert math.isnan(find_pair(low + 0.1 * high, RATE).low)


def test_pairs_are_found_between_the_steps_of_the_grid():
    """A step is 33 cents; the parabola is right within a few."""
    for shift in (-0.12, 0.0, 0.05, 0.14):
        t = np.arange(8192) / RATE
        asked = frequency(66 + shift), frequency(73 - shift)
        x = sum(np.sin(2 * np.pi * k * f * t + k) / k for f in asked for k in (1, 3))
        found = find_pair(x, RATE)
        assert max(abs(1200 * math.log2(a / b)) for a, b in zip(asked, found[:2], strict=True)) < 6


def test_an_envelope_that_is_none_of_ours_is_none():
    """Half a sustained note, a sustained note with a gap, a swelling one backwards with its end cut off."""
    clip = synthesise(Piece.of(60, timbre="pure", envelope="sustained", loudness="loud")).astype(float)
    t = np.arange(len(clip)) / len(clip)
    for gain in (t < 0.6, (t < 0.3) | (t > 0.65), np.where(t < 0.6, 1 - t, 0)):
        assert find_envelope(clip * gain, RATE) is None
    assert find_envelope(clip * 10 ** (-30 * t / 20), RATE) == "plucked"


def test_prompts_and_clips_go_together():
    clips, captions = drawn("single", 2)
    for ask in (judge, pitch_error_cents):
        with pytest.raises(ValueError, match="got 1 prompts and 2 clips"):
            ask(clips, captions[:1])
        with pytest.raises(PromptError, match="unknown word"):
            ask(clips, ["a purple cow", captions[1]])
    assert judge(clips[:0], []) == {"single": {}, "double": {}}
    assert parse_caption(captions[0]).timbre in TIMBRES
