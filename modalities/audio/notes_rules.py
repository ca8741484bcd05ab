"""Caption accuracy on `notes` by exact rules on the waveform: nothing is learnt, so nothing drifts.

    1. pitch: one voice by YIN (`notes_pitch`), two by templates (`notes_templates`); right within 50 cents of what was
       asked, in each voice. The caption says how many voices to listen for.
    2. timbre: the template nearest to the spectrum, at the pitch that was found.
    3. envelope: the levels of three parts of the clip, in dB below its loudest 0.1 s, lie within the bounds of SHAPES.
    4. loudness: the RMS level of the loudest 0.2 s, in dB of full scale, nearest to one of LEVELS.

Each rule has a tolerance, beyond which the answer is "none of them": noise is no note.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from framework.metrics.score import Score, verdicts
from modalities.audio.notes import LEVELS, loudest
from modalities.audio.notes_captions import Piece, frequency, parse_caption
from modalities.audio.notes_pitch import yin
from modalities.audio.notes_templates import find_pair, find_timbre
from modalities.audio.waveforms import Waveforms

ATTRIBUTES = ("pitch", "timbre", "envelope", "loudness")
GROUPS = {"single": 1, "double": 2}
CENTS, OCTAVE = 50.0, 1200.0
LEVEL_TOLERANCE = 4.5
# The parts of a clip that tell envelopes apart, and for each envelope the least and the largest level of each in dB.
PARTS = ((0.07, 0.13), (0.40, 0.55), (0.75, 0.90))
SHAPES = {
    "plucked": ((-9, 0), (-26, -9), (-math.inf, -18)),
    "sustained": ((-7, 0), (-7, 0), (-7, 0)),
    "swelling": ((-math.inf, -12), (-18, -3), (-6, 0)),
    "short": ((-6, 0), (-math.inf, -26), (-math.inf, -26)),
}


@dataclass(frozen=True)
class Heard:
    """What is heard in a clip: the pitch of each voice in Hz, the lowest first; NaN and None: like nothing we know."""

    pitches: tuple[float, ...]
    timbre: str | None
    envelope: str | None
    loudness: str | None


def listen(samples: Float[np.ndarray, " t"], rate: int, voices: int) -> Heard:
    """Everything that the rules find in one clip of one or two voices."""
    x = np.asarray(samples, np.float64)
    if not x.any() or not np.isfinite(x).all():
        return Heard((math.nan,) * voices, None, None, None)
    pitches: tuple[float, ...]
    if voices == 1:
        pitches = (yin(x, rate),)
        timbre = None if math.isnan(pitches[0]) else find_timbre(x, rate, pitches[0])
    else:
        *found, timbre = find_pair(x, rate)
        pitches = tuple(found)
    return Heard(pitches, timbre, find_envelope(x, rate), find_loudness(x, rate))


def find_envelope(samples: Float[np.ndarray, " t"], rate: int) -> str | None:
    """The envelope whose bounds hold the levels of all parts of the clip."""
    levels = part_levels(samples, rate)
    for name, bounds in SHAPES.items():
        if all(low <= level <= high for level, (low, high) in zip(levels, bounds, strict=True)):
            return name
    return None


def part_levels(samples: Float[np.ndarray, " t"], rate: int) -> list[float]:
    """The mean power of PARTS in dB relative to the loudest 0.1 s, at most 0."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples))])
    width = min(round(0.1 * rate), len(samples))
    peak = np.max(energy[width:] - energy[:-width]) / width
    edges = [(int(a * len(samples)), max(int(b * len(samples)), 1)) for a, b in PARTS]
    means = [(energy[b] - energy[a]) / max(b - a, 1) for a, b in edges]
    return [min(0.0, 10 * math.log10(max(mean / peak, 1e-12))) for mean in means]


def find_loudness(samples: Float[np.ndarray, " t"], rate: int) -> str | None:
    """The loudness whose level is nearest, if nearer than half the way between levels."""
    level = loudest(samples, rate)
    name = min(LEVELS, key=lambda word: abs(LEVELS[word] - level))
    return name if abs(LEVELS[name] - level) <= LEVEL_TOLERANCE else None


