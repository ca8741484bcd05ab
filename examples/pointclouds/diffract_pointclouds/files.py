"""PLY (ASCII, or binary of either byte order) and XYZ files.

A PLY file begins with a header in text: the format, then elements with a count and their properties in order. Of these
the coordinates x, y and z of `vertex` are read, and all else passed over (Turk, "The PLY Polygon File Format", 1994).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from framework.errors import DataError

SUFFIXES = (".ply", ".xyz")
CODES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
SIZED = {"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"}
TYPES = {**CODES, **SIZED, "double": "f8", "float64": "f8"}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}


def read_points(path: Path) -> Float[np.ndarray, "n 3"]:
    """The points of a PLY or XYZ file (three numbers a line, and what follows them).

    Raises:
        DataError: it is no such file, or a coordinate is not finite.
    """
    try:
        points = _read_ply(path) if path.suffix == ".ply" else np.loadtxt(path, usecols=(0, 1, 2), ndmin=2)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise DataError(f"{path} cannot be read as {path.suffix or 'points'}: {error}") from error
    if len(points) < 2 or not np.isfinite(points).all():
        raise DataError(f"{path} holds {len(points)} points, not all of them finite; a cloud is at least 2 finite ones")
    return points.astype(np.float64)


def write_ply(path: Path, points: Float[np.ndarray, "n 3"], comments: Mapping[str, str]) -> Path:
    """Write a binary PLY file with comments in its header."""
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [
        f"comment {key}: {' '.join(text.split())}".encode("ascii", "replace").decode() for key, text in comments.items()
    ]
    lines += [f"element vertex {len(points)}", *(f"property float {axis}" for axis in "xyz"), "end_header", ""]
    path.write_bytes("\n".join(lines).encode() + points.astype("<f4").tobytes())
    return path


def _read_ply(path: Path) -> Float[np.ndarray, "n 3"]:
    content = path.read_bytes()
    head, mark, body = content.partition(b"end_header")
    words = [line.split() for line in head.decode("ascii").splitlines()]
    if not mark or words[0] != ["ply"]:
        raise ValueError("it has no PLY header")
    body = body[body.index(b"\n") + 1 :]
    [kind] = [line[1] for line in words if line[:1] == ["format"]]
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in words:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2]), []))
        elif line[:1] == ["property"]:
            elements[-1][2].append(line[1:])
    for name, count, properties in elements:
        if name == "vertex":
            return _vertices(body, kind, count, properties)
        if any(of[0] == "list" for of in properties):
            raise ValueError("lists before its vertices are not read")
        body = _behind(body, kind, count, properties)
    raise ValueError("it has no vertices")


def _vertices(body: bytes, kind: str, count: int, properties: list[list[str]]) -> Float[np.ndarray, "n 3"]:
    names = [of[-1] for of in properties]
    if kind == "ascii":
        rows = [line.split() for line in body.decode("ascii").splitlines()[:count]]
        if len(rows) < count:
            raise ValueError(f"its header says {count} vertices, and it has {len(rows)}")
        return np.array([[float(row[names.index(axis)]) for axis in "xyz"] for row in rows]).reshape(count, 3)
    table = np.frombuffer(body, _dtype(kind, properties), count)
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], 1)


def _behind(body: bytes, kind: str, count: int, properties: list[list[str]]) -> bytes:
    if kind == "ascii":
        return b"\n".join(body.splitlines()[count:])
    return body[count * _dtype(kind, properties).itemsize :]


def _dtype(kind: str, properties: list[list[str]]) -> np.dtype:
    return np.dtype([(of[-1], ORDERS[kind] + TYPES[of[0]]) for of in properties])
