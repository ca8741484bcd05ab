"""Molecules as a data set in memory: tokens, bond matrices, positions; and what is known of all of them together.

A token is an element with its formal charge (C, N, N+, O-): so a valence is a function of the token. The vocabulary is
read from the data, in the order of (atomic number, charge). Atoms come in the order of the source, hydrogens last in
most: a network that sees an order must be shown others, and one that is equivariant to permutations cannot see it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from rdkit import Chem
from torch import Tensor
from torch.utils.data import Dataset

from framework.errors import DataError
from modalities.molecules.arrays import MoleculeArrays
from modalities.molecules.molecule import Molecule

ORDERS = 4  # none, single, double, triple
MULTIPLE = 2  # batches are padded to a multiple of it, so that fewer different shapes occur
_TABLE = Chem.GetPeriodicTable()
_NAME = re.compile(r"(?P<symbol>[A-Z][a-z]?)(?:(?P<sign>[+-])(?P<count>\d*))?")


class Item(TypedDict):
    """One molecule of N atoms; a property that is not known is NaN."""

    positions: Float32[Tensor, "n 3"]
    atoms: Int64[Tensor, " n"]
    bonds: Int64[Tensor, "n n"]
    properties: Float32[Tensor, " p"]
    smiles: str
    index: int


class Batch(TypedDict):
    """B molecules, zeros where `mask` is False."""

    positions: Float32[Tensor, "b n 3"]
    atoms: Int64[Tensor, "b n"]
    bonds: Int64[Tensor, "b n n"]
    mask: Bool[Tensor, "b n"]
    properties: Float32[Tensor, "b p"]
    smiles: list[str]


class Statistics(NamedTuple):
    """What a set of molecules is like; padding counts nowhere.

    Attributes:
        tokens: the share of each token among all atoms.
        bonds: the share of each order among all pairs of different atoms, none included.
        sizes: how many molecules have 0, 1, 2, ... atoms.
        mean, std: of each property where it is known; NaN and 1 where it never is.
        scale: the root mean square of a coordinate about its molecule's centre, in Angstrom.
    """

    tokens: Float64[np.ndarray, " k"]
    bonds: Float64[np.ndarray, " o"]
    sizes: Int64[np.ndarray, " s"]
    mean: Float64[np.ndarray, " p"]
    std: Float64[np.ndarray, " p"]
    scale: float


def token_name(element: int, charge: int) -> str:
    """ "C", "N+", "O-", "S+2"."""
    sign = "" if charge == 0 else "+" if charge > 0 else "-"
    return _TABLE.GetElementSymbol(element) + sign + (str(abs(charge)) if abs(charge) > 1 else "")


def parse_token(name: str) -> tuple[int, int]:
    """(element, charge) of "N+"; raises DataError for what is no token."""
    match = _NAME.fullmatch(name)
    known = {_TABLE.GetElementSymbol(z): z for z in range(1, 119)}
    if match is None or match["symbol"] not in known:
        raise DataError(f"{name!r} is no token; tokens are elements with their charge, as C, N+, O-, S+2")
    size = int(match["count"] or 1) if match["sign"] else 0
    return known[match["symbol"]], -size if match["sign"] == "-" else size


class MoleculeSet(Dataset[Item]):
    """The molecules of `arrays`.

    Attributes:
        vocabulary: (element, charge) of each token.
        tokens: their names.
        properties: the names of the properties' columns.
        sizes: numbers of atoms, int64 (n,).
        smiles: canonical SMILES.
    """

    def __init__(self, arrays: MoleculeArrays) -> None:
        self.arrays = arrays
        pairs, tokens = np.unique(
            np.stack([arrays.elements.astype(np.int64), arrays.charges.astype(np.int64)], axis=-1),
            axis=0,
            return_inverse=True,
        )
        self.vocabulary: tuple[tuple[int, int], ...] = tuple((int(z), int(charge)) for z, charge in pairs)
        self._tokens = tokens.reshape(-1).astype(np.int64)
        self._values = arrays.properties.astype(np.float32)
        self.tokens = tuple(token_name(*pair) for pair in self.vocabulary)
        self.properties, self.smiles, self.sizes = arrays.names, arrays.smiles, arrays.sizes

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> Item:
        index = range(len(self))[index]
        atoms = slice(self.arrays.offsets[index], self.arrays.offsets[index + 1])
        return Item(
            positions=torch.tensor(self.arrays.positions[atoms]),
            atoms=torch.tensor(self._tokens[atoms]),
            bonds=torch.from_numpy(self.arrays.bond_matrix(index)),
            properties=torch.tensor(self._values[index]),
            smiles=self.smiles[index],
            index=index,
        )

    def molecules(self, indices: Sequence[int] | np.ndarray) -> list[Molecule]:
        """Some of the molecules as they are, with their properties."""
        return [self.arrays[int(index)] for index in indices]

    def statistics(self, rows: Sequence[int] | np.ndarray | None = None) -> Statistics:
        """Of some of the molecules, or of all."""
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        atoms = _spans(self.arrays.offsets, rows)
        counts = np.bincount(self._tokens[atoms], minlength=len(self.tokens))
        sizes = self.sizes[rows]
        orders = self.arrays.bonds[_spans(self.arrays.bond_offsets, rows), 2]
        bonds = np.bincount(orders, minlength=ORDERS).astype(np.float64)
        bonds[0] = (sizes * (sizes - 1) // 2).sum() - bonds.sum()
        owner = np.repeat(np.arange(len(rows)), sizes)
        positions = self.arrays.positions[atoms].astype(np.float64)
        centres = np.stack([np.bincount(owner, weights=column) for column in positions.T], axis=-1) / sizes[:, None]
        known = np.ma.masked_invalid(self.arrays.properties[rows])
        std = np.ma.filled(known.std(axis=0), 1.0)
        return Statistics(
            counts / max(counts.sum(), 1),
            bonds / max(bonds.sum(), 1),
            np.bincount(sizes),
            np.ma.filled(known.mean(axis=0).astype(np.float64), np.nan),
            np.where(std > 0, std, 1.0),
            float(np.sqrt(((positions - centres[owner]) ** 2).mean())),
        )


def _spans(offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The places offsets[r] to offsets[r + 1] of all rows r, one after another."""
    lengths = offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(lengths)
    return np.repeat(offsets[rows] - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def collate(items: Sequence[Item]) -> Batch:
    """Molecules of different sizes as one dense batch; N is the largest size, rounded up to a multiple of 2."""
    largest = max(len(item["atoms"]) for item in items)
    count, size = len(items), largest + -largest % MULTIPLE
    positions = torch.zeros(count, size, 3)
    atoms = torch.zeros(count, size, dtype=torch.long)
    bonds = torch.zeros(count, size, size, dtype=torch.long)
    mask = torch.zeros(count, size, dtype=torch.bool)
    for row, item in enumerate(items):
        n = len(item["atoms"])
        positions[row, :n], atoms[row, :n], bonds[row, :n, :n], mask[row, :n] = (
            item["positions"],
            item["atoms"],
            item["bonds"],
            True,
        )
    return Batch(
        positions=positions,
        atoms=atoms,
        bonds=bonds,
        mask=mask,
        properties=torch.stack([item["properties"] for item in items]),
        smiles=[item["smiles"] for item in items],
    )
