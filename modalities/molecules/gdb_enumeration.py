"""All small molecules of C, N, O and F that the rules of `gdb_rules` leave: one atom is added at a time.

A molecule of n atoms without fluorine is one of n - 1 atoms and one more, which is a leaf (bonded to one atom) or
closes a ring (bonded to two). To come by each molecule about once and not n times,

    * a leaf is added only if no other leaf comes after it in an order by (element, order of its bond);
    * a ring is closed only if no leaf remains: a molecule with leaves is made from its largest leaf.

Every molecule with leaves is made by its last one, and one without any has an atom with two bonds whose removal leaves
it in one piece; what is not found are cages whose atoms all have three bonds, and rings that open only into chains that
the rules forbid. What is made twice has the same canonical SMILES. Fluorine comes last, as C-F or CF3 in place of
hydrogens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rdkit import Chem, rdBase

from modalities.molecules.gdb_rules import fault, never

VALENCES = {6: 4, 7: 3, 8: 2}
FLUORINE = 9
BOND = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
# The atoms that a new one is bonded to, and the orders of these bonds.
Attachment = tuple[tuple[int, int], ...]


def enumerate_molecules(largest: int, progress: Callable[[str], object] = lambda done: None) -> list[list[str]]:
    """Canonical SMILES of the molecules of 1, 2, ..., `largest` heavy atoms, each list sorted.

    `progress` is called with a few words before each size.
    """
    grown: list[str] = ["C", "N", "O"]
    plain: list[list[str]] = []
    with rdBase.BlockLogs():  # a valence that does not fit is no news here
        for size in range(1, largest + 1):
            progress(f"molecules of {size} heavy atoms")
            children = (child for smiles in grown for child in _children(smiles))
            if size == largest > 1:  # nothing grows from these, so that the finished ones are enough
                plain.append(sorted(_accepted(children, fault)))
                break
            grown = sorted(_accepted(children, never)) if size > 1 else grown
            plain.append([smiles for smiles in grown if fault(Chem.MolFromSmiles(smiles)) is None])
        levels = [
            sorted({*level, *_accepted(_fluorinated(plain, size), fault)}) for size, level in enumerate(plain, start=1)
        ]
    return levels


def _accepted(candidates: Iterable[Chem.RWMol], rule: Callable[[Chem.Mol], str | None]) -> set[str]:
    return {
        Chem.MolToSmiles(candidate)
        for candidate in candidates
        if Chem.SanitizeMol(candidate, catchErrors=True) == Chem.SANITIZE_NONE and rule(candidate) is None
    }


def _children(smiles: str) -> Iterator[Chem.RWMol]:
    """A molecule with one more atom, in all ways that the order of leaves allows; not sanitised."""
    mol = Chem.MolFromSmiles(smiles)
    hydrogens = [atom.GetTotalNumHs() for atom in mol.GetAtoms()]
    base = editable(mol)
    for element, attachment in (*_leaves(mol, hydrogens), *_closures(mol, hydrogens)):
        yield _with_atom(base, element, attachment)


def _leaves(mol: Chem.Mol, hydrogens: Sequence[int]) -> Iterator[tuple[int, Attachment]]:
    leaves = _leaf_keys(mol)
    seen = set()
    for index, rank in enumerate(Chem.CanonicalRankAtoms(mol, breakTies=False)):
        if rank in seen or not hydrogens[index]:
            continue  # atoms that a symmetry exchanges give the same
        seen.add(rank)
        last = max((key for leaf, key in leaves.items() if leaf != index), default=(0, 0))
        if mol.GetNumAtoms() == 2:
            last = (0, 0)  # the other atom is a leaf only until this one is bonded to it or beside it
        for element, valence in VALENCES.items():
            for order in range(1, min(valence, hydrogens[index], 3) + 1):
                if (element, order) >= last:
                    yield element, ((index, order),)


def _closures(mol: Chem.Mol, hydrogens: Sequence[int]) -> Iterator[tuple[int, Attachment]]:
    leaves = set(_leaf_keys(mol))
    free = [index for index, count in enumerate(hydrogens) if count]
    for i in free:
        for j in free:
            if i >= j or not leaves <= {i, j}:
                continue
            for element, valence in VALENCES.items():
                for order_i, order_j in ((1, 1), (1, 2), (2, 1)):
                    if order_i + order_j <= valence and order_i <= hydrogens[i] and order_j <= hydrogens[j]:
                        yield element, ((i, order_i), (j, order_j))


def _leaf_keys(mol: Chem.Mol) -> dict[int, tuple[int, int]]:
    """(element, order of its bond) of the atoms with one bond, or with none."""
    return {
        atom.GetIdx(): (atom.GetAtomicNum(), sum(int(bond.GetBondTypeAsDouble()) for bond in atom.GetBonds()))
        for atom in mol.GetAtoms()
        if atom.GetDegree() <= 1
    }


def _fluorinated(plain: Sequence[Sequence[str]], size: int) -> Iterator[Chem.RWMol]:
    """Molecules of `size` heavy atoms with one fluorine at an aromatic or saturated carbon, or with one CF3."""
    for count in (1, 3):
        for smiles in plain[size - count - 1] if size > count else ():
            mol = Chem.MolFromSmiles(smiles)
            base = editable(mol)
            for atom in mol.GetAtoms():
                saturated = atom.GetHybridization() == Chem.HybridizationType.SP3
                carbon = atom.GetAtomicNum() == 6 and atom.GetTotalNumHs() >= count
                if carbon and (atom.GetTotalNumHs() == 3 if count == 3 else saturated or atom.GetIsAromatic()):
                    child = base
                    for _ in range(count):
                        child = _with_atom(child, FLUORINE, ((atom.GetIdx(), 1),))
                    yield child


def editable(mol: Chem.Mol) -> Chem.RWMol:
    """A kekulised copy whose hydrogens follow from the valences."""
    base = Chem.RWMol(mol)
    Chem.Kekulize(base, clearAromaticFlags=True)
    for atom in base.GetAtoms():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    return base


def _with_atom(base: Chem.RWMol, element: int, attachment: Attachment) -> Chem.RWMol:
    child = Chem.RWMol(base)
    new = child.AddAtom(Chem.Atom(element))
    for index, order in attachment:
        child.AddBond(index, new, BOND[order])
    return child
