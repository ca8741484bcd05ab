"""Which molecules of C, N, O and F a chemist would believe in: the rules of gdb-mini.

Two lists of substructures (SMARTS) that may not occur. Those of NEVER hold while molecules grow: a molecule that has
one keeps it when atoms are added, so that nothing is lost by dropping it early. Those of FINISHED look at hydrogens and
valences, which growth still changes, and are asked of finished molecules only. After the spirit of GDB-11 and GDB-17,
with our own, stricter lists: what hydrolyses, tautomerises or bursts is left out.

Fink, Reymond: Virtual exploration of the chemical universe up to 11 atoms of C, N, O, F, J. Chem. Inf. Model. 2007.
Ruddigkeit et al.: Enumeration of 166 billion organic small molecules in GDB-17, J. Chem. Inf. Model. 2012.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

SMALL_RING = 4  # atoms; rings up to this size are strained

NEVER: Mapping[str, str] = {
    "peroxide": "[#8]~[#8]",
    "nitroso": "[#7]=[#8]",
    "hypofluorite or N-F": "[#9]~[!#6]",
    "cumulated double bonds": "*=*=*",
    "triple bond in a ring": "*#;@*",
    "triple bond at a small ring's atom": "[#6;r3,r4]#*",
    "chain of three hetero atoms": "[#7,#8;!a]~[#7,#8;!a]~[#7,#8]",
    "ring of five hetero atoms": "[#7,#8]~[#7,#8]~[#7,#8]~[#7,#8]~[#7,#8]",
    "hetero atoms bonded in a small ring": "[#7,#8;r3,r4]~[#7,#8;r3,r4]",
    "cyclopropene": "[#6;r3]=[#6;r3]",
    "small aromatic ring, or one fused to it": "[a;r3,r4]",
    "C=N in a small ring": "[r3,r4]=[#7;r3,r4]",
    "ynamine": "[NX2,NX3;!a][C]#C",
    "imino nitrile": "[NX2]C#N",
    "ynol or cyanate": "O[C]#*",
    "hydroxylamine": "[NX3;!a][OX2]",
    "hydrazine": "[NX3;!a][NX3;!a]",
    "azo": "[NX2;!a]=[NX2;!a]",
    "orthoester": "[CX4;D4]([O,N])([O,N])[O,N]",
}
FINISHED: Mapping[str, str] = {
    "enol": "[OX2H][CX3;!a]=[C,N]",
    "N-H enamine": "[NX3;!H0;!a][CX3;!a]=[CX3]",
    "ketene acetal or aminal": "[CX3](=[CX3])([OX2])[OX2,NX3]",
    "aminal, hemiaminal or hemiacetal": "[CX4]([OX2H1,NX3])[OX2,NX3]",
    "three hetero atoms at a saturated carbon": "[CX4]([O,N,F])([O,N])[O,N]",
    "fluorine beside a hetero atom": "[CX4,CX3;!a](F)~[O,N]",
    "fluoroalkene": "[CX3;!a](F)=*",
    "fluoroalkyne": "FC#*",
    "N-N outside of an aromatic ring": "[NX3;!a][N,n]",
    "N-O or N-N at an aromatic atom": "[O,N;!a]-[n,o]",
    "imine with hydrogen": "[NX2H1]=[CX3]([#6,#1])[#6,#1]",
    "imine of formaldehyde": "[NX2]=[CX3;H2]",
    "aldimine without substituents": "[NX2H1]=[CX3;H1,H2]",
    "imidate with hydrogen": "[OX2;H0][CX3;!R]=[NX2H1]",
    "conjugated amidine": "[NX2]=[CX3][NX2]=[CX3]",
    "oxime ester": "[OX2][NX2]=[CX3][OX2]",
    "carbonic or carbamic acid": "[OX2H]C(=O)[O,N]",
    "anhydride": "O=CO[CX3]=[O,N]",
    "three carbonyls": "O=CC(=O)C=O",
    "double bond at a three-membered ring": "[r3]=[!O]",
    "cyclobutadiene": "[r4]=[r4][r4]=[r4]",
}


def _compiled(rules: Mapping[str, str]) -> list[tuple[str, Chem.Mol]]:
    return [(name, Chem.MolFromSmarts(smarts)) for name, smarts in rules.items()]


_NEVER, _FINISHED = _compiled(NEVER), _compiled(FINISHED)


def never(mol: Chem.Mol) -> str | None:
    """The rule for growing molecules that a sanitised molecule breaks, if any."""
    if sum(len(ring) <= SMALL_RING for ring in mol.GetRingInfo().AtomRings()) > 1:
        return "more than one small ring"
    return _first(mol, _NEVER)


def fault(mol: Chem.Mol) -> str | None:
    """The rule that a finished, sanitised molecule breaks, if any."""
    return never(mol) or _first(mol, _FINISHED) or _bredt(mol)


def _first(mol: Chem.Mol, rules: Iterable[tuple[str, Chem.Mol]]) -> str | None:
    return next((name for name, pattern in rules if mol.HasSubstructMatch(pattern)), None)


def _bredt(mol: Chem.Mol) -> str | None:
    """What a bridgehead of a small bicycle cannot be."""
    bridgeheads: list[int] = []
    rdMolDescriptors.CalcNumBridgeheadAtoms(mol, bridgeheads)  # type: ignore[arg-type]
    for index in bridgeheads:
        atom = mol.GetAtomWithIdx(index)
        if any(bond.GetBondType() != Chem.BondType.SINGLE for bond in atom.GetBonds()):
            return "double bond at a bridgehead"  # its p orbitals cannot be parallel: Bredt's rule
        if atom.GetAtomicNum() == 7 and any(atom.IsInRingSize(size) for size in range(3, SMALL_RING + 1)):
            return "nitrogen at a bridgehead of a small ring"
    return None
