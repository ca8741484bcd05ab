"""What a clip shows, by exact rules on pixels: nothing is learnt, so nothing drifts.

1. ground: the median of the border of all frames.
2. object of a frame: where |x - ground| is above half of its maximum in the clip; its connected parts, less specks.
3. colour: the median over the inner pixels of all frames; its name is the nearest of the palette's.
4. coverage m = <x - g, c - g> / |c - g|^2 and its centre of mass; shape: of the templates around that centre, of the
   same area, the one with the best sum min(m, t) / sum max(m, t) over all frames.
5. direction: that of the way from the first centre to the last, if it is straight.
6. one object: one connected part in each frame, of nearly the same area throughout, that moves evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor

from diffract_video.clips import COLOURS, DIRECTIONS, NORMS, coverage

CONTRAST, COLOUR_TOLERANCE = 50.0, 70.0  # distances of colours in 0..255
SPECK = 0.2  # of the area of the largest part: smaller ones are no objects
LEAST_OVERLAP = 0.75  # of a shape with its template
LEAST_WAY, STRAIGHT = 0.25, 0.35  # of the canvas in all; the most across, in units of the way
STEADY_AREA, STEADY_STEP = 0.25, 0.6  # the largest deviation from the mean, in its units
ATTRIBUTES = ("colour", "shape", "direction", "one_object")


@dataclass(frozen=True)
class Seen:
    """What a clip shows; None: like nothing we know."""

    colour: str | None = None
    shape: str | None = None
    direction: str | None = None
    one_object: bool = False


def look(clip: UInt8[np.ndarray, "t 3 s s"]) -> Seen:
    """What is seen in a clip, by the rules above."""
    x = clip.astype(np.float64)
    border = np.concatenate([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], axis=2)
    ground = np.median(border, axis=(0, 2))
    distance = np.linalg.norm(x - ground[:, None, None], axis=1)
    found = distance > max(CONTRAST, distance.max() / 2)
    if not found.any(axis=(1, 2)).all():
        return Seen()
    inner = np.stack([ndimage.binary_erosion(frame) for frame in found])
    colour = np.median(x.transpose(1, 0, 2, 3)[:, inner if inner.any() else found], axis=1)
    contrast = colour - ground
    m = np.clip(np.einsum("c,tchw->thw", contrast, x - ground[:, None, None]) / (contrast @ contrast), 0, 1)
    m = m * np.stack([ndimage.binary_dilation(frame, np.ones((3, 3))) for frame in found])
    area = m.sum((1, 2))
    grid = np.arange(m.shape[2]) + 0.5
    centre = np.stack([(m * grid).sum((1, 2)), (m * grid[:, None]).sum((1, 2))], 1) / area[:, None]
    steps = np.diff(centre, axis=0)
    even = np.linalg.norm(steps - steps.mean(0), axis=1).max() <= STEADY_STEP * max(np.linalg.norm(steps.mean(0)), 0.5)
    steady = abs(area / area.mean() - 1).max() <= STEADY_AREA
    one = all(_parts(frame) == 1 for frame in found)
    return Seen(_colour(colour), _shape(m, centre, area), _direction(centre, m.shape[2]), bool(one and even and steady))


def verdicts(
    clips: UInt8[Tensor, "n t 3 s s"] | UInt8[np.ndarray, "n t 3 s s"], captions: Sequence[str]
) -> Mapping[str, Float[np.ndarray, " n"]]:
    """0 or 1 for each clip: `all`, and each of ATTRIBUTES, compared with what the caption says."""
    rows = []
    for clip, caption in zip(clips, captions, strict=True):
        seen, said = look(np.asarray(clip)), caption.split()
        right = [seen.colour in said, seen.shape in said, seen.direction in said, seen.one_object]
        rows.append([all(right), *right])
    table = np.array(rows, dtype=np.float64).reshape(-1, 1 + len(ATTRIBUTES))
    return dict(zip(("all", *ATTRIBUTES), table.T, strict=True))


def _parts(found: np.ndarray) -> int:
    """The number of connected parts that are no specks."""
    labels, number = ndimage.label(found, np.ones((3, 3)))
    areas = ndimage.sum_labels(found, labels, np.arange(1, number + 1))
    return int((areas > SPECK * areas.max()).sum())


def _colour(colour: Float[np.ndarray, 3]) -> str | None:
    distances = {name: float(np.linalg.norm(colour - np.array(value))) for name, value in COLOURS.items()}
    best = min(distances, key=lambda name: distances[name])
    return best if distances[best] <= COLOUR_TOLERANCE else None


def _shape(
    m: Float[np.ndarray, "t s s"], centre: Float[np.ndarray, "t 2"], area: Float[np.ndarray, " t"]
) -> str | None:
    overlaps = {}
    for shape in NORMS:
        unit = coverage(shape, *np.full((2, 1), 32.0), np.full(1, 20.0), 64).sum() / 400  # area of radius 1
        template = coverage(shape, *centre.T, np.sqrt(area / unit), m.shape[2])
        overlaps[shape] = np.minimum(m, template).sum() / np.maximum(m, template).sum()
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return best if overlaps[best] >= LEAST_OVERLAP else None


def _direction(centre: Float[np.ndarray, "t 2"], size: int) -> str | None:
    way = (centre[-1] - centre[0]) / size
    for name, unit in DIRECTIONS.items():
        along, across = way @ unit, np.abs((centre - centre[0]) / size @ np.array(unit)[::-1]).max()
        if along >= LEAST_WAY and across <= STRAIGHT * along:
            return name
    return None
