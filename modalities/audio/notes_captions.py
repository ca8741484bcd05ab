"""The little language of the `notes` set: notes, the captions that say them, the combinations held out.

    a soft hollow C4, swelling              one voice: loudness, timbre, pitch, envelope
    a short loud organ C4 and Eflat4        two voices of one instrument
    Fsharp3 with a reed tone, soft and plucked

A pitch is a letter, an accidental and an octave (C4 is middle C, A4 is 440 Hz). Captions write sharps out, so
that a note is one word to any tokenizer and means the same in every language ("As" and "Es" are flats to a
German, sharps to LilyPond); people may write Fsharp3, F#3, F♯3, "F sharp 3", Gflat3, Gb3 or G♭3.

`parse_caption` inverts every wording of `caption`. What a caption leaves out is None: not constrained. A
combination is pitches, timbre and envelope; about a tenth are held out by a hash of their meaning, whatever
their loudness.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations as pairs_of
from itertools import product

import numpy as np

from framework.data.counter import share, uniforms
from framework.errors import PromptError

LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
NAMES = ("C", "Csharp", "D", "Dsharp", "E", "F", "Fsharp", "G", "Gsharp", "A", "Asharp", "B")
TIMBRES = ("pure", "hollow", "bright", "organ", "reed")
ENVELOPES = ("plucked", "sustained", "swelling", "short")
LOUDNESSES = ("soft", "medium", "loud")
ATTRIBUTES = {"timbre": TIMBRES, "envelope": ENVELOPES, "loudness": LOUDNESSES}
# MIDI numbers: E3 to B5. Lower, the bands of a small mel spectrogram are wider than a semitone; higher, fewer than
# three harmonics fit below 3.6 kHz, and timbres could not be told apart.
PITCHES = range(52, 84)
# Lower, or closer, two voices melt into one line of such a spectrogram; an octave is two voices to nobody.
PAIR_PITCHES, PAIR_INTERVALS = range(60, 84), range(3, 12)
PRESETS = {"single": (1,), "double": (2,), "mixed": (1, 2)}
HELD_OUT_SHARE = 0.1
WORDINGS = 4

SYNONYMS = {
    "sine": "pure", "square": "hollow", "saw": "bright", "sawtooth": "bright", "reedy": "reed",
    "pluck": "plucked", "fading": "plucked", "decaying": "plucked", "held": "sustained", "steady": "sustained",
    "swell": "swelling", "rising": "swelling", "crescendo": "swelling", "staccato": "short",
    "quiet": "soft", "piano": "soft", "moderate": "medium", "mezzoforte": "medium", "forte": "loud",
}  # fmt: skip
FILLERS = ("a", "an", "the", "and", "with", "on", "of", "in", "play", "note", "notes", "tone", "sound", "chord")
_ACCIDENTALS = {"": 0, "sharp": 1, "#": 1, "♯": 1, "flat": -1, "b": -1, "♭": -1}
_NOTE = re.compile(r"([a-g])(sharp|flat|[#♯b♭]?)(-?\d+)?")
_SPACED_NOTE = re.compile(r"\b([a-g])[ -](sharp|flat)[ -]?(\d)")


@dataclass(frozen=True)
class Note:
    """One voice: a MIDI pitch, and how it sounds; None: the caption does not say.

    Raises:
        PromptError: a pitch outside of E3 to B5, or an unknown word.
    """

    pitch: int
    timbre: str | None = None
    envelope: str | None = None
    loudness: str | None = None

    def __post_init__(self) -> None:
        if self.pitch not in PITCHES:
            span = f"{note_name(PITCHES[0])} to {note_name(PITCHES[-1])}"
            raise PromptError(f"{note_name(self.pitch)} is outside of the notes that can be played, {span}")
        for value, words in ((self.timbre, TIMBRES), (self.envelope, ENVELOPES), (self.loudness, LOUDNESSES)):
            if value is not None and value not in words:
                raise PromptError(f"unknown word {value!r} for a note; valid: {', '.join(words)}")


@dataclass(frozen=True)
class Piece:
    """One note, or two at once that differ in pitch alone, the lower first.

    Raises:
        PromptError: not one or two notes, notes that sound differently, or two that cannot be told apart.
    """

    notes: tuple[Note, ...]

    def __post_init__(self) -> None:
        if len(self.notes) not in (1, 2):
            raise PromptError(f"a piece has one note or two, got {len(self.notes)}")
        object.__setattr__(self, "notes", tuple(sorted(self.notes, key=lambda note: note.pitch)))
        if len(self.notes) == 1:
            return
        low, high = self.pitches
        if replace(self.notes[0], pitch=high) != self.notes[1]:
            raise PromptError(f"the two notes of a piece differ in pitch alone, got {self.notes}")
        if low not in PAIR_PITCHES or high - low not in PAIR_INTERVALS:
            raise PromptError(
                f"{note_name(low)} and {note_name(high)} cannot be played together: two notes lie between "
                f"{note_name(PAIR_PITCHES[0])} and {note_name(PAIR_PITCHES[-1])}, "
                f"{PAIR_INTERVALS[0]} to {PAIR_INTERVALS[-1]} semitones apart"
            )

    @classmethod
    def of(
        cls,
        *pitches: int,
        timbre: str | None = None,
        envelope: str | None = None,
        loudness: str | None = None,
    ) -> Piece:
        """A piece from its MIDI pitches and what its notes have in common."""
        return cls(tuple(Note(pitch, timbre, envelope, loudness) for pitch in pitches))

    @property
    def pitches(self) -> tuple[int, ...]:
        """MIDI numbers, the lowest first."""
        return tuple(note.pitch for note in self.notes)

    @property
    def timbre(self) -> str | None:
        return self.notes[0].timbre

    @property
    def envelope(self) -> str | None:
        return self.notes[0].envelope

    @property
    def loudness(self) -> str | None:
        return self.notes[0].loudness


def note_name(pitch: int) -> str:
    """The one word for a MIDI pitch: 60 is C4, 61 is Csharp4."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def frequency(pitch: float) -> float:
    """Hz of a MIDI pitch in equal temperament, A4 = 440 Hz."""
    return 440.0 * 2 ** ((pitch - 69) / 12)


