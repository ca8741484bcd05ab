"""Many molecules in a few flat arrays, in memory and in a file that needs no pickle.

Molecule k has the atoms offsets[k] to offsets[k + 1], and the bonds bond_offsets[k] to bond_offsets[k + 1], each as
(i, j, order) with i < j counted within the molecule. 28,000 molecules of QM9 take 12 MB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64, UInt8, UInt16

from framework.errors import DataError
from framework.files import write_atomically
from modalities.molecules.molecule import Molecule


@dataclass(frozen=True, eq=False)
class MoleculeArrays:
    """n molecules of a atoms and b bonds altogether.

    Attributes:
        properties: NaN where a molecule's is not known; `names` are those of the columns.
        smiles: canonical SMILES of each; "" where a molecule has none.
    """

    offsets: Int64[np.ndarray, " n+1"]
    elements: UInt8[np.ndarray, " a"]
    charges: Int8[np.ndarray, " a"]
    positions: Float32[np.ndarray, "a 3"]
    bond_offsets: Int64[np.ndarray, " n+1"]
    bonds: UInt16[np.ndarray, "b 3"]
    properties: Float64[np.ndarray, "n p"]
    names: tuple[str, ...]
    smiles: tuple[str, ...]

    @classmethod
    def pack(cls, molecules: Sequence[Molecule], smiles: Sequence[str], names: Sequence[str] = ()) -> MoleculeArrays:
        """The arrays of molecules, with those of their properties that `names` says."""
        bonds = []
        for molecule in molecules:
            i, j = np.nonzero(np.triu(molecule.bonds, 1))
            bonds.append(np.stack([i, j, molecule.bonds[i, j]], axis=-1).astype(np.uint16))
        properties = [[molecule.properties.get(name, np.nan) for name in names] for molecule in molecules]
        return cls(
            _offsets([len(molecule) for molecule in molecules]),
            _joined([molecule.elements for molecule in molecules], (0,), np.uint8),
            _joined([molecule.charges for molecule in molecules], (0,), np.int8),
            _joined([molecule.positions for molecule in molecules], (0, 3), np.float32),
            _offsets([len(rows) for rows in bonds]),
            _joined(bonds, (0, 3), np.uint16),
            np.array(properties, np.float64).reshape(len(molecules), len(names)),
            tuple(names),
            tuple(smiles),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Int64[np.ndarray, " n"]:
        """The numbers of atoms, hydrogens included."""
        return np.diff(self.offsets)

    def bond_matrix(self, index: int) -> Int64[np.ndarray, "m m"]:
        """The bond orders of one molecule of m atoms."""
        rows = self.bonds[self.bond_offsets[index] : self.bond_offsets[index + 1]].astype(np.int64)
        size = int(self.offsets[index + 1] - self.offsets[index])
        matrix = np.zeros((size, size), np.int64)
        matrix[rows[:, 0], rows[:, 1]] = matrix[rows[:, 1], rows[:, 0]] = rows[:, 2]
        return matrix

    def __getitem__(self, index: int) -> Molecule:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} molecules, and none with the number {index}")
        index %= len(self)
        atoms = slice(self.offsets[index], self.offsets[index + 1])
        known = {
            name: float(value)
            for name, value in zip(self.names, self.properties[index], strict=True)
            if not np.isnan(value)
        }
        return Molecule(
            self.elements[atoms].astype(np.int64),
            self.charges[atoms].astype(np.int64),
            self.bond_matrix(index),
            self.positions[atoms].astype(np.float64),
            known,
        )

    def save(self, path: Path, record: Mapping[str, Any]) -> None:
        """Write the arrays, and beside them a record of plain JSON values, atomically."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        texts = {"names": self.names, "smiles": self.smiles, "record": dict(record)}
        arrays |= {name: np.frombuffer(json.dumps(value).encode(), np.uint8) for name, value in texts.items()}

        def write(file: IO[bytes]) -> None:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> tuple[MoleculeArrays, dict[str, Any]]:
        """The arrays and the record of a file of `save`.

        Raises:
            DataError: it is none, or is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _ARRAYS}
                names, smiles, record = (json.loads(file[name].tobytes()) for name in ("names", "smiles", "record"))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"'{path}' is no file of molecules, or is damaged ({error})") from error
        return cls(**arrays, names=tuple(names), smiles=tuple(smiles)), record


_ARRAYS = ("offsets", "elements", "charges", "positions", "bond_offsets", "bonds", "properties")


def _offsets(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _joined(parts: Sequence[np.ndarray], empty: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(empty), *parts]).astype(dtype)
