"""Stability by explicit bonds: an atom is stable if its bonds' orders add up to a valence of its element and charge.

Bonds are kekulised, so the sum is one of whole numbers. A table with an aromatic class has to guess (two aromatic bonds
and a single one: is it 3 or 4?), and the field's guess, an aromatic bond of order 1, calls a methyl radical stable
(Nikitin et al. 2025, "GEOM-Drugs revisited"). A (element, charge) that is not in the table is unstable, and so is a
radical: there is no valence for what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.measured import pooled_share, share
from modalities.molecules.molecule import Molecule

H, B, C, N, O, F, SI, P, S, CL, AS, SE, BR, I = 1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53  # noqa: E741
VALENCES: dict[tuple[int, int], tuple[int, ...]] = {
    (H, 0): (1,),
    (B, 0): (3,),
    (B, -1): (4,),
    (C, 0): (4,),
    (C, 1): (3,),
    (C, -1): (3,),
    (N, 0): (3,),
    (N, 1): (4,),
    (N, -1): (2,),
    (N, -2): (1,),
    (O, 0): (2,),
    (O, 1): (3,),
    (O, -1): (1,),
    (F, 0): (1,),
    (SI, 0): (4,),
    (P, 0): (3, 5),
    (P, 1): (4,),
    (S, 0): (2, 4, 6),
    (S, 1): (3, 5),
    (S, 2): (4,),
    (S, -1): (1,),
    (CL, 0): (1,),
    (CL, 1): (2,),
    (AS, 0): (3, 5),
    (AS, 1): (4,),
    (SE, 0): (2, 4, 6),
    (SE, 1): (3, 5),
    (SE, -1): (1,),
    (BR, 0): (1,),
    (BR, 1): (2,),
    (I, 0): (1, 3, 5),
    (I, 1): (2,),
    (I, 2): (3,),
}


@dataclass(frozen=True, eq=False)
class Stability:
    """Of M molecules: how many of their atoms are stable, and how many they have."""

    stable: Int[np.ndarray, " m"]
    atoms: Int[np.ndarray, " m"]

    @property
    def molecules(self) -> Bool[np.ndarray, " m"]:
        """Which molecules have atoms, all of them stable. Whether they hold together is not asked."""
        return (self.stable == self.atoms) & (self.atoms > 0)

    def measurements(self, seed: int, prefix: str = "") -> dict[str, Measurement]:
        """`atom_stability`, over the atoms of all molecules (n: atoms), and `molecule_stability` (n: molecules)."""
        return {
            f"{prefix}atom_stability": pooled_share(self.stable, self.atoms, seed),
            f"{prefix}molecule_stability": share(self.molecules, seed),
        }


def stable_atoms(molecule: Molecule) -> Bool[np.ndarray, " n"]:
    """Which of its N atoms have a valence of the table."""
    valences = molecule.bonds.sum(1).tolist()
    atoms = zip(molecule.elements.tolist(), molecule.charges.tolist(), valences, strict=True)
    return np.array([valence in VALENCES.get((element, charge), ()) for element, charge, valence in atoms], bool)


def stability(molecules: Sequence[Molecule]) -> Stability:
    """Which atoms and molecules are stable by their explicit bonds."""
    return Stability(
        np.array([stable_atoms(molecule).sum() for molecule in molecules], np.int64),
        np.array([len(molecule) for molecule in molecules], np.int64),
    )
