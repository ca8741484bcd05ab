"""Validity, as papers count it and as it should be.

    valid       RDKit sanitises it, and may add hydrogens that were not generated: the papers' number
    connected   valid, and one fragment
    strict      RDKit sanitises it as it is (no hydrogen is added), no atom is a radical, one fragment

Where hydrogens may be added, validity sees too many bonds alone and never too few: a bare C-C counts as ethane. What is
strict has all its atoms. Both are judgements on the graph; but what has a position that is no number is never valid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.measured import share
from modalities.molecules.molecule import Molecule, canonical_smiles, to_rdkit

EMPTY, POSITIONS = "no atoms", "positions that are no numbers"
VALENCE, KEKULE, OTHER = "impossible valence", "no kekulised form", "not sanitised"
FRAGMENTS, RADICALS = "several fragments", "radicals"


@dataclass(frozen=True, eq=False)
class Validity:
    """Verdicts on M molecules.

    Attributes:
        valid, connected, strict: as above.
        smiles: canonical SMILES without hydrogens and stereochemistry of the valid ones, None of the others.
        why: how many are not strictly valid for which reason; the first that was found counts.
    """

    valid: Bool[np.ndarray, " m"]
    connected: Bool[np.ndarray, " m"]
    strict: Bool[np.ndarray, " m"]
    smiles: list[str | None]
    why: Mapping[str, int]

    def measurements(self, seed: int) -> dict[str, Measurement]:
        """`valid_all`, `valid_connected` and `strict_valid`, all of all molecules."""
        return {
            "valid_all": share(self.valid, seed),
            "valid_connected": share(self.connected, seed),
            "strict_valid": share(self.strict, seed),
        }

    def connected_smiles(self) -> list[str | None]:
        """The SMILES of those that are valid and connected, None of the others."""
        return [smiles if held else None for smiles, held in zip(self.smiles, self.connected, strict=True)]


def validity(molecules: Sequence[Molecule]) -> Validity:
    """Judge molecules."""
    why: Counter[str] = Counter()
    verdicts = np.zeros((3, len(molecules)), bool)
    smiles: list[str | None] = []
    # RDKit reports each failure on stderr; its log is as it was afterwards.
    with BlockLogs():
        for i, molecule in enumerate(molecules):
            whole = not (reason := strict_reason(molecule))
            written, fragments = _lenient(molecule)
            smiles.append(written)
            verdicts[:, i] = written is not None, written is not None and fragments == 1, whole
            if reason:
                why[reason] += 1
    valid, connected, strict = verdicts
    return Validity(valid, connected, strict, smiles, dict(why.most_common()))


def strict_reason(molecule: Molecule) -> str:
    """Why a molecule is not strictly valid; '' if it is."""
    if reason := _unfit(molecule):
        return reason
    mol = to_rdkit(molecule)
    if reason := sanitise(mol):
        return reason
    if len(Chem.GetMolFrags(mol)) > 1:
        return FRAGMENTS
    return RADICALS if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()) else ""


def strict_mol(molecule: Molecule) -> Chem.Mol | None:
    """The sanitised RDKit molecule, with its positions, of a strictly valid molecule; None of another."""
    with BlockLogs():
        if strict_reason(molecule):
            return None
        mol = to_rdkit(molecule)
        Chem.SanitizeMol(mol)
    return mol


def sanitise(mol: Chem.Mol) -> str:
    """Sanitise it in place, and say why it cannot be; '' if it can."""
    try:
        Chem.SanitizeMol(mol)
    except Chem.AtomValenceException:
        return VALENCE
    except (Chem.KekulizeException, Chem.AtomKekulizeException):
        return KEKULE
    except ValueError:  # RDKit's MolSanitizeException is one
        return OTHER
    return ""


def _unfit(molecule: Molecule) -> str:
    if len(molecule) == 0:
        return EMPTY
    return "" if np.isfinite(molecule.positions).all() else POSITIONS


def _lenient(molecule: Molecule) -> tuple[str | None, int]:
    """The SMILES and the number of fragments where RDKit may add hydrogens; None if not even so."""
    if _unfit(molecule):
        return None, 0
    mol = to_rdkit(molecule, implicit_hydrogens=True)
    if sanitise(mol):
        return None, 0
    try:
        return canonical_smiles(mol), len(Chem.GetMolFrags(mol))
    except (ValueError, RuntimeError):  # removing its hydrogens leaves no molecule
        return None, 0
