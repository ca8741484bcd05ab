"""gdb-mini: what is enumerated, that nothing is missing, its conformers, and its cache."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, rdBase

from framework.errors import DataError, UserError
from modalities.molecules import cache
from modalities.molecules.arrays import MoleculeArrays
from modalities.molecules.cache import Found, load_or_make
from modalities.molecules.checks import RADII, strained_bond
from modalities.molecules.conformers import embed, embed_all
from modalities.molecules.gdb_enumeration import BOND, VALENCES, enumerate_molecules
from modalities.molecules.gdb_mini import choose, load_gdb_mini, make_gdb_mini
from modalities.molecules.gdb_rules import FINISHED, NEVER, fault
from modalities.molecules.molecule import Molecule, canonical_smiles, to_rdkit


@pytest.fixture(scope="module")
def levels() -> list[list[str]]:
    return enumerate_molecules(5)


@pytest.fixture(scope="module")
def small() -> Found:
    return make_gdb_mini(largest=4, count=90, workers=1)


def test_enumeration_is_valid_canonical_and_without_duplicates(levels: list[list[str]]) -> None:
    for size, level in enumerate(levels, start=1):
        assert level == sorted(set(level))
        for smiles in level:
            mol = Chem.MolFromSmiles(smiles)
            assert mol.GetNumHeavyAtoms() == size
            assert Chem.MolToSmiles(mol) == smiles
            assert not any(atom.GetFormalCharge() or atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
            assert fault(mol) is None


def test_enumeration_finds_all_that_brute_force_finds(levels: list[list[str]]) -> None:
    """All matrices of bond orders between all choices of elements, for up to four atoms without fluorine."""
    with rdBase.BlockLogs():
        for size in range(1, 5):
            pairs = list(itertools.combinations(range(size), 2))
            found = set()
            for orders in itertools.product(range(4), repeat=len(pairs)):
                degree = [sum(o for pair, o in zip(pairs, orders, strict=True) if k in pair) for k in range(size)]
                # The largest valence needs the largest degree: sorted atoms are enough, and few matrices remain.
                if sum(o > 0 for o in orders) < size - 1 or max(degree) > 4 or degree != sorted(degree):
                    continue
                for elements in itertools.product(VALENCES, repeat=size):
                    if any(d > VALENCES[z] for d, z in zip(degree, elements, strict=True)):
                        continue
                    mol = Chem.RWMol()
                    for z in elements:
                        mol.AddAtom(Chem.Atom(z))
                    for (i, j), order in zip(pairs, orders, strict=True):
                        if order:
                            mol.AddBond(i, j, BOND[order])
                    whole = len(Chem.GetMolFrags(mol)) == 1
                    if whole and not Chem.SanitizeMol(mol, catchErrors=True) and fault(mol) is None:
                        found.add(Chem.MolToSmiles(mol))
            assert found == {smiles for smiles in levels[size - 1] if "F" not in smiles}


@pytest.mark.parametrize(
    ("smiles", "rule"),
    [
        ("COOC", "peroxide"),
        ("CN=O", "nitroso"),
        ("C=C=C", "cumulated double bonds"),
        ("C1CC1C1CC1", "more than one small ring"),
        ("C=CO", "enol"),
        ("NCO", "aminal, hemiaminal or hemiacetal"),
        ("CN=NC", "azo"),
        ("NN", "hydrazine"),
        ("NF", "hypofluorite or N-F"),
        ("CN=N", "azo"),
        ("C1#CCCCC1", "triple bond in a ring"),
        ("C1=C2CCC(C1)C2", "double bond at a bridgehead"),
        ("C1CN2CC1C2", "nitrogen at a bridgehead of a small ring"),
        ("C1=CC1", "cyclopropene"),
        ("FCO", "fluorine beside a hetero atom"),
    ],
)
def test_implausible_motifs_are_named(smiles: str, rule: str) -> None:
    assert fault(Chem.MolFromSmiles(smiles)) == rule


@pytest.mark.parametrize(
    "smiles",
    ["CCO", "c1ccoc1", "c1c[nH]cn1", "CC(N)=O", "C1CO1", "CC=NO", "FC(F)(F)C=O", "Fc1ccoc1", "C1OCCO1", "CC#N"],
)
def test_plausible_molecules_pass(smiles: str) -> None:
    assert fault(Chem.MolFromSmiles(smiles)) is None


def test_all_rules_are_smarts() -> None:
    assert all(Chem.MolFromSmarts(smarts) is not None for smarts in (*NEVER.values(), *FINISHED.values()))


def test_choice_keeps_all_smaller_ones_and_does_not_depend_on_the_order(levels: list[list[str]]) -> None:
    smaller = {smiles for level in levels[:-1] for smiles in level}
    chosen = choose(levels, len(smaller) + 50)
    assert len(chosen) == len(set(chosen)) == len(smaller) + 50
    assert smaller < set(chosen)
    assert chosen == choose([*levels[:-1], levels[-1][::-1]], len(smaller) + 50)
    assert set(chosen) < set(choose(levels, len(smaller) + 60))


def test_molecules_are_what_their_smiles_say(small: Found) -> None:
    molecules = small.molecules
    assert len(molecules) + len(small.bad) == 90
    assert len(set(molecules.smiles)) == len(molecules)
    for index, smiles in enumerate(molecules.smiles):
        molecule = molecules[index]
        mol = to_rdkit(molecule)
        Chem.SanitizeMol(mol)  # with no implicit hydrogens allowed
        assert canonical_smiles(mol) == smiles
        assert (molecule.bonds == molecule.bonds.T).all() and not np.diag(molecule.bonds).any()
        assert strained_bond(molecule) is None
        apart = np.linalg.norm(molecule.positions[:, None] - molecule.positions, axis=-1)
        free = np.triu(molecule.bonds == 0, 1)
        radii = RADII[molecule.elements]
        assert (apart > (radii[:, None] + radii) * 1.1)[free].all()  # what is not bonded is apart


def test_the_smallest_set_is_refused_or_as_asked() -> None:
    with pytest.raises(UserError, match="largest=9"):
        make_gdb_mini(largest=9)
    with pytest.raises(UserError, match="count=5"):
        make_gdb_mini(largest=3, count=5)


def test_conformers_are_a_function_of_the_smiles() -> None:
    names = ["CCO", "CC(=O)N", "C1CC1", "not a molecule", "CC.O"] * 14
    alone, together = embed_all(names, workers=1), embed_all(names, workers=2)
    for one, other in zip(alone, together, strict=True):
        if isinstance(one, DataError):
            assert str(one) == str(other)
        else:
            assert not isinstance(other, DataError)
            np.testing.assert_array_equal(one[0].positions, other[0].positions)
    assert "cannot read" in str(alone[3])
    assert "2 fragments" in str(alone[4])


def test_an_element_without_a_force_field_is_refused() -> None:
    with pytest.raises(DataError, match="MMFF94 has no parameters"):
        embed("C[B](C)C")


def test_a_stretched_bond_is_seen() -> None:
    molecule, _ = embed("CC")
    far = Molecule(molecule.elements, molecule.charges, molecule.bonds, molecule.positions * 1.5)
    assert strained_bond(far) is not None


def test_the_second_load_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Found) -> None:
    monkeypatch.setattr("modalities.molecules.gdb_mini.make_gdb_mini", lambda *_: small)
    first = load_gdb_mini(4, 90, folder=tmp_path)
    monkeypatch.setattr("modalities.molecules.gdb_mini.make_gdb_mini", lambda *_: pytest.fail("made again"))
    second = load_gdb_mini(4, 90, folder=tmp_path)
    assert first.molecules.smiles == second.molecules.smiles
    assert second.molecules.names == ("logp", "polar_area")
    np.testing.assert_array_equal(first.molecules.positions, second.molecules.positions)
    np.testing.assert_array_equal(first.molecules.bonds, second.molecules.bonds)
    assert list(first.bad) == list(second.bad)


def test_another_recipe_or_release_has_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Found
) -> None:
    for depends_on in ({"largest": 4}, {"largest": 5}):
        load_or_make("set", depends_on, lambda: small, tmp_path)
    monkeypatch.setattr(cache.rdkit, "__version__", "1.0")
    load_or_make("set", {"largest": 4}, lambda: small, tmp_path)
    assert len(list(tmp_path.glob("set-*.npz"))) == 3


def test_a_damaged_file_is_made_again(tmp_path: Path, small: Found) -> None:
    load_or_make("set", {}, lambda: small, tmp_path)
    [file] = tmp_path.glob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="made again"):
        again = load_or_make("set", {}, lambda: small, tmp_path)
    assert again.molecules.smiles == small.molecules.smiles
    assert MoleculeArrays.load(file)[0].smiles == small.molecules.smiles


def test_a_kill_while_the_cache_is_written_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Found
) -> None:
    def killed(file: object, **arrays: np.ndarray) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        load_or_make("set", {}, lambda: small, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, small: Found) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be written"):
        found = load_or_make("set", {}, lambda: small, tmp_path / "file")
    assert found is small
