"""Balls and sticks: a molecule as a picture, painted with numpy.

The view is parallel, along z. A pixel (x, y) meets the ball of radius r around c at z = c_z + sqrt(r² - |q|²), with
q = (x, y) - c_xy. It meets the stick of radius r along the unit vector u from c where the distance from the axis is r:

    z² (1 - u_z²) - 2 s u_z z + |q|² - s² - r² = 0,    s = q · u_xy,

the larger root, if its place s + z u_z on the axis lies between the ends. What is nearest is kept (a depth buffer), so
that balls and sticks cut each other exactly. Twice the pixels are painted, and averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from rdkit import Chem

from modalities.molecules.molecule import Molecule

# Close to Corey, Pauling and Koltun's, tuned so that all stand out from white; others are pink.
COLOURS = {
    1: (232, 232, 232),
    5: (255, 171, 145),
    6: (84, 88, 96),
    7: (52, 92, 235),
    8: (228, 42, 36),
    9: (96, 190, 72),
    14: (222, 184, 135),
    15: (255, 140, 20),
    16: (236, 196, 42),
    17: (30, 170, 60),
    34: (224, 150, 20),
    35: (150, 44, 36),
    53: (128, 30, 150),
}
OTHER = (214, 100, 170)
MARKED = (235, 60, 60)
STICKS = {1: (0.115, (0.0,)), 2: (0.078, (-0.14, 0.14)), 3: (0.06, (-0.17, 0.0, 0.17))}  # radius, places; Angstrom
LIGHT = np.array([-0.35, 0.5, 0.79], np.float32)
TILT = (-0.30, 0.35)  # rad about x and y: what lies behind another atom when seen straight on comes out
FINER = 2
HAZE = 0.36
CLOSEST = 34.0  # pixels an Angstrom at 200 pixels of width: small molecules are not blown up


@dataclass(frozen=True)
class View:
    """Where a picture is taken from: pixels are scale * rotation (x - centre), around the picture's middle.

    Attributes:
        rotation: (3, 3), no reflection; its rows are the directions right, up and towards the eye.
        centre: (3,), Angstrom.
        scale: pixels an Angstrom.
    """

    rotation: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, " 3"]
    scale: float


def colour_of(element: int) -> tuple[int, int, int]:
    """The colour (red, green, blue) of an element."""
    return COLOURS.get(int(element), OTHER)


def radius_of(element: int) -> float:
    """The ball's radius in Angstrom: a quarter of van der Waals'."""
    return 0.25 * Chem.GetPeriodicTable().GetRvdw(int(element)) if element else 0.3


def orientation(positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation that lays the longest axis of a cloud of points to the right and the shortest towards the eye.

    It is no reflection (which would show the other enantiomer), and its signs are fixed by the third moments.
    """
    points = positions[np.isfinite(positions).all(1)]
    if len(points) < 2:
        return np.eye(3)
    points = points - points.mean(0)
    axes = np.linalg.svd(points, full_matrices=True)[2]
    signs = np.where(((points @ axes.T) ** 3).sum(0) < -1e-9, -1.0, 1.0)
    axes = axes * signs[:, None]
    axes[2] *= np.sign(np.linalg.det(axes))
    (cx, sx), (cy, sy) = ((np.cos(angle), np.sin(angle)) for angle in TILT)
    tilt = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]]) @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    return tilt @ axes


def view_of(
    frames: Sequence[Float[np.ndarray, "n 3"]], width: int, height: int, like: Float[np.ndarray, "n 3"] | None = None
) -> View:
    """The view that holds these positions, oriented and centred as `like` (None: the last of them).

    It is not made so small for what strays far that less than half of the picture is left to `like`.
    """
    like = frames[-1] if like is None else like
    rotation = orientation(like)
    shown = like[np.isfinite(like).all(1)] @ rotation.T
    centre = (shown.max(0) + shown.min(0)) / 2 if len(shown) else np.zeros(3)
    points = np.concatenate([frame[np.isfinite(frame).all(1)] for frame in frames]) @ rotation.T - centre
    scale = min(_fitting(points, width, height), CLOSEST * width / 200)
    own = min(_fitting(shown - centre, width, height), CLOSEST * width / 200)
    return View(rotation, centre @ rotation, max(scale, own / 2))


def _fitting(points: Float[np.ndarray, "n 3"], width: int, height: int) -> float:
    """Pixels an Angstrom at which balls around the middle are in the picture."""
    reach = np.abs(points[:, :2]).max(0, initial=0) + 0.55  # the largest balls
    # Beside a few pixels for what is not made smaller than can be seen.
    return float(max(min((width / 2 - 3) / reach[0], (height / 2 - 3) / reach[1]), 1e-6))


