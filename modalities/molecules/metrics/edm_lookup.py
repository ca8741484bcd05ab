"""EDM's metrics: bonds are looked up from distances (Hoogeboom et al. 2022, arXiv:2203.17003). To compare with papers.

A pair at distance d (in pm) of elements a and b has bond order

    3 if d < three[a, b] + 3,  2 if d < two[a, b] + 5,  1 if d < one[a, b] + 10,  0 otherwise,

where each condition also needs those after it. An atom is stable if its orders add up to a valence of the element;
formal charges are not asked for. A molecule is valid if RDKit sanitises the graph, hydrogens added as it likes; its
SMILES is that of the largest fragment, with the hydrogens that were generated, so that two molecules that differ in a
missing one are distinct. Arithmetic is in float32 as in EDM's code. (EDM's validity takes the distances of molecules of
more than 25 atoms by way of a matrix product, whose rounding depends on the machine; here they are exact.)

The thresholds were tuned on QM9's geometries by DFT, of which 95.2 % are stable. Of a force field's it is far fewer:
the benzene ring's 1.40 Angstrom is too long for a double bond. And no molecule with a charged atom is stable but by
chance. So no model's number means anything without that of the data beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.measured import share
from modalities.molecules.metrics.novelty import novelty
from modalities.molecules.metrics.stability import Stability
from modalities.molecules.molecule import ORDERS, Molecule

MARGINS = (10, 5, 3)
SYMBOLS = {
    "H": 1, "B": 5, "C": 6, "N": 7, "O": 8, "F": 9, "Al": 13, "Si": 14, "P": 15, "S": 16, "Cl": 17, "As": 33, "Br": 35,
    "I": 53, "Hg": 80, "Bi": 83,
}  # fmt: skip
# Lengths in pm, the lighter element first: EDM looks them up in this order, in which alone C=S is a double bond.
SINGLE = {
    "H": "H74 B119 C109 N101 O96 F92 Si148 P144 S134 Cl127 As152 Br141 I161",
    "B": "Cl175",
    "C": "C154 N147 O143 F135 Si185 P184 S182 Cl177 Br194 I214",
    "N": "N145 O140 F136 P177 S168 Cl175 Br214 I222",
    "O": "O148 F142 Si163 P163 S151 Cl164 Br172 I194",
    "F": "F142 Si160 P156 S158 Cl166 Br178 I187",
    "Si": "Si233 S200 Cl202 Br215 I243",
    "P": "P221 S210 Cl203 Br222",
    "S": "S204 Cl207 Br225 I234",
    "Cl": "Cl199 Br214",
    "Br": "Br228",
    "I": "I266",
}
DOUBLE = {"C": "C134 N129 O120 S160", "N": "N125 O121", "O": "O121 P150", "P": "S186"}
TRIPLE = {"C": "C120 N116 O113", "N": "N110"}
VALENCES = {
    "H": (1,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "B": (3,), "Al": (3,), "Si": (4,), "P": (3, 5), "S": (4,),
    "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2), "Bi": (3, 5),
}  # fmt: skip
ELEMENTS, MOST_BONDS = 128, 512
CHUNK = 256


@dataclass(frozen=True, eq=False)
class EdmLookup:
    """What EDM's lookup says of M molecules.

    Attributes:
        stability: of atoms and molecules.
        smiles: of the largest fragment, hydrogens included; None where RDKit does not sanitise the graph.
    """

    stability: Stability
    smiles: list[str | None]

    def measurements(self, seed: int) -> dict[str, Measurement]:
        """`edm_atom_stability` (of atoms), `edm_molecule_stability`, `edm_valid` (of all), `edm_unique` (of valid)."""
        result = self.stability.measurements(seed, "edm_")
        result["edm_valid"] = share(np.array([text is not None for text in self.smiles], bool), seed)
        result["edm_unique"] = novelty(self.smiles, frozenset(), seed)["unique"]
        return result


def edm_lookup(molecules: Sequence[Molecule], *, highest_order: int = 3) -> EdmLookup:
    """Judge molecules by their elements and positions alone.

    Arguments:
        highest_order: of the bonds of the graph that is sanitised: 1 for what EDM's code does on GEOM-Drugs.
    """
    stable, smiles = [], []
    with BlockLogs():
        for molecule, orders in zip(molecules, edm_orders(molecules), strict=True):
            allowed = STABLE[_known(molecule.elements), np.minimum(orders.sum(1), MOST_BONDS - 1)]
            stable.append(int(allowed.sum()))
            smiles.append(_smiles(molecule, np.minimum(orders, highest_order)))
    atoms = np.array([len(molecule) for molecule in molecules], np.int64)
    return EdmLookup(Stability(np.array(stable, np.int64), atoms), smiles)


def edm_orders(molecules: Sequence[Molecule]) -> Iterator[Int[np.ndarray, "n n"]]:
    """The orders that EDM's lookup gives each molecule's pairs of atoms, symmetric with an empty diagonal."""
    for start in range(0, len(molecules), CHUNK):
        part = molecules[start : start + CHUNK]
        most = max(map(len, part))
        elements = np.zeros((len(part), most), np.int64)
        positions = np.zeros((len(part), most, 3), np.float32)
        for i, molecule in enumerate(part):
            elements[i, : len(molecule)] = _known(molecule.elements)
            positions[i, : len(molecule)] = molecule.positions
        orders = _orders(elements, positions)
        for i, molecule in enumerate(part):
            yield orders[i, : len(molecule), : len(molecule)]


def _orders(elements: Int[np.ndarray, "m n"], positions: Float[np.ndarray, "m n 3"]) -> Int[np.ndarray, "m n n"]:
    with np.errstate(over="ignore", invalid="ignore"):  # positions that are no numbers have no bonds
        squared = (positions[:, :, None] - positions[:, None]) ** 2
        distances = np.float32(100) * np.sqrt(squared[..., 0] + squared[..., 1] + squared[..., 2])
        # Thresholds of 0 where there is no such bond: no distance is less.
        limits = LIMITS[:, elements[:, :, None], elements[:, None]]
        shorter = np.logical_and.accumulate(distances < limits, axis=0)
    orders = shorter.sum(0)
    orders[:, np.arange(elements.shape[1]), np.arange(elements.shape[1])] = 0
    return orders


def _known(elements: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Elements as rows of the tables; row 0 has no bonds and no valence."""
    return np.where((elements > 0) & (elements < ELEMENTS), elements, 0)


