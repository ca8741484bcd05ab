"""The language of notes: captions are read back, people are understood or told why not, a tenth is held out."""

from itertools import product

import pytest

from framework.backbones.text import WordTokenizer
from framework.errors import PromptError
from modalities.audio.notes_captions import (
    ENVELOPES,
    LOUDNESSES,
    PITCHES,
    TIMBRES,
    WORDINGS,
    Note,
    Piece,
    caption,
    frequency,
    heldout_prompts,
    is_held_out,
    note_name,
    parse_caption,
    parts_of,
    pieces_of,
    with_loudness,
)


def test_a4_is_440_hz_and_an_octave_doubles():
    assert frequency(69) == 440 and frequency(57) == 220 and note_name(69) == "A4"
    assert frequency(60) == pytest.approx(261.6256, abs=1e-4)


@pytest.mark.parametrize("voices", [1, 2])
def test_parse_inverts_every_wording_of_every_piece(voices):
    pieces = pieces_of(voices)
    assert len(set(pieces)) == {1: 32, 2: 153}[voices] * len(TIMBRES) * len(ENVELOPES)
    texts = set()
    for (i, piece), wording in product(enumerate(pieces), range(WORDINGS)):
        said = with_loudness(piece, (None, *LOUDNESSES)[(i + wording) % 4])
        text = caption(said, wording)
        assert parse_caption(text) == said, text
        texts.add(text)
    assert len(texts) == len(pieces) * WORDINGS


def test_parse_inverts_what_is_left_unsaid():
    pitches = ((53,), (61, 64))
    for p, t, e, level, w in product(pitches, (None, "organ"), (None, "short"), (None, "loud"), range(WORDINGS)):
        piece = Piece.of(*p, timbre=t, envelope=e, loudness=level)
        assert parse_caption(caption(piece, w)) == piece


def test_captions_are_english():
    piece = Piece.of(60, 63, timbre="organ", envelope="short", loudness="loud")
    assert [caption(piece, w) for w in range(WORDINGS)] == [
        "a loud organ C4 and Dsharp4, short",
        "a short loud organ C4 and Dsharp4",
        "C4 and Dsharp4 with an organ tone, loud and short",
        "play C4 and Dsharp4, organ, short, loud",
    ]
    assert caption(Piece.of(69)) == "an A4" and caption(Piece.of(60, timbre="organ"), 1) == "an organ C4"
    with pytest.raises(ValueError, match="4 wordings"):
        caption(piece, WORDINGS)


def test_a_note_is_one_token_and_the_longest_caption_fits():
    tokenizer = WordTokenizer()
    assert len({tuple(tokenizer.tokenize([note_name(p)])[0][0, :3].tolist()) for p in PITCHES}) == len(PITCHES)
    for wording in range(WORDINGS):
        text = caption(Piece.of(61, 66, timbre="bright", envelope="sustained", loudness="medium"), wording)
        assert tokenizer.tokenize([text])[1].sum() < tokenizer.length


SPELLINGS = {
    (61,): ("C#4", "Db4", "D♭4", "c♯4", "C sharp 4", "a D flat 4", "Csharp4"),
    (64, 70): ("Bb4 and E4.", "e4 + asharp4"),
    (59,): ("Cb4",),
    (60,): ("B#3",),
    (69, 72): ("an A4 and a C5",),
}


@pytest.mark.parametrize(("pitches", "texts"), list(SPELLINGS.items()))
def test_parse_reads_notes_as_musicians_write_them(pitches, texts):
    assert all(parse_caption(text).pitches == pitches for text in texts)


def test_parse_reads_synonyms_and_any_order():
    piece = Piece.of(66, timbre="bright", envelope="plucked", loudness="soft")
    for text in ("a quiet sawtooth F#4 pluck", "Gb4: fading, soft and bright", "PLAY a bright, soft, plucked Fsharp4!"):
        assert parse_caption(text) == piece
    assert parse_caption("E4 and C4") == parse_caption("C4 and E4")


@pytest.mark.parametrize("text", ["a short bright C4 pluck, fading", "a plucked, short and bright C4"])
def test_a_short_pluck_is_a_pluck(text):
    assert parse_caption(text) == Piece.of(60, timbre="bright", envelope="plucked")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a brigt C4", "unknown word 'brigt'; did you mean 'bright'"),
        ("a Csahrp4", "did you mean 'csharp4'"),
        ("a xylophone C4", "timbre: pure, hollow, bright, organ, reed"),
        ("a soft organ", "names no note"),
        ("", "names no note"),
        ("a soft loud C4", "'soft' and 'loud' both say the loudness"),
        ("a short swelling C4", "'short' and 'swelling' both say the envelope"),
        ("a soft F#", "needs its octave, such as F#4"),
        ("C2", "C2 is outside of the notes that can be played, E3 to B5"),
        ("C9", "E3 to B5"),
        ("C4, E4 and G4", "one note or two, got 3"),
        ("C4 and C5", "3 to 11 semitones apart"),
        ("E3 and G3", "between C4 and B5"),
    ],
)
def test_parse_refuses_with_a_hint(text, hint):
    with pytest.raises(PromptError, match=hint):
        parse_caption(text)


def test_a_piece_is_of_one_instrument():
    with pytest.raises(PromptError, match="differ in pitch alone"):
        Piece((Note(60, "pure"), Note(64, "reed")))
    with pytest.raises(PromptError, match="valid: pure"):
        Note(60, "purr")


@pytest.mark.parametrize("voices", [1, 2])
def test_about_a_tenth_is_held_out_and_everything_else_is_trained_on(voices):
    pieces = pieces_of(voices)
    trained, held_out = parts_of(voices)
    assert sorted(map(caption, trained + held_out)) == sorted(map(caption, pieces)) and all(map(is_held_out, held_out))
    assert 0.07 < 1 - len(trained) / len(pieces) < 0.13
    for level in LOUDNESSES:
        assert all(is_held_out(with_loudness(p, level)) == is_held_out(p) for p in pieces[::50])
    assert len({(p.timbre, p.envelope) for p in trained}) == len(TIMBRES) * len(ENVELOPES)
    assert {p.pitches for p in trained} == {p.pitches for p in pieces}
    if voices == 1:
        assert len({(p.pitches, p.timbre) for p in trained}) == len(PITCHES) * len(TIMBRES)


def test_heldout_prompts_are_all_asked_before_any_comes_again():
    n = len(LOUDNESSES) * sum(map(is_held_out, pieces_of(1)))
    prompts = heldout_prompts("single", 2 * n, seed=3)
    assert len({parse_caption(text) for text in prompts[:n]}) == n and prompts[:n] == prompts[n:]
    assert prompts[:5] == heldout_prompts("single", 5, seed=3) != heldout_prompts("single", 5, seed=4)
    assert sum(len(parse_caption(text).pitches) == 2 for text in heldout_prompts("mixed", 10, seed=0)) == 5