def caption(piece: Piece, wording: int = 0) -> str:
    """The words for a piece, in one of WORDINGS ways; what is None is left unsaid."""
    notes = " and ".join(map(note_name, piece.pitches))
    if wording == 0:
        return _listed([_phrase("a", piece.loudness, piece.timbre, notes), piece.envelope], ", ")
    if wording == 1:
        return _phrase("a", piece.envelope, piece.loudness, piece.timbre, notes)
    if wording == 2:
        tone = None if piece.timbre is None else _phrase("with a", piece.timbre, "tone")
        return _listed([_phrase(notes, tone), _listed([piece.loudness, piece.envelope], " and ")], ", ")
    if wording == 3:
        return _listed([f"play {notes}", piece.timbre, piece.envelope, piece.loudness], ", ")
    raise ValueError(f"there are {WORDINGS} wordings, 0 to {WORDINGS - 1}; got {wording}")


def _listed(parts: list[str | None], joint: str) -> str:
    return joint.join(part for part in parts if part)


def _phrase(*words: str | None) -> str:
    return re.sub(r"\ba (?=[aeio]|A|E)", "an ", _listed(list(words), " "))


def parse_caption(text: str) -> Piece:
    """The piece that a caption describes, its words in any order.

    Raises:
        PromptError: a word that is not known (the nearest one is named), two words for one attribute, or not
            one or two notes that can be played.
    """
    words = re.findall(r"[^\s.,;:!?\"'()&+]+", _SPACED_NOTE.sub(r"\1\2\3", text.lower()))
    pitches: list[int] = []
    said: dict[str, str] = {}
    for word in words:
        word = SYNONYMS.get(word, word)
        attribute = next((name for name, valid in ATTRIBUTES.items() if word in valid), None)
        if attribute is not None:
            before = said.setdefault(attribute, word)
            if {before, word} == {"short", "plucked"}:  # "a short pluck, fading": a pluck is short, and what is heard
                said[attribute] = "plucked"
            elif before != word:
                raise PromptError(f"prompt {text!r}: {before!r} and {word!r} both say the {attribute}; choose one")
        elif word not in FILLERS:
            pitches.append(_pitch(word, text))
    if not pitches:
        raise PromptError(f"prompt {text!r} names no note; say one or two, as in 'a soft hollow C4, swelling'")
    try:
        return Piece.of(*dict.fromkeys(pitches), **said)
    except PromptError as error:
        raise PromptError(f"prompt {text!r}: {error}") from None


