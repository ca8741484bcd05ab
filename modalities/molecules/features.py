"""A molecule as a point: what it is made of and how it is folded, for distances between sets of molecules.

    composition   shares of elements and of bond orders, atoms, rings (bonds - atoms + fragments), fragments, charge
    geometry      mean and spread of bond lengths by order, the least distance of two atoms, the radius of gyration, the
                  roots of the principal moments

It has a value for every molecule with finite positions, valid or not. Each number is standardised by the training
molecules', so that a distance has no unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from modalities.molecules.molecule import Molecule

ELEMENTS = (1, 6, 7, 8, 9)  # others count together
ORDERS = (1, 2, 3)
LONGEST = 3.0  # Angstrom: a bond that is longer counts as this long


def features(
    molecules: Sequence[Molecule], mean: Float[np.ndarray, " d"], std: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "n d"]:
    """Standardised points, float32."""
    return ((points(molecules) - mean) / std).astype(np.float32)


def moments(training: Sequence[Molecule]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Mean and standard deviation of the training molecules' points; 1 where these do not vary."""
    found = points(training)
    std = found.std(0)
    return found.mean(0), np.where(std > 1e-6, std, 1.0)


def points(molecules: Sequence[Molecule]) -> Float[np.ndarray, "n d"]:
    """The numbers as they are."""
    return np.array([[*_composition(molecule), *_geometry(molecule)] for molecule in molecules], np.float64)


def _composition(molecule: Molecule) -> list[float]:
    atoms, bonds = max(len(molecule), 1), np.triu(molecule.bonds, 1)
    elements = [float((molecule.elements == element).sum()) / atoms for element in ELEMENTS]
    orders = [float((bonds == order).sum()) / atoms for order in ORDERS]
    fragments = connected_components(molecule.bonds > 0, directed=False)[0] if len(molecule) else 0
    rings = int((bonds > 0).sum()) - len(molecule) + fragments
    return [*elements, 1 - sum(elements), *orders, atoms, rings, fragments, float(np.abs(molecule.charges).sum())]


def _geometry(molecule: Molecule) -> list[float]:
    positions, found = molecule.positions, []
    for order in ORDERS:
        i, j = np.nonzero(np.triu(molecule.bonds, 1) == order)
        lengths = np.minimum(np.linalg.norm(positions[j] - positions[i], axis=1), LONGEST)
        found += [lengths.mean(), lengths.std()] if len(lengths) else [0.0, 0.0]
    centred = positions - positions.mean(0) if len(molecule) else np.zeros((1, 3))
    principal = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred / len(centred)), 0))
    nearest = min(float(pdist(positions).min()), LONGEST) if len(molecule) > 1 else LONGEST
    return [*map(float, found), nearest, float(np.sqrt((principal**2).sum())), *map(float, principal)]