def _smiles(molecule: Molecule, orders: Int[np.ndarray, "n n"]) -> str | None:
    mol = Chem.RWMol()
    for element in molecule.elements.tolist():
        mol.AddAtom(Chem.Atom(element))
    for i, j in np.argwhere(np.tril(orders)).tolist():
        mol.AddBond(i, j, ORDERS[int(orders[i, j])])
    try:
        Chem.SanitizeMol(mol)
        fragments = Chem.GetMolFrags(mol, asMols=True)
    except ValueError:
        return None
    largest = max(fragments, default=mol, key=lambda fragment: fragment.GetNumAtoms())
    return Chem.MolToSmiles(largest)


def _limits() -> Float[np.ndarray, "3 e e"]:
    limits = np.zeros((3, ELEMENTS, ELEMENTS), np.float32)
    for row, (lengths, margin) in enumerate(zip((SINGLE, DOUBLE, TRIPLE), MARGINS, strict=True)):
        for first, others in lengths.items():
            for entry in others.split():
                symbol = entry.rstrip("0123456789")
                a, b = SYMBOLS[first], SYMBOLS[symbol]
                limits[row, a, b] = limits[row, b, a] = int(entry[len(symbol) :]) + margin
    return limits


def _stable() -> np.ndarray:
    stable = np.zeros((ELEMENTS, MOST_BONDS), bool)
    for symbol, valences in VALENCES.items():
        stable[SYMBOLS[symbol], list(valences)] = True
    return stable


LIMITS, STABLE = _limits(), _stable()
