"""A molecule as arrays, and its way to RDKit and back.

Hydrogens are atoms like all others, and bonds are kekulised: an order of 0 (none), 1, 2 or 3 for each pair. So an
atom's valence is a sum of integers, and no aromatic class leaves open what it means.

Decoded samples of the modality are a plain list of molecules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from rdkit import Chem
from rdkit.Geometry import Point3D

from framework.errors import DataError

ORDERS = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)


@dataclass(frozen=True, eq=False)
class Molecule:
    """N atoms.

    Attributes:
        elements: atomic numbers, int64 (N,).
        charges: formal charges, int64 (N,).
        bonds: orders 0 to 3, int64 (N, N), symmetric with an empty diagonal.
        positions: in Angstrom, float64 (N, 3).
        properties: numbers that are known of the molecule, by name ("gap").
    """

    elements: Int[np.ndarray, " n"]
    charges: Int[np.ndarray, " n"]
    bonds: Int[np.ndarray, "n n"]
    positions: Float[np.ndarray, "n 3"]
    properties: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of atoms."""
        return len(self.elements)


def to_rdkit(molecule: Molecule, *, implicit_hydrogens: bool = False) -> Chem.Mol:
    """An RDKit molecule with a conformer, which is not sanitised.

    Unless `implicit_hydrogens` is said, no atom may get hydrogens that were not generated, so that what lacks one is a
    radical when RDKit looks at it, and not silently mended.
    """
    mol = Chem.RWMol()
    for element, charge in zip(molecule.elements.tolist(), molecule.charges.tolist(), strict=True):
        atom = Chem.Atom(element)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(not implicit_hydrogens)
        mol.AddAtom(atom)
    for i, j in np.argwhere(np.triu(molecule.bonds, 1)).tolist():
        mol.AddBond(i, j, ORDERS[int(molecule.bonds[i, j])])
    conformer = Chem.Conformer(len(molecule))
    for i, (x, y, z) in enumerate(np.asarray(molecule.positions, np.float64).tolist()):
        conformer.SetAtomPosition(i, Point3D(x, y, z))
    mol.AddConformer(conformer, assignId=True)
    return mol.GetMol()


def from_rdkit(mol: Chem.Mol, properties: Mapping[str, float] | None = None) -> Molecule:
    """The molecule of an RDKit molecule whose hydrogens are atoms, in its first conformer.

    Raises:
        DataError: it has no conformer, hydrogens that are no atoms, or cannot be kekulised.
    """
    if mol.GetNumConformers() == 0:
        raise DataError("it has no positions")
    if any(atom.GetTotalNumHs() > 0 for atom in mol.GetAtoms()):
        raise DataError("some of its hydrogens are no atoms; give all of them with positions")
    mol = Chem.Mol(mol)
    try:
        Chem.Kekulize(mol, clearAromaticFlags=True)
    except Chem.KekulizeException as error:
        raise DataError(f"it cannot be kekulised: {error}") from error
    n = mol.GetNumAtoms()
    bonds = np.zeros((n, n), np.int64)
    for bond in mol.GetBonds():
        if bond.GetBondType() not in ORDERS[1:]:
            kind = bond.GetBondType().name.lower()
            raise DataError(f"it has a {kind} bond; single, double and triple ones are known")
        order = ORDERS.index(bond.GetBondType())
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[i, j] = bonds[j, i] = order
    atoms = list(mol.GetAtoms())
    return Molecule(
        np.array([atom.GetAtomicNum() for atom in atoms], np.int64),
        np.array([atom.GetFormalCharge() for atom in atoms], np.int64),
        bonds,
        np.array(mol.GetConformer().GetPositions(), np.float64).reshape(n, 3),
        dict(properties or {}),
    )


def canonical_smiles(mol: Chem.Mol) -> str:
    """The canonical SMILES of a sanitised molecule, without hydrogens and without stereochemistry: what is unique."""
    return Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
