"""Caption accuracy on `shapes` by exact rules on pixels: nothing is learnt, so nothing drifts.

    1. background b: the median of the border; its name is the nearest of the palette's.
    2. foreground: |x - b| above half of its maximum nearby (and above what noise reaches); its connected
       parts are the objects.
    3. colour c of an object: the median of its inner pixels; its name is the nearest of the palette's.
    4. coverage m = <x - b, c - b> / |c - b|^2 in [0, 1], as the drawing defines it.
    5. shape, place and size: the template of `shapes.coverage` with the best soft intersection over union
       sum min(m, t) / sum max(m, t), its centre and radius first from the moments of m, then by a search
       around them.
    6. place and relation from the fitted centres, size from the fitted radius.

Each rule has a tolerance, beyond which the answer is "none of them": a grey blob is no circle. Two objects
are compared with the two of the caption in the order that agrees best in colour and shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from scipy import ndimage
from torch import Tensor

from modalities.images.scenes import (
    ALL_COLOURS,
    ALL_SHAPES,
    BACKGROUNDS,
    PLACES,
    RELATIONS,
    SIZES,
    Scene,
    Thing,
    parse,
)
from modalities.images.shapes import LAYOUTS, Layout, coverage

# Distances between RGB colours in 0..255. Noise of standard deviation 10 stays below CONTRAST with certainty.
CONTRAST, COLOUR_TOLERANCE, BACKGROUND_TOLERANCE = 60.0, 80.0, 64.0
# The best template must agree with the object this well: generated outlines are soft, blobs are worse.
LEAST_OVERLAP = 0.7
# Specks smaller than this, in squared sixteenths of the canvas, are no objects (the smallest has about 8).
SPECK = 2.0
# Areas, and the height of the centroid below the box's centre, for radius 1, as `coverage` draws them.
UNIT_AREAS = {"circle": (np.pi, 0.0), "square": (3.24, 0.0), "triangle": (1.9, 0.95 / 3), "diamond": (2.42, 0.0)}


@dataclass(frozen=True)
class Found:
    """An object seen in a picture, lengths in sixteenths of the canvas; None: like nothing we know."""

    colour: str | None
    shape: str | None
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class Judgement:
    """Whether a picture agrees with its caption; what the caption leaves unsaid agrees with everything."""

    count: bool
    colour: bool
    shape: bool
    size: bool
    place: bool
    background: bool
    relation: bool

    @property
    def all(self) -> bool:
        return all(getattr(self, name) for name in ATTRIBUTES)


ATTRIBUTES = tuple(field.name for field in fields(Judgement))


def judge(image: UInt8[Tensor, "3 h w"] | UInt8[np.ndarray, "3 h w"], text: str) -> Judgement:
    """Compare a square RGB picture with a caption; raises ValueError for a caption that is not of shapes."""
    scene = parse(text)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.shape[1] != pixels.shape[2]:
        raise ValueError(f"a picture to judge is uint8 of shape (3, size, size); got {pixels.dtype} {pixels.shape}")
    return compare(scene, *look(pixels))


def caption_accuracy(
    images: Iterable[UInt8[Tensor, "3 h w"] | UInt8[np.ndarray, "3 h w"]], captions: Sequence[str]
) -> Mapping[str, Int64[np.ndarray, " n"]]:
    """0 or 1 for each picture: `all`, and each attribute over the pictures whose caption speaks of it."""
    scores: dict[str, list[bool]] = {name: [] for name in ("all", *ATTRIBUTES)}
    for image, text in zip(images, captions, strict=True):
        judgement = judge(image, text)
        scores["all"].append(judgement.all)
        for name in spoken_of(parse(text)):
            scores[name].append(getattr(judgement, name))
    return {name: np.array(values, np.int64) for name, values in scores.items() if values}


def spoken_of(scene: Scene) -> tuple[str, ...]:
    """The attributes that a caption says something about."""
    said = {
        "count": True,
        "colour": any(thing.colour for thing in scene.things),
        "shape": True,
        "size": any(thing.size for thing in scene.things),
        "place": scene.place is not None,
        "background": scene.background is not None,
        "relation": scene.relation is not None,
    }
    return tuple(name for name in ATTRIBUTES if said[name])


def look(pixels: UInt8[np.ndarray, "3 s s"]) -> tuple[str | None, list[Found]]:
    """The background's name (None: like none of them) and the objects, the largest first."""
    x = pixels.astype(np.float64)
    size = x.shape[1]
    unit = size / 16
    border = np.concatenate([x[:, 0], x[:, -1], x[:, 1:-1, 0], x[:, 1:-1, -1]], axis=1)
    background = np.median(border, axis=1)
    distance = np.linalg.norm(x - background[:, None, None], axis=0)
    nearby = ndimage.maximum_filter(distance, size=2 * round(2 * unit) + 1)
    labels, number = ndimage.label(distance > np.maximum(CONTRAST, nearby / 2))
    areas = ndimage.sum_labels(np.ones_like(labels), labels, np.arange(1, number + 1))
    objects = [
        _recognise(x, background, labels == index + 1)
        for index in np.argsort(-areas)
        if areas[index] >= SPECK * unit**2
    ]
    return _nearest(background, BACKGROUNDS, BACKGROUND_TOLERANCE), objects


