"""Internal coordinates of many molecules at once: bond lengths, bond angles and dihedral angles, each with its type.

    bond      i-j       |x_j - x_i| in Angstrom      type: both elements and the order
    angle     i-j-k     at j, in degrees             type: the three elements, j in the middle
    dihedral  i-j-k-l   about j-k, in degrees        type: elements and order of the bond j-k

Each is listed once, and read from either end it has the same type. A dihedral is folded to its size, 0 (cis) to 180
(trans): mirror images have opposite signs, and data without chirality has both. Where i-j-k or j-k-l is within 5
degrees of a straight line there is no dihedral.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from modalities.molecules.molecule import Molecule

STRAIGHT = 5.0  # degrees
BASE = 128  # more than there are elements: types are numbers of digits to this base


@dataclass(frozen=True, eq=False)
class Internal:
    """Values of one kind of coordinate.

    Attributes:
        values: in Angstrom or degrees.
        types: equal numbers are of equal type.
        molecules: the row of the molecule that each belongs to.
    """

    values: Float[np.ndarray, " k"]
    types: Int[np.ndarray, " k"]
    molecules: Int[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class _Graph:
    """All molecules as one graph: atoms in a row, every bond from both ends, sorted by where it starts."""

    elements: Int[np.ndarray, " n"]
    positions: Float[np.ndarray, "n 3"]
    molecule: Int[np.ndarray, " n"]
    source: Int[np.ndarray, " e"]
    target: Int[np.ndarray, " e"]
    order: Int[np.ndarray, " e"]


def internal_coordinates(molecules: Sequence[Molecule]) -> dict[str, Internal]:
    """`bond_length`, `angle` and `dihedral` of molecules with finite positions.

    Meant for molecules that are valid: of what has bonds between all its atoms the dihedrals number N^4.
    """
    graph = _graph(molecules)
    return {"bond_length": _lengths(graph), "angle": _angles(graph), "dihedral": _dihedrals(graph)}


def _graph(molecules: Sequence[Molecule]) -> _Graph:
    sizes = np.array([len(molecule) for molecule in molecules], np.int64)
    first = np.cumsum(sizes) - sizes
    ends = [np.nonzero(molecule.bonds) for molecule in molecules]
    empty = np.zeros(0, np.int64)
    return _Graph(
        np.concatenate([empty, *(molecule.elements for molecule in molecules)]),
        np.concatenate([np.zeros((0, 3)), *(np.asarray(molecule.positions, np.float64) for molecule in molecules)]),
        np.repeat(np.arange(len(molecules)), sizes),
        np.concatenate([empty, *(i + start for (i, _), start in zip(ends, first, strict=True))]),
        np.concatenate([empty, *(j + start for (_, j), start in zip(ends, first, strict=True))]),
        np.concatenate([empty, *(m.bonds[pair] for m, pair in zip(molecules, ends, strict=True))]),
    )


def _lengths(graph: _Graph) -> Internal:
    once = graph.source < graph.target
    i, j = graph.source[once], graph.target[once]
    values = np.linalg.norm(graph.positions[j] - graph.positions[i], axis=1)
    return Internal(values, _bond_type(graph, i, j, graph.order[once]), graph.molecule[i])


def _angles(graph: _Graph) -> Internal:
    centre = np.arange(len(graph.elements))
    _, a = _bonds_from(graph, centre)
    row, b = _bonds_from(graph, graph.source[a])
    i, j, k = graph.target[a][row], graph.source[b], graph.target[b]
    once = i < k
    i, j, k = i[once], j[once], k[once]
    low, high = np.sort([graph.elements[i], graph.elements[k]], axis=0)
    types = (low * BASE + graph.elements[j]) * BASE + high
    return Internal(_angle(graph, i, j, k), types, graph.molecule[j])


def _dihedrals(graph: _Graph) -> Internal:
    central = np.flatnonzero(graph.source < graph.target)
    row, left = _bonds_from(graph, graph.source[central])
    central = central[row]
    row, right = _bonds_from(graph, graph.target[central])
    left, central = left[row], central[row]
    i, j, k, m = graph.target[left], graph.source[central], graph.target[central], graph.target[right]
    # Four atoms: neither end is on the central bond, and a ring of three has none.
    four = (i != k) & (m != j) & (i != m)
    i, j, k, m, central = i[four], j[four], k[four], m[four], central[four]
    bent = np.ones(len(i), bool)
    for angle in (_angle(graph, i, j, k), _angle(graph, j, k, m)):
        bent &= (angle > STRAIGHT) & (angle < 180 - STRAIGHT)
    i, j, k, m, central = i[bent], j[bent], k[bent], m[bent], central[bent]
    axis = graph.positions[k] - graph.positions[j]
    first = np.cross(graph.positions[j] - graph.positions[i], axis)
    second = np.cross(axis, graph.positions[m] - graph.positions[k])
    types = _bond_type(graph, j, k, graph.order[central])
    return Internal(_between(first, second), types, graph.molecule[j])


def _bonds_from(graph: _Graph, atoms: Int[np.ndarray, " a"]) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Each of `atoms` with each bond that starts there: rows of `atoms`, rows of the bonds."""
    degree = np.bincount(graph.source, minlength=len(graph.elements))
    start = np.cumsum(degree) - degree
    counts = degree[atoms]
    rows = np.repeat(np.arange(len(atoms)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, start[atoms[rows]] + within


def _bond_type(graph: _Graph, i: np.ndarray, j: np.ndarray, order: np.ndarray) -> Int[np.ndarray, " k"]:
    low, high = np.sort([graph.elements[i], graph.elements[j]], axis=0)
    types: np.ndarray = (low * BASE + high) * BASE + order
    return types


def _angle(graph: _Graph, i: np.ndarray, j: np.ndarray, k: np.ndarray) -> Float[np.ndarray, " k"]:
    x = graph.positions
    return _between(x[i] - x[j], x[k] - x[j])


def _between(a: Float[np.ndarray, "k 3"], b: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, " k"]:
    """The angle of two vectors in degrees, exact also near 0 and 180."""
    degrees: np.ndarray = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1)))
    return degrees
