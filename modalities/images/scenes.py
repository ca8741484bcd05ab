"""The little language of the `shapes` set: scenes, the captions that say them, the combinations held out.

    scene    = object [place] [background]  |  object relation object [background]
    object   = a [small | large] [colour] shape          "a small red circle"
    place    = in the centre | at the left | ...         "a small red circle at the left on a grey background"
    relation = left of | right of | above | below        "a red circle left of a large blue square"

`caption` and `parse` are inverse to each other. What a caption leaves out is None in the parsed scene: not
constrained. A combination is a complete scene; about 15 % of them are held out by a hash of their meaning ("A
left of B" and "B right of A" mean the same, so both are held out or neither is), so that a model is judged on
captions it never saw.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from framework.data.counter import share

# Sets show the first words unless they are told to show others, which are there to be learnt later.
COLOURS = {"red": (220, 45, 45), "green": (40, 170, 70), "blue": (50, 80, 220), "yellow": (240, 205, 45)}
BACKGROUNDS = {"black": (8, 8, 8), "white": (247, 247, 247), "grey": (128, 128, 128)}
OTHER_COLOURS = {"teal": (0, 150, 150)}
ALL_COLOURS = COLOURS | OTHER_COLOURS
SHAPES = ("circle", "square", "triangle")
OTHER_SHAPES = ("diamond",)
ALL_SHAPES = SHAPES + OTHER_SHAPES
SIZES = ("small", "large")
# Directions from the canvas' centre; y points down, as rows of pixels do.
PLACES = {"centre": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
# Direction from the second object to the first.
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SYNONYMS = {"gray": "grey", "center": "centre", "middle": "centre"}
HELD_OUT_SHARE = 0.15

_OBJECT = rf"(?:(?:a|the) )?(?:({'|'.join(SIZES)}) )?(?:({'|'.join(ALL_COLOURS)}) )?({'|'.join(ALL_SHAPES)})"
_GRAMMAR = re.compile(
    rf"{_OBJECT}(?: (?:in|at|on) the ({'|'.join(PLACES)})| (?:to the )?({'|'.join(RELATIONS)}) {_OBJECT})?"
    rf"(?: on (?:a|the) ({'|'.join(BACKGROUNDS)}) background)?"
)
VOCABULARY = tuple(
    dict.fromkeys(
        ["a", "the", "in", "at", "on", "to", "of", "background", *SIZES, *ALL_COLOURS, *ALL_SHAPES, *PLACES]
        + [word for relation in RELATIONS for word in relation.split()]
        + list(BACKGROUNDS)
    )
)


@dataclass(frozen=True)
class Thing:
    """One object; None: the caption does not say."""

    shape: str
    colour: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Scene:
    """One object at a place, or two in a relation, on a background; None: the caption does not say."""

    things: tuple[Thing, ...]
    place: str | None = None
    relation: str | None = None
    background: str | None = None


@dataclass(frozen=True)
class Preset:
    """What the pictures of a set show: the numbers of objects that occur, and the canvas in pixels."""

    name: str
    objects: tuple[int, ...]
    size: int
    smallest_size: int


PRESETS = {
    "single": Preset("single", objects=(1,), size=16, smallest_size=16),
    "double": Preset("double", objects=(2,), size=24, smallest_size=24),
    "mixed": Preset("mixed", objects=(1, 2), size=24, smallest_size=24),
}
LARGEST_SIZE = 32


def find_preset(name: str) -> Preset:
    """The preset of that name; a ValueError names the valid ones."""
    if name not in PRESETS:
        raise ValueError(f"unknown shapes preset {name!r}; valid: {', '.join(PRESETS)}")
    return PRESETS[name]


def caption(scene: Scene) -> str:
    """The words for a scene; what is None is left unsaid."""
    words = [_noun(scene.things[0])]
    if scene.place is not None:
        words.append(f"in the {scene.place}" if scene.place == "centre" else f"at the {scene.place}")
    if scene.relation is not None:
        words += [scene.relation, _noun(scene.things[1])]
    if scene.background is not None:
        words.append(f"on a {scene.background} background")
    return " ".join(words)


def _noun(thing: Thing) -> str:
    return " ".join(word for word in ("a", thing.size, thing.colour, thing.shape) if word is not None)


def parse(text: str) -> Scene:
    """The scene that a caption describes; raises ValueError for a word or a sentence it does not know."""
    words = [SYNONYMS.get(word, word) for word in re.findall(r"[^\s.,;:!?\"']+", text.lower())]
    for word in words:
        if word not in VOCABULARY:
            near = difflib.get_close_matches(word, VOCABULARY, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known words: {', '.join(VOCABULARY)}"
            raise ValueError(f"caption {text!r}: unknown word {word!r}; {hint}")
    match = _GRAMMAR.fullmatch(" ".join(words))
    if match is None:
        raise ValueError(
            f"caption {text!r} is no sentence of the shapes set; examples: 'a small red circle at the left "
            "on a white background', 'a red circle left of a large blue square on a black background'"
        )
    size, colour, shape, place, relation, other_size, other_colour, other_shape, background = match.groups()
    things: tuple[Thing, ...] = (Thing(shape, colour, size),)
    if relation is not None:
        things += (Thing(other_shape, other_colour, other_size),)
    return Scene(things, place, relation, background)


def forget(scene: Scene, *, sizes: tuple[bool, ...], place: bool, background: bool) -> Scene:
    """The scene with some optional attributes unsaid: `sizes` for each object, the place, the background."""
    things = tuple(
        replace(thing, size=None) if hide else thing for thing, hide in zip(scene.things, sizes, strict=True)
    )
    return Scene(
        things,
        None if place else scene.place,
        scene.relation,
        None if background else scene.background,
    )


def combinations(preset: str) -> tuple[Scene, ...]:
    """All complete scenes of a preset: 360 of one object, 6336 of two that differ in colour or shape."""
    return tuple(scene for count in find_preset(preset).objects for scene in scenes_of(count))


@dataclass(frozen=True)
class Words:
    """The colours and shapes that objects of a set have."""

    colours: tuple[str, ...] = tuple(COLOURS)
    shapes: tuple[str, ...] = SHAPES


USUAL = Words()


def words(colours: Sequence[str] | None = None, shapes: Sequence[str] | None = None) -> Words:
    """Those of the names that are given, and all that sets show by themselves for None; ValueError for others."""
    for kind, given, known in (("colour", colours, ALL_COLOURS), ("shape", shapes, ALL_SHAPES)):
        if given is not None and (not given or set(given) - set(known)):
            raise ValueError(f"{kind}s {list(given)}: a shapes set shows some of {', '.join(known)}")
    return Words(
        USUAL.colours if colours is None else tuple(colours), USUAL.shapes if shapes is None else tuple(shapes)
    )


@cache
def scenes_of(count: int, shown: Words = USUAL) -> tuple[Scene, ...]:
    """All complete scenes of one or two objects."""
    things = [Thing(*values) for values in product(shown.shapes, shown.colours, SIZES)]
    if count == 1:
        return tuple(Scene((a,), p, None, b) for a, p, b in product(things, PLACES, BACKGROUNDS))
    # Two objects alike in colour and shape could not be told apart once their sizes are left unsaid.
    pairs = [(a, b) for a, b in product(things, things) if (a.shape, a.colour) != (b.shape, b.colour)]
    return tuple(Scene(p, None, r, b) for p, r, b in product(pairs, RELATIONS, BACKGROUNDS))


def is_held_out(scene: Scene) -> bool:
    """Whether a complete scene belongs to the held-out combinations: a property of its meaning alone."""
    if scene.relation in ("right of", "below"):
        scene = replace(scene, things=scene.things[::-1], relation=OPPOSITE[scene.relation])
    return share(caption(scene)) < HELD_OUT_SHARE