def _recognise(x: Float[np.ndarray, "3 s s"], background: Float[np.ndarray, 3], mask: Bool[np.ndarray, "s s"]) -> Found:
    """Colour, shape, centre and radius of the object under a mask."""
    unit = x.shape[1] / 16
    inner = ndimage.binary_erosion(mask, border_value=1)
    colour = np.median(x[:, inner if inner.any() else mask], axis=1)
    contrast = colour - background
    covered = np.tensordot(contrast, x - background[:, None, None], axes=1) / (contrast @ contrast)
    # The soft edge is up to a pixel outside the mask; beyond, what is not background belongs to others.
    covered = np.clip(covered, 0, 1) * ndimage.binary_dilation(mask, np.ones((3, 3)))
    fits = [_fit(shape, covered) for shape in ALL_SHAPES]
    best = int(np.argmax([overlap for overlap, _, _ in fits]))
    overlap, centre, radius = fits[best]
    return Found(
        _nearest(colour, ALL_COLOURS, COLOUR_TOLERANCE),
        ALL_SHAPES[best] if overlap >= LEAST_OVERLAP else None,
        (centre[0] / unit, centre[1] / unit),
        radius / unit,
    )


def _fit(shape: str, covered: Float[np.ndarray, "s s"]) -> tuple[float, tuple[float, float], float]:
    """Overlap, centre and radius (pixels) of a shape's best template: moments, then two rounds of search."""
    size = covered.shape[0]
    area = covered.sum()
    y, x = (ndimage.center_of_mass(covered)[axis] + 0.5 for axis in (0, 1))
    unit_area, drop = UNIT_AREAS[shape]
    radius = float(np.sqrt(area / unit_area))
    best, at = 0.0, np.array([x, y - drop * radius, radius])
    for step in (0.5, 0.2):
        moves = step * np.array(list(product((-1, 0, 1), repeat=3)))
        tries = at + moves * (size / 16)
        templates = coverage(shape, tries[:, :2], np.maximum(tries[:, 2], 0.5), size)
        overlaps = np.minimum(templates, covered).sum((1, 2)) / np.maximum(templates, covered).sum((1, 2))
        best, at = float(overlaps.max()), tries[overlaps.argmax()]
    return best, (float(at[0]), float(at[1])), float(at[2])


def _nearest(colour: Float[np.ndarray, 3], palette: Mapping[str, tuple[int, int, int]], tolerance: float) -> str | None:
    distances = {name: float(np.linalg.norm(colour - np.array(value))) for name, value in palette.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= tolerance else None


def compare(scene: Scene, background: str | None, found: Sequence[Found]) -> Judgement:
    """What was seen against what was said; with an object missing, nothing said of objects is right."""
    count = len(found) == len(scene.things)
    seen = scene.background is None or scene.background == background
    if len(found) < len(scene.things):
        return Judgement(count, False, False, False, scene.place is None, seen, scene.relation is None)
    layout = LAYOUTS[len(scene.things)]
    orders = [found[: len(scene.things)]]
    if len(scene.things) == 2:
        orders.append(orders[0][::-1])
    judgements = [_compare_in_order(scene, order, layout, count, seen) for order in orders]
    return max(judgements, key=lambda j: (j.colour + j.shape, j.size, j.relation))


def _compare_in_order(scene: Scene, found: Sequence[Found], layout: Layout, count: bool, background: bool) -> Judgement:
    pairs: list[tuple[Thing, Found]] = list(zip(scene.things, found, strict=True))
    return Judgement(
        count=count,
        colour=all(thing.colour in (None, seen.colour) for thing, seen in pairs),
        shape=all(thing.shape == seen.shape for thing, seen in pairs),
        size=all(thing.size in (None, _size(seen.radius, layout)) for thing, seen in pairs),
        place=scene.place is None or scene.place == _place(found[0], layout),
        background=background,
        relation=scene.relation is None or scene.relation == _relation(found[0], found[1], layout),
    )


def _size(radius: float, layout: Layout) -> str | None:
    """small or large, split half way; None beyond a quarter below the small or above the large."""
    if not 0.75 * layout.small <= radius <= 1.25 * layout.large:
        return None
    return SIZES[int(radius > (layout.small + layout.large) / 2)]


def _place(found: Found, layout: Layout) -> str | None:
    """The nearest place, if nearer than half the way between places."""
    offset = np.array(found.centre) - 8
    distances = {name: np.linalg.norm(offset - layout.offset * np.array(at)) for name, at in PLACES.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= layout.offset / 2 else None


def _relation(first: Found, second: Found, layout: Layout) -> str | None:
    """The relation whose axis holds most of the way from the second to the first; None near the diagonal."""
    way = np.array(first.centre) - np.array(second.centre)
    along = {name: float(way @ np.array(direction)) for name, direction in RELATIONS.items()}
    name = max(along, key=along.__getitem__)
    across = float(np.abs(way).min())
    return name if along[name] >= layout.offset and across <= along[name] / 2 else None
