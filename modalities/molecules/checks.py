"""What a molecule of RDKit must be for training: whole, with paired electrons, all hydrogens and a real geometry.

What fails is a DataError whose message says why in the words of `skipped.csv`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from rdkit import Chem, rdBase

from framework.errors import DataError, UserError
from modalities.molecules.molecule import Molecule, canonical_smiles, from_rdkit

# A bond may differ from the sum of the covalent radii by this share of it (Nikitin et al.: GEOM-Drugs revisited, 2025).
TOLERANCE = 0.4
_TABLE = Chem.GetPeriodicTable()
RADII = np.array([_TABLE.GetRcovalent(z) for z in range(119)])  # Angstrom, by atomic number


def checked(
    mol: Chem.Mol, elements: Collection[int] | None = None, net_charge: int | None = None
) -> tuple[Molecule, str]:
    """The molecule and its canonical SMILES (without stereochemistry and isotopes).

    Args:
        mol: with a conformer; it need not be sanitised, and is not changed.
        elements: the atomic numbers that may occur; None: all.
        net_charge: the sum of the formal charges that is asked for; None: any.

    Raises:
        DataError: it cannot be sanitised or kekulised, lacks hydrogens or positions, has several fragments, unpaired
            electrons, other elements or another charge, or bonds of lengths that no such bond has.
    """
    mol = Chem.Mol(mol)
    if mol.GetNumAtoms() == 0:
        raise DataError("it has no atoms")
    atoms = list(mol.GetAtoms())  # each walk over GetAtoms() is slow
    for atom in atoms:
        atom.SetIsotope(0)
        if atom.GetAtomicNum() == 0:
            raise DataError("it has an atom without an element (* or R)")
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except (Chem.MolSanitizeException, ValueError) as error:
            raise DataError(f"it cannot be sanitised: {error}") from error
    _check_graph(mol, atoms, elements, net_charge)
    molecule = from_rdkit(mol)
    _check_geometry(mol, molecule)
    return molecule, canonical_smiles(mol)


def _check_graph(
    mol: Chem.Mol, atoms: Sequence[Chem.Atom], elements: Collection[int] | None, net_charge: int | None
) -> None:
    if (fragments := len(Chem.GetMolFrags(mol))) > 1:
        raise DataError(f"it has {fragments} fragments")
    if elements is not None:
        other = sorted({atom.GetSymbol() for atom in atoms if atom.GetAtomicNum() not in elements})
        if other:
            raise DataError(f"it has {', '.join(other)}, which data.elements leaves out")
    if any(atom.GetNumRadicalElectrons() for atom in atoms):
        raise DataError("it has unpaired electrons")
    charge = Chem.GetFormalCharge(mol)
    if net_charge is not None and charge != net_charge:
        raise DataError(f"its charge is {charge:+d}, and data.net_charge asks for {net_charge:+d}")
    hydrogens = sum(atom.GetTotalNumHs() for atom in atoms)
    if hydrogens and not any(atom.GetAtomicNum() == 1 for atom in atoms):
        raise DataError("none of its hydrogens is an atom; give all of them with positions")


def _check_geometry(mol: Chem.Mol, molecule: Molecule) -> None:
    positions = molecule.positions
    if not np.isfinite(positions).all():
        raise DataError("some of its positions are no numbers")
    if len(molecule) > 1 and not np.ptp(positions, axis=0).any():
        raise DataError("all of its atoms are at one place")
    if not mol.GetConformer().Is3D() and not np.ptp(positions[:, 2]):
        raise DataError("its positions are those of a drawing (2D)")
    if (worst := strained_bond(molecule)) is not None:
        i, j = worst
        names = (
            f"{_TABLE.GetElementSymbol(int(molecule.elements[i]))}{i + 1}",
            (f"{_TABLE.GetElementSymbol(int(molecule.elements[j]))}{j + 1}"),
        )
        length = np.linalg.norm(positions[i] - positions[j])
        raise DataError(f"the bond {'-'.join(names)} is {length:.2f} Angstrom long, which no such bond is")


def strained_bond(molecule: Molecule) -> tuple[int, int] | None:
    """The bonded pair that differs most from the sum of its covalent radii, if by more than TOLERANCE of it."""
    i, j = np.nonzero(np.triu(molecule.bonds, 1))
    if not len(i):
        return None
    usual = RADII[molecule.elements[i]] + RADII[molecule.elements[j]]
    off = np.abs(np.linalg.norm(molecule.positions[i] - molecule.positions[j], axis=-1) / usual - 1)
    worst = int(off.argmax())
    return (int(i[worst]), int(j[worst])) if off[worst] > TOLERANCE else None


def atomic_numbers(symbols: Collection[str] | None) -> frozenset[int] | None:
    """{1, 6} of ["H", "C"]; None, which allows all, of None.

    Raises:
        UserError: one of them is no element.
    """
    if symbols is None:
        return None
    known = {_TABLE.GetElementSymbol(z): z for z in range(1, 119)}
    if unknown := [str(symbol) for symbol in symbols if symbol not in known]:
        raise UserError(f"data.elements: {', '.join(unknown)} is no element; they are written like [H, C, N, O, Cl]")
    return frozenset(known[symbol] for symbol in symbols)