def error_cents(piece: Piece, heard: Heard) -> float:
    """How far the worst voice is from what was asked, in cents; NaN where a voice was not found."""
    pairs = zip(piece.pitches, heard.pitches, strict=True)
    errors = [abs(1200 * math.log2(found / frequency(asked))) for asked, found in pairs]
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def compare(piece: Piece, heard: Heard) -> dict[str, bool]:
    """What was heard against what was said, for each attribute that was said."""
    found = {"pitch": error_cents(piece, heard) <= CENTS}
    for name in ATTRIBUTES[1:]:
        asked = getattr(piece, name)
        if asked is not None:
            found[name] = asked == getattr(heard, name)
    return found


def judge(waveforms: Waveforms, prompts: Sequence[str]) -> dict[str, Mapping[str, Int64[np.ndarray, " n"]]]:
    """0 or 1 for each clip, by group (`single`, `double`: voices asked for) and attribute.

    `all` is the whole caption; an attribute is there for the clips whose caption speaks of it. A group without clips
    is an empty mapping.

    Raises:
        ValueError: not one prompt a clip.
        PromptError: a prompt that is not of notes.
    """
    pieces = _pieces(waveforms, prompts)
    scores: dict[str, dict[str, list[bool]]] = {group: {} for group in GROUPS}
    for i, piece in enumerate(pieces):
        found = compare(piece, _listen(waveforms, i, piece))
        group = next(name for name, voices in GROUPS.items() if voices == len(piece.notes))
        for name, verdict in {"all": all(found.values()), **found}.items():
            scores[group].setdefault(name, []).append(verdict)
    return {
        group: {name: np.array(values, np.int64) for name, values in rows.items()} for group, rows in scores.items()
    }


def scores(waveforms: Waveforms, prompts: Sequence[str]) -> dict[str, Score]:
    """Each clip by itself: whether its whole caption is obeyed, how far its worst voice is off, and whether the timbre,
    the envelope and the loudness are right, NaN where the caption says nothing of it.

    A pitch that is not heard is an octave off, and so is one that is farther: else a clip without any would not count.
    """
    pieces = _pieces(waveforms, prompts)
    heard = [_listen(waveforms, i, piece) for i, piece in enumerate(pieces)]
    said = [compare(piece, found) for piece, found in zip(pieces, heard, strict=True)]
    cents = [error_cents(piece, found) for piece, found in zip(pieces, heard, strict=True)]
    found = {
        "caption": verdicts([all(each.values()) for each in said], "caption is obeyed"),
        "pitch": Score(np.fmin(cents, OCTAVE), "pitch error, at most an octave", "lower", unit="cents"),
    }
    for name in ATTRIBUTES[1:]:
        values = np.array([float(each[name]) if name in each else math.nan for each in said])
        if np.isfinite(values).any():
            found[name] = verdicts(values, f"{name} is right")
    return found


def pitch_error_cents(waveforms: Waveforms, prompts: Sequence[str]) -> Float[np.ndarray, " n"]:
    """How far the worst voice of each clip is from its prompt, in cents; NaN where a voice was not found.

    Raises:
        ValueError: not one prompt a clip.
        PromptError: a prompt that is not of notes.
    """
    pieces = _pieces(waveforms, prompts)
    return np.array([error_cents(piece, _listen(waveforms, i, piece)) for i, piece in enumerate(pieces)])


def _pieces(waveforms: Waveforms, prompts: Sequence[str]) -> list[Piece]:
    if len(waveforms) != len(prompts):
        raise ValueError(f"one prompt a clip is needed, got {len(prompts)} prompts and {len(waveforms)} clips")
    return [parse_caption(prompt) for prompt in prompts]


def _listen(waveforms: Waveforms, i: int, piece: Piece) -> Heard:
    return listen(waveforms.clip(i).numpy(), waveforms.rate, len(piece.notes))