def paint(
    molecule: Molecule,
    width: int = 200,
    height: int = 170,
    view: View | None = None,
    marked: Sequence[int] = (),
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture on white; atoms without finite positions are left out, `marked` ones have a red ring."""
    view = view or view_of([molecule.positions], width, height)
    canvas = _Canvas(width * FINER, height * FINER)
    shown = np.isfinite(molecule.positions).all(1)
    positions = np.where(shown[:, None], molecule.positions, 0.0)
    places = ((positions - view.centre) @ view.rotation.T * view.scale * FINER).astype(np.float32)
    unit = view.scale * FINER
    for i, j in np.argwhere(np.triu(molecule.bonds, 1)).tolist():
        if shown[i] and shown[j]:
            canvas.bond(places[i], places[j], molecule.elements[[i, j]], int(molecule.bonds[i, j]), unit)
    for i in np.flatnonzero(shown).tolist():
        canvas.ball(places[i], max(radius_of(molecule.elements[i]) * unit, 2.0), int(molecule.elements[i]))
    picture = canvas.finished(unit)
    _annotate(picture, canvas, molecule, places, np.flatnonzero(shown).tolist(), unit, set(marked))
    return np.asarray(picture.reduce(FINER))


class _Canvas:
    """What is nearest at each pixel; places are from the middle, upwards, the depth towards the eye."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.element = np.zeros(height * width, np.int64)
        self.normal = np.zeros((height * width, 3), np.float32)
        self.depth = np.full(height * width, -np.inf, np.float32)
        self.x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
        self.y = np.float32((height - 1) / 2) - np.arange(height, dtype=np.float32)

    def ball(self, centre: np.ndarray, radius: float, element: int) -> None:
        part = self._part(centre[:2], centre[:2], radius)
        x, y = self.x[part[1]] - centre[0], self.y[part[0]] - centre[1]
        inside = np.float32(radius**2) - (x**2)[None] - (y**2)[:, None]
        rows, columns = np.nonzero(inside > 0)
        z = np.sqrt(inside[rows, columns])
        normal = np.stack([x[columns], y[rows], z], -1) / np.float32(radius)
        self._keep(part, rows, columns, centre[2] + z, normal, np.full(len(z), element))

    def bond(self, start: np.ndarray, end: np.ndarray, elements: np.ndarray, order: int, unit: float) -> None:
        axis = end - start
        flat = float(np.hypot(axis[0], axis[1]))
        # One that points at the eye is behind its atom; this also is the case where the root has no meaning.
        if flat < 1e-3 * max(float(abs(axis[2])), 1.0):
            return
        # Several sticks lie beside each other as seen, however the molecule is turned.
        across = np.array([-axis[1], axis[0], 0], np.float32) / np.float32(flat)
        radius, offsets = STICKS.get(order, STICKS[3])
        for offset in offsets:
            shift = across * np.float32(offset * unit)
            self._stick(start + shift, end + shift, max(radius * unit, 0.8), elements)

    def _stick(self, start: np.ndarray, end: np.ndarray, radius: float, elements: np.ndarray) -> None:
        axis = end - start
        length = float(np.linalg.norm(axis))
        ux, uy, uz = (axis / np.float32(length)).tolist()
        part = self._part(start[:2], end[:2], radius)
        x, y = self.x[part[1]] - start[0], self.y[part[0]] - start[1]
        # The discriminant is (1 - u_z²) r² - (q × u_xy)², and so cheap where the stick is not.
        beside = ((x * uy)[None] - (y * ux)[:, None]) ** 2
        square = ux**2 + uy**2
        rows, columns = np.nonzero(beside < square * radius**2)
        qx, qy = x[columns], y[rows]
        s = qx * ux + qy * uy
        z = (s * uz + np.sqrt(square * radius**2 - beside[rows, columns])) / square
        along = s + z * uz
        within = (along >= 0) & (along <= length)
        rows, columns, qx, qy, z, along = (part[within] for part in (rows, columns, qx, qy, z, along))
        normal = np.stack([qx - along * ux, qy - along * uy, z - along * uz], -1) / np.float32(radius)
        self._keep(part, rows, columns, start[2] + z, normal, elements[(along > length / 2).astype(np.int64)])

    def _part(self, a: np.ndarray, b: np.ndarray, margin: float) -> tuple[slice, slice]:
        """The pixels around two places."""
        low, high = np.minimum(a, b) - margin - 1, np.maximum(a, b) + margin + 1
        middle = (self.width - 1) / 2, (self.height - 1) / 2
        columns = np.clip([low[0] + middle[0], high[0] + middle[0] + 1], 0, self.width).astype(int)
        rows = np.clip([middle[1] - high[1], middle[1] - low[1] + 1], 0, self.height).astype(int)
        return slice(*rows), slice(*columns)

    def _keep(
        self,
        part: tuple[slice, slice],
        rows: np.ndarray,
        columns: np.ndarray,
        depth: np.ndarray,
        normal: np.ndarray,
        element: np.ndarray,
    ) -> None:
        """Take the pixels that are nearer than what was there."""
        pixels = (rows + part[0].start) * self.width + columns + part[1].start
        nearer = depth > self.depth[pixels]
        pixels = pixels[nearer]
        self.depth[pixels] = depth[nearer]
        self.normal[pixels] = normal[nearer]
        self.element[pixels] = element[nearer]

    def finished(self, unit: float) -> Image.Image:
        """Lit, with what lies behind paler, and a dark line where something ends in front of what is far behind it."""
        drawn = np.flatnonzero(np.isfinite(self.depth))
        colour = np.full((self.height * self.width, 3), 255, np.uint8)
        if len(drawn):
            depth, normal = self.depth[drawn], self.normal[drawn]
            lit = normal @ LIGHT
            mirror = np.clip(2 * lit * normal[:, 2] - LIGHT[2], 0, None) ** 2
            mirror = 110 * mirror**4 * mirror**8  # the 24th power; numpy's own of floats is slow
            shaded = _palette()[self.element[drawn]] * (0.52 + 0.5 * np.clip(lit, 0, None))[:, None] + mirror[:, None]
            near = depth.max()
            haze = HAZE * (near - depth) / max(near - depth.min(), 2.5 * unit)
            shaded = 255 - (255 - np.minimum(shaded, 255)) * (1 - haze)[:, None]
            shaded[self._edge(0.3 * unit)[drawn]] *= 0.45
            colour[drawn] = shaded
        return Image.fromarray(colour.reshape(self.height, self.width, 3))

    def _edge(self, limit: float) -> np.ndarray:
        solid = np.maximum(self.depth, np.float32(-1e9)).reshape(self.height, self.width)
        edge = np.zeros_like(solid, dtype=bool)
        down, right = np.diff(solid, axis=0), np.diff(solid, axis=1)
        edge[1:] |= down > limit
        edge[:-1] |= down < -limit
        edge[:, 1:] |= right > limit
        edge[:, :-1] |= right < -limit
        return edge.ravel()


@cache
def _palette() -> np.ndarray:
    """Colours by atomic number."""
    return np.array([colour_of(element) for element in range(119)], np.float32)


def _annotate(
    picture: Image.Image,
    canvas: _Canvas,
    molecule: Molecule,
    places: np.ndarray,
    shown: list[int],
    unit: float,
    marked: set[int],
) -> None:
    """Rings around the marked atoms, and the signs of charges on the atoms in front."""
    pen = ImageDraw.Draw(picture)
    for i in shown:
        x, y = canvas.width / 2 + float(places[i, 0]), canvas.height / 2 - float(places[i, 1])
        radius = radius_of(molecule.elements[i]) * unit
        if i in marked:
            size = radius + 0.16 * unit
            pen.ellipse((x - size, y - size, x + size, y + size), outline=MARKED, width=max(3, round(0.09 * unit)))
        charge, row, column = int(molecule.charges[i]), int(y), int(x)
        if not charge or not (0 <= row < canvas.height and 0 <= column < canvas.width):
            continue
        if canvas.depth[row * canvas.width + column] <= places[i, 2] + 1.2 * radius:  # else another atom is in front
            _sign(pen, x, y, 0.5 * radius, charge)


def _sign(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, charge: int) -> None:
    """A plus or a minus on a ball, one below the other where the charge is more than one."""
    count = min(abs(charge), 3)
    for number in range(count):
        row = y + 1.6 * size * (number - (count - 1) / 2)
        arm = size if count == 1 else 0.7 * size
        for width, ink in ((0.75 * size, (25, 25, 25)), (0.38 * size, (255, 255, 255))):
            wide, more = max(2, round(width)), (0.18 * size if ink == (25, 25, 25) else 0)
            pen.line((x - arm - more, row, x + arm + more, row), ink, wide)
            if charge > 0:
                pen.line((x, row - arm - more, x, row + arm + more), ink, wide)
