"""Made shapes: points drawn evenly from the surfaces of six solids of random proportions, upright along z.

Each surface is a few patches; a patch is chosen by its area and a point of it by two uniform numbers, so that they lie
evenly. A cloud is then centred and scaled to one size, so that what tells shapes apart is their form. All is a function
of (seed, stream, item) alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int64

from diffract_pointclouds.clouds import normalised
from framework.data.counter import uniforms

Uniforms = Float[np.ndarray, "n 3"]
Points = Float[np.ndarray, "n 3"]


def sphere(p: Float[np.ndarray, " 2"], u: Uniforms) -> Points:
    """An ellipsoid: half as high as wide to half as much again."""
    z, turn = 2 * u[:, 0] - 1, 2 * np.pi * u[:, 1]
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(turn), r * np.sin(turn), (0.6 + 0.9 * p[0]) * z], 1)


def box(p: Float[np.ndarray, " 2"], u: Uniforms) -> Points:
    """A box of edges 1, 0.5 to 1 and 0.5 to 1.5."""
    edges = np.array([1.0, 0.5 + 0.5 * p[0], 0.5 + p[1]])
    areas = np.array([edges[1] * edges[2], edges[0] * edges[2], edges[0] * edges[1]])
    axis, inner = _choose(areas, u[:, 0])
    points = np.stack([u[:, 1], u[:, 2], np.where(inner < 0.5, 0.0, 1.0)], 1)
    return np.stack([np.roll(row, k + 1) for row, k in zip(points, axis, strict=True)]) * edges


def cylinder(p: Float[np.ndarray, " 2"], u: Uniforms) -> Points:
    """A closed cylinder of radius 0.3 to 0.7 and height 1.4 to 2."""
    radius, height = 0.3 + 0.4 * p[0], 1.4 + 0.6 * p[1]
    patch, inner = _choose(np.array([2 * np.pi * radius * height, 2 * np.pi * radius**2]), u[:, 0])
    wall = patch == 0
    r = np.where(wall, radius, radius * np.sqrt(u[:, 2]))
    return _round(r, u[:, 1], np.where(wall, height * u[:, 2], np.where(inner < 0.5, 0.0, height)))


def cone(p: Float[np.ndarray, " 2"], u: Uniforms) -> Points:
    """A cone with its base, of radius 0.5 to 0.9 and height 1.2 to 2."""
    radius, height = 0.5 + 0.4 * p[0], 1.2 + 0.8 * p[1]
    patch, _ = _choose(np.array([np.pi * radius * np.hypot(radius, height), np.pi * radius**2]), u[:, 0])
    r = radius * np.sqrt(u[:, 2])
    return _round(r, u[:, 1], np.where(patch == 0, height * (1 - r / radius), 0.0))


def torus(p: Float[np.ndarray, " 2"], u: Uniforms) -> Points:
    """A ring of radius 1 whose tube has the radius 0.2 to 0.45."""
    tube = 0.2 + 0.25 * p[0]
    # The area at the angle a of the tube goes as 1 + tube cos a: its distribution is inverted on a grid.
    grid = np.linspace(0, 2 * np.pi, 513)
    angle = np.interp(u[:, 0], (grid + tube * np.sin(grid)) / (2 * np.pi), grid)
    return _round(1 + tube * np.cos(angle), u[:, 1], tube * np.sin(angle))


def table(p: Float[np.ndarray, " 2"], u: Uniforms) -> Points:
    """A thin top on four thin legs, 0.8 to 1.6 as high as it is wide."""
    height, deep = 0.8 + 0.8 * p[0], 0.6 + 0.4 * p[1]
    patch, inner = _choose(np.array([2 * deep, *[0.2 * height] * 4]), u[:, 0])
    top = np.stack([u[:, 1], deep * u[:, 2], height + 0.05 * (inner - 0.5)], 1)
    corner = np.stack([np.isin(patch, (2, 4)), deep * np.isin(patch, (3, 4))], 1)
    inward = np.where(corner > 0, -1, 1) * 0.06 * np.stack([inner, u[:, 2]], 1)
    leg = np.concatenate([corner + inward, height * u[:, 1:2]], 1)
    return np.where((patch == 0)[:, None], top, leg)


SHAPES: dict[str, Callable[[Float[np.ndarray, " 2"], Uniforms], Points]] = {
    "sphere": sphere,
    "box": box,
    "cylinder": cylinder,
    "cone": cone,
    "torus": torus,
    "table": table,
}
NAMES = tuple(SHAPES)


def make(
    items: Int64[np.ndarray, " n"], seed: int, stream: str, least: int, most: int
) -> tuple[list[Points], Int64[np.ndarray, " n"]]:
    """Clouds of `least` to `most` points, and their classes, which come in turn."""
    u = uniforms(seed, f"shapes/{stream}", items, 3 + 3 * most)
    labels = items % len(NAMES)
    counts = least + np.floor(u[:, 2] * (most - least + 1)).astype(int)
    clouds = [
        normalised(SHAPES[NAMES[label]](row[:2], row[3 : 3 + 3 * count].reshape(count, 3)))
        for row, label, count in zip(u, labels, counts, strict=True)
    ]
    return clouds, labels


def _choose(areas: Float[np.ndarray, " k"], u: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Patches in proportion to their areas, and what is left of the uniform numbers: uniform, too."""
    ends = np.cumsum(areas) / areas.sum()
    patch = np.minimum(np.searchsorted(ends, u, side="right"), len(areas) - 1)
    return patch, (u - np.append(0.0, ends)[patch]) / (areas / areas.sum())[patch]


def _round(r: np.ndarray, turn: np.ndarray, z: np.ndarray) -> Points:
    return np.stack([r * np.cos(2 * np.pi * turn), r * np.sin(2 * np.pi * turn), z], 1)
