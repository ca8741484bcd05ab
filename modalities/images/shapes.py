"""`shapes`: a captioned set that is drawn, not downloaded; item i is a pure function of (seed, split, i).

An object of radius r at c covers the pixel at p by clip(1/2 - d(p - c), 0, 1), where d is the signed distance
to its outline in pixels: exact to about a hundredth for edges that are straight over a pixel, and so
anti-aliased at no cost. A picture is x = b + sum_k coverage_k (colour_k - b). Lengths are in sixteenths of
the canvas: a set looks the same at every size.

Position, radius and colours carry a slight jitter, too small to make any word of the caption doubtful: places
are at least 3.2 apart with a jitter of 0.35, radii 3 and 4.6 (two objects: 2.2 and 3.2) vary by 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from framework.data.counter import uniforms
from modalities.images.scenes import (
    ALL_COLOURS,
    ALL_SHAPES,
    BACKGROUNDS,
    COLOURS,
    LARGEST_SIZE,
    PLACES,
    RELATIONS,
    SHAPES,
    USUAL,
    Preset,
    Scene,
    Words,
    caption,
    combinations,
    find_preset,
    forget,
    is_held_out,
    parse,
    scenes_of,
)

__all__ = ["Shapes", "caption", "combinations", "coverage", "draw", "heldout_prompts", "parse"]

SPLITS = ("train", "validation", "heldout")
KINDS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
COLOUR_JITTER, BACKGROUND_JITTER, RADIUS_JITTER = 12.0, 8.0, 0.05
# Numbers that an item uses: scene (2), words unsaid (4), background (1), and six for each of two objects.
WIDTH = 19
CACHE_BYTES = 2**30
BLOCK = 2048


@dataclass(frozen=True)
class Layout:
    """Where objects go, in sixteenths of the canvas: radii, distance from the centre, its jitter."""

    small: float
    large: float
    offset: float
    jitter: float

    def radius(self, size: str | None) -> float:
        return self.small if size == "small" else self.large


LAYOUTS = {1: Layout(3.0, 4.6, 3.2, 0.35), 2: Layout(2.2, 3.2, 3.9, 0.2)}


class Item(TypedDict):
    """What every image data set returns; label -1: the picture has no class."""

    image: UInt8[Tensor, "c h w"]
    caption: str
    label: int


@dataclass(frozen=True)
class Layers:
    """Scenes as arrays, ready to be drawn; shape -1: there is no second object."""

    background: Float32[np.ndarray, "n 3"]
    shape: Int[np.ndarray, "n 2"]
    colour: Float32[np.ndarray, "n 2 3"]
    radius: Float32[np.ndarray, "n 2"]
    centre: Float32[np.ndarray, "n 2 2"]
    jitter: Float32[np.ndarray, " n"]

    def __getitem__(self, rows: Int[np.ndarray, " m"] | slice) -> Layers:
        fields = (self.background, self.shape, self.colour, self.radius, self.centre, self.jitter)
        return Layers(*(field[rows] for field in fields))


def layers(scenes: Sequence[Scene]) -> Layers:
    """Complete scenes as arrays; raises ValueError for a scene that leaves something unsaid."""
    n = len(scenes)
    table = Layers(
        background=np.zeros((n, 3), np.float32),
        shape=np.full((n, 2), -1),
        colour=np.zeros((n, 2, 3), np.float32),
        radius=np.ones((n, 2), np.float32),
        centre=np.full((n, 2, 2), 8.0, np.float32),
        jitter=np.zeros(n, np.float32),
    )
    for i, scene in enumerate(scenes):
        _require_complete(scene)
        layout = LAYOUTS[len(scene.things)]
        table.background[i] = BACKGROUNDS[str(scene.background)]
        table.jitter[i] = layout.jitter
        direction = np.array(PLACES[scene.place] if scene.place else RELATIONS[str(scene.relation)])
        for k, thing in enumerate(scene.things):
            table.shape[i, k] = ALL_SHAPES.index(thing.shape)
            table.colour[i, k] = ALL_COLOURS[str(thing.colour)]
            table.radius[i, k] = layout.radius(thing.size)
            table.centre[i, k] += (1 - 2 * k) * layout.offset * direction
    return table


def _require_complete(scene: Scene) -> None:
    said = [value for thing in scene.things for value in (thing.colour, thing.size)]
    said += [scene.background, scene.relation if len(scene.things) == 2 else scene.place]
    if None in said:
        raise ValueError(
            f"cannot draw {caption(scene)!r}: a picture needs the colour and size of every object, a "
            "background, and a place (one object) or a relation (two)"
        )


def coverage(
    shape: str, centre: Float[np.ndarray, "n 2"], radius: Float[np.ndarray, " n"], size: int
) -> Float32[np.ndarray, "n size size"]:
    """The share of each pixel that an object covers; `centre` (x, y) of its box and `radius` in pixels.

    A circle has that radius, a square half that side times 0.9, a triangle that half width and 0.95 of it as
    half height, a diamond 1.1 of it as half its width and height.
    """
    grid = np.arange(size, dtype=np.float32) + 0.5
    x = grid[None, None, :] - centre[:, 0, None, None].astype(np.float32)
    y = grid[None, :, None] - centre[:, 1, None, None].astype(np.float32)
    r = radius[:, None, None].astype(np.float32)
    if shape == "circle":
        return np.clip(0.5 + r - np.sqrt(x * x + y * y), 0, 1)
    if shape == "square":
        return np.clip(0.5 + 0.9 * r - abs(x), 0, 1) * np.clip(0.5 + 0.9 * r - abs(y), 0, 1)
    if shape == "triangle":
        height = 0.95 * r
        side = (2 * height * abs(x) - r * (y + height)) / np.sqrt(4 * height**2 + r**2)
        return np.clip(0.5 - side, 0, 1) * np.clip(0.5 + height - y, 0, 1)
    if shape == "diamond":
        return np.clip(0.5 + (1.1 * r - abs(x) - abs(y)) / np.sqrt(2), 0, 1)
    raise ValueError(f"unknown shape {shape!r}; valid: {', '.join(ALL_SHAPES)}")


def paint(table: Layers, numbers: Float[np.ndarray, "n width"], size: int) -> UInt8[np.ndarray, "n 3 size size"]:
    """The pictures of scenes; `numbers` in [0, 1) set the jitter (0.5: none)."""
    out = np.empty((len(numbers), 3, size, size), np.uint8)
    for start in range(0, len(numbers), BLOCK):
        block = slice(start, start + BLOCK)
        out[block] = _paint_block(table[block], 2 * numbers[block].astype(np.float32) - 1, size)
    return out


def _paint_block(
    table: Layers, jitter: Float32[np.ndarray, "n width"], size: int
) -> UInt8[np.ndarray, "n 3 size size"]:
    unit = size / 16
    background = table.background + BACKGROUND_JITTER * jitter[:, 6:7]
    picture = np.repeat(background[:, :, None], size * size, axis=2).reshape(-1, 3, size, size)
    for k in range(2):
        own = jitter[:, 7 + 6 * k : 13 + 6 * k]
        centre = unit * (table.centre[:, k] + table.jitter[:, None] * own[:, :2])
        radius = unit * table.radius[:, k] * (1 + RADIUS_JITTER * own[:, 2])
        contrast = table.colour[:, k] + COLOUR_JITTER * own[:, 3:] - background
        for index, shape in enumerate(ALL_SHAPES):
            rows = np.flatnonzero(table.shape[:, k] == index)
            covered = coverage(shape, centre[rows], radius[rows], size)
            picture[rows] += covered[:, None] * contrast[rows][:, :, None, None]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def draw(scene: Scene, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """The picture of a complete scene without any jitter, on a canvas of `size` pixels."""
    return paint(layers([scene]), np.full((1, WIDTH), 0.5), size)[0]


def heldout_prompts(preset: str, n: int, seed: int, shown: Words = USUAL) -> list[str]:
    """`n` captions of combinations that no training set of the preset holds: all once before any comes again.

    With one and two objects in the preset, they take turns.
    """
    counts = find_preset(preset).objects
    prompts: list[list[str]] = []
    for count in counts:
        held_out = [caption(scene) for scene in scenes_of(count, shown) if is_held_out(scene)]
        order = np.argsort(uniforms(seed, f"prompts/{count}", np.arange(len(held_out)), 1)[:, 0])
        prompts.append([held_out[i] for i in order])
    turns = [prompts[i % len(counts)] for i in range(n)]
    return [group[(i // len(counts)) % len(group)] for i, group in enumerate(turns)]


class Shapes(Dataset[Item]):
    """Pictures of coloured shapes with captions.

    Splits: `train`; `validation`: the training combinations in fresh pictures;
    `heldout`: combinations that are never trained on.

    `size` is the canvas in pixels, `dropout` the probability of each optional word (size, place, background) to be left
    unsaid, `shown` the colours and shapes that objects have. The label of a single object is its kind, an index into
    KINDS; of two objects there is none (-1), nor of other colours and shapes. A set is painted at construction when it
    fits into a gibibyte, else item by item; the items are the same.
    """

    def __init__(
        self,
        preset: str = "single",
        split: str = "train",
        length: int = 20_000,
        size: int | None = None,
        seed: int = 0,
        dropout: float = 0.0,
        shown: Words = USUAL,
    ) -> None:
        chosen = find_preset(preset)
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r} of shapes; valid: {', '.join(SPLITS)}")
        if length < 1:
            raise ValueError(f"a shapes set needs at least one item, got length={length}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability in [0, 1], got {dropout}")
        self.preset, self.split, self.length, self.seed = preset, split, length, seed
        self.size = check_size(chosen, size)
        self.dropout = dropout
        groups = [
            [scene for scene in scenes_of(count, shown) if is_held_out(scene) == (split == "heldout")]
            for count in chosen.objects
        ]
        self.scenes = [scene for group in groups for scene in group]
        self._group_sizes = np.array([len(group) for group in groups])
        self._layers = layers(self.scenes)
        self._painted: UInt8[np.ndarray, "n 3 h w"] | None = None
        if length * 3 * self.size**2 <= CACHE_BYTES:
            self._painted = self._paint(np.arange(length))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of a shapes set of {self.length}")
        picture = self._paint(np.array([index]))[0] if self._painted is None else self._painted[index]
        scene = self.described(index)
        return Item(image=torch.from_numpy(picture.copy()), caption=caption(scene), label=kind(scene))

    def described(self, index: int) -> Scene:
        """What the caption of an item says: its scene, less the words that are dropped."""
        numbers = self._numbers(np.array([index]))
        scene = self.scenes[int(self._choose(numbers)[0])]
        if self.dropout == 0:
            return scene
        hide = numbers[0, 2:6] < self.dropout
        sizes = tuple(bool(value) for value in hide[: len(scene.things)])
        return forget(scene, sizes=sizes, place=bool(hide[2]), background=bool(hide[3]))

    def _numbers(self, items: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n width"]:
        return uniforms(self.seed, f"shapes/{self.preset}/{self.split}", items, WIDTH)

    def _choose(self, numbers: Float[np.ndarray, "n width"]) -> Int[np.ndarray, " n"]:
        """One object or two with equal chance, then a combination with equal chance."""
        group = (numbers[:, 0] * len(self._group_sizes)).astype(np.int64)
        first = np.cumsum(self._group_sizes) - self._group_sizes
        return first[group] + (numbers[:, 1] * self._group_sizes[group]).astype(np.int64)

    def _paint(self, items: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3 h w"]:
        numbers = self._numbers(items)
        return paint(self._layers[self._choose(numbers)], numbers, self.size)


def check_size(preset: Preset, size: int | None) -> int:
    """The canvas in pixels, the preset's own for None; raises ValueError outside the preset's range."""
    size = preset.size if size is None else size
    if not preset.smallest_size <= size <= LARGEST_SIZE:
        raise ValueError(
            f"shapes preset {preset.name!r} is drawn on {preset.smallest_size} to {LARGEST_SIZE} pixels; "
            f"got size={size}"
        )
    return size


def kind(scene: Scene) -> int:
    """The index into KINDS of a single object's colour and shape; -1 for two objects or an unsaid colour."""
    name = f"{scene.things[0].colour} {scene.things[0].shape}"
    return KINDS.index(name) if len(scene.things) == 1 and name in KINDS else -1
