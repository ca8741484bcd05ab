"""Made clips: one coloured shape that moves over a dark ground, and what is said of it.

    a red bar moving left        a blue ball moving up

Shapes are where a norm of the offset from their centre is at most r: a ball, a lying bar, a standing pole, of one area.
A pixel is covered by clip(r - norm + 1/2, 0, 1) of it. All is a function of (seed, stream, item) alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from framework.data.counter import share, uniforms

COLOURS = {
    "red": (225, 45, 45),
    "green": (40, 200, 60),
    "blue": (60, 90, 240),
    "yellow": (235, 215, 50),
    "purple": (190, 60, 215),
    "white": (240, 240, 240),
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # x grows to the right, y downwards
LONG, THIN = 1.3, np.pi / 4 / 1.3  # half-sides of a bar and a pole, in radii of the ball of the same area
NORMS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ball": np.hypot,
    "bar": lambda x, y: np.maximum(abs(x) / LONG, abs(y) / THIN),
    "pole": lambda x, y: np.maximum(abs(x) / THIN, abs(y) / LONG),
}
GROUND, GROUND_JITTER, COLOUR_JITTER = 24.0, 8.0, 12.0
RADIUS, WAY = (0.15, 0.18), (0.42, 0.50)  # from, to: of a shape, and of its way in all, in units of the canvas
WIDTH = 10  # random numbers of a clip


class Subject(NamedTuple):
    """What a clip shows."""

    colour: str
    shape: str
    direction: str

    def __str__(self) -> str:
        return f"a {self.colour} {self.shape} moving {self.direction}"


SUBJECTS = [Subject(*words) for words in itertools.product(COLOURS, NORMS, DIRECTIONS)]
HELD_OUT = [subject for subject in SUBJECTS if share(str(subject)) < 0.15]
TRAINED = [subject for subject in SUBJECTS if subject not in HELD_OUT]


def coverage(
    shape: str, x: Float[np.ndarray, "*n"], y: Float[np.ndarray, "*n"], radius: Float[np.ndarray, "*n"], size: int
) -> Float[np.ndarray, "*n size size"]:
    """The share of each pixel that a shape covers; centre and radius in pixels."""
    grid = np.arange(size) + 0.5
    offsets = grid - x[..., None, None], grid[:, None] - y[..., None, None]
    return np.clip(radius[..., None, None] - NORMS[shape](*offsets) + 0.5, 0, 1)


def draw(
    subjects: list[Subject], items: Int[np.ndarray, " n"], seed: int, stream: str, frames: int, size: int
) -> UInt8[np.ndarray, "n t 3 size size"]:
    """Clips of these subjects; the path of each lies within the canvas."""
    u = uniforms(seed, f"clips/{stream}", items, WIDTH)
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * u[:, 0]
    way = np.array([DIRECTIONS[subject.direction] for subject in subjects], float)
    way *= (WAY[0] + (WAY[1] - WAY[0]) * u[:, 1])[:, None]
    low = np.maximum(-way, 0) + LONG * radius[:, None]
    high = 1 - np.maximum(way, 0) - LONG * radius[:, None]
    start = low + (high - low) * u[:, 2:4]
    centre = size * (start[:, None] + way[:, None] * np.linspace(0, 1, frames)[:, None])  # (n, t, 2)
    ground = GROUND + GROUND_JITTER * (2 * u[:, 4:5] - 1)
    colour = np.array([COLOURS[s.colour] for s in subjects], float) + COLOUR_JITTER * (2 * u[:, 5:8] - 1)
    clips = np.empty((len(subjects), frames, 3, size, size), np.uint8)
    for i, subject in enumerate(subjects):
        covered = coverage(subject.shape, *centre[i].T, np.full(frames, size * radius[i]), size)[:, None]
        picture = ground[i] + covered * (colour[i] - ground[i])[:, None, None]
        clips[i] = np.clip(np.rint(picture), 0, 255)
    return clips