def _pitch(word: str, text: str) -> int:
    match = _NOTE.fullmatch(word)
    if match is None:
        known = [*SYNONYMS, *FILLERS, *sum(ATTRIBUTES.values(), ()), *(note_name(p).lower() for p in PITCHES)]
        near = difflib.get_close_matches(word, known, n=1)
        valid = "; ".join(f"{name}: {', '.join(words)}" for name, words in ATTRIBUTES.items())
        hint = f"did you mean {near[0]!r}?" if near else f"known are notes such as C4 or Fsharp3, and {valid}"
        raise PromptError(f"prompt {text!r}: unknown word {word!r}; {hint}")
    letter, accidental, octave = match.groups()
    if octave is None:
        raise PromptError(f"prompt {text!r}: the note {word!r} needs its octave, such as {word.capitalize()}4")
    return 12 * (int(octave) + 1) + LETTERS[letter.upper()] + _ACCIDENTALS[accidental]


def find_preset(name: str) -> tuple[int, ...]:
    """The numbers of voices that occur in a preset; a ValueError names the valid presets."""
    if name not in PRESETS:
        raise ValueError(f"unknown notes preset {name!r}; valid: {', '.join(PRESETS)}")
    return PRESETS[name]


@cache
def pieces_of(voices: int) -> tuple[Piece, ...]:
    """All combinations of one voice (640) or two (3060), without a loudness."""
    if voices == 1:
        chords: list[tuple[int, ...]] = [(pitch,) for pitch in PITCHES]
    else:
        chords = [pair for pair in pairs_of(PAIR_PITCHES, 2) if pair[1] - pair[0] in PAIR_INTERVALS]
    return tuple(Piece.of(*chord, timbre=t, envelope=e) for chord, t, e in product(chords, TIMBRES, ENVELOPES))


def with_loudness(piece: Piece, loudness: str | None) -> Piece:
    """The same piece, played so loud."""
    return Piece(tuple(replace(note, loudness=loudness) for note in piece.notes))


def is_held_out(piece: Piece) -> bool:
    """Whether a piece belongs to the held-out combinations: a property of pitches, timbre and envelope."""
    return share(caption(with_loudness(piece, None))) < HELD_OUT_SHARE


@cache
def parts_of(voices: int) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """The combinations of one voice or two that are trained on, and those that are held out."""
    pieces = pieces_of(voices)
    held_out = [is_held_out(piece) for piece in pieces]
    return (
        tuple(piece for piece, out in zip(pieces, held_out, strict=True) if not out),
        tuple(piece for piece, out in zip(pieces, held_out, strict=True) if out),
    )


def heldout_prompts(preset: str, n: int, seed: int) -> list[str]:
    """`n` captions of combinations that no training set of the preset holds, in all wordings and loudnesses.

    All combinations once at each loudness before any comes again; with one and two voices in the preset, they
    take turns.
    """
    counts = find_preset(preset)
    groups: list[list[str]] = []
    for voices in counts:
        held_out = [with_loudness(p, level) for p in parts_of(voices)[1] for level in LOUDNESSES]
        numbers = uniforms(seed, f"prompts/{voices}", np.arange(len(held_out)), 2)
        wordings = (numbers[:, 1] * WORDINGS).astype(int)
        groups.append([caption(held_out[i], int(wordings[i])) for i in np.argsort(numbers[:, 0])])
    turns = [groups[i % len(counts)] for i in range(n)]
    return [group[(i // len(counts)) % len(group)] for i, group in enumerate(turns)]
