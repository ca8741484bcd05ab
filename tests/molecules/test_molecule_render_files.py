"""Files hold what was generated, valid or not, and what is read is what the file says, or an error that says why."""

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem, rdBase

from framework.errors import DataError
from modalities.molecules.conformers import embed
from modalities.molecules.depict import depict, drawing, formula, verdict
from modalities.molecules.files import read_fragment, read_molecule, write_sdf, write_smiles, write_xyz
from modalities.molecules.metrics.validity import strict_reason
from modalities.molecules.molecule import Molecule, from_rdkit

ACETATE = "CC(=O)[O-]"


def made(symbols, bonds, charges=None, properties=None):
    """A molecule of symbols and (i, j, order), its atoms on a helix."""
    n = len(symbols)
    orders = np.zeros((n, n), np.int64)
    for i, j, order in bonds:
        orders[i, j] = orders[j, i] = order
    table = Chem.GetPeriodicTable()
    turn = np.arange(n)
    positions = np.stack([1.3 * np.cos(turn), 1.3 * np.sin(turn), 0.5 * turn], -1)
    elements = np.array([table.GetAtomicNumber(name) for name in symbols], np.int64)
    return Molecule(elements, np.array(charges or [0] * n, np.int64), orders, positions, properties or {})


def moved(molecule, positions):
    return Molecule(molecule.elements, molecule.charges, molecule.bonds, positions, molecule.properties)


@pytest.fixture(scope="module")
def valid():
    found = [embed(smiles)[0] for smiles in ("c1ccc2[nH]ccc2c1", "C#CC(=O)N", ACETATE, "C[N+](=O)[O-]")]
    found.append(made("HH", [(0, 1, 1)]))
    return [Molecule(m.elements, m.charges, m.bonds, m.positions, {"gap": 1 / 3 + i}) for i, m in enumerate(found)]


@pytest.fixture(scope="module")
def broken():
    return [
        made("CHHHHH", [(0, i, 1) for i in range(1, 6)]),
        made("CHHH", [(0, i, 1) for i in range(1, 4)]),
        made("OHHOHH", [(0, 1, 1), (0, 2, 1), (3, 4, 1), (3, 5, 1)]),
        made("NHHHH", [(0, i, 1) for i in range(1, 5)]),
    ]


def same(a, b, digits):
    assert a.elements.tolist() == b.elements.tolist()
    assert a.charges.tolist() == b.charges.tolist()
    assert np.array_equal(a.bonds, b.bonds)
    assert np.abs(a.positions - b.positions).max() <= 0.5000001 * 10.0**-digits


def test_an_sdf_holds_atoms_kekulised_bonds_charges_positions_and_properties(tmp_path, valid):
    for i, molecule in enumerate(valid):
        path = write_sdf(tmp_path / f"{i}.sdf", [molecule], [{"prompt": "gap=1"}])
        read = read_molecule(path)
        same(read, molecule, 4)
        assert read.properties["gap"] == molecule.properties["gap"]
        assert "  4  0" not in path.read_text().partition("M  END")[0].splitlines()[-1], "no aromatic bonds"


def test_rdkit_reads_an_sdf_with_the_canonical_smiles_as_title(tmp_path, valid):
    path = write_sdf(tmp_path / "all.sdf", valid, [{"gap": f"asked {i}", "seed": str(i)} for i in range(len(valid))])
    mols = list(Chem.SDMolSupplier(str(path), removeHs=False))
    assert len(mols) == len(valid) and all(mol is not None for mol in mols)
    for i, mol in enumerate(mols):
        written = Chem.CanonSmiles(mol.GetProp("_Name"))
        assert written == Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
        assert mol.GetProp("seed") == str(i)
        assert float(mol.GetProp("gap")) == valid[i].properties["gap"]
        assert mol.GetProp("metadata.gap") == f"asked {i}", "a name that both have loses neither"


def test_what_is_not_valid_is_written_as_it_is_and_says_why(tmp_path, broken):
    path = write_sdf(tmp_path / "broken.sdf", broken)
    reader = Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False)
    for mol, molecule, word in zip(reader, broken, ("valence 5", "lacks", "2 fragments", "valence 4"), strict=True):
        assert mol.GetProp("_Name") == "invalid"
        assert word in mol.GetProp("invalid")
        mol.UpdatePropertyCache(strict=False)
        same(from_rdkit(mol), molecule, 4)  # which also says that no hydrogen was added


def test_a_radical_stays_one_for_a_reader_that_sanitises(tmp_path, broken):
    (mol,) = Chem.SDMolSupplier(str(write_sdf(tmp_path / "a.sdf", broken[1:2])), removeHs=False)
    assert mol.GetAtomWithIdx(0).GetTotalNumHs(includeNeighbors=True) == 3
    assert mol.GetAtomWithIdx(0).GetNumRadicalElectrons() == 1


def test_far_and_lost_positions_do_not_make_a_file_unreadable(tmp_path, valid):
    far = valid[0].positions * 1e5
    lost = valid[0].positions.copy()
    lost[[1, 3], 2] = np.nan, np.inf
    path = write_sdf(tmp_path / "a.sdf", [moved(valid[0], far), moved(valid[0], lost)])
    first, second = Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False)
    assert np.abs(first.GetConformer().GetPositions() - far).max() < 1e-6
    assert second.GetProp("positions_not_finite") == "2 4" and second.GetProp("_Name") == "invalid"


def test_tags_cannot_break_a_record(tmp_path, valid):
    path = write_sdf(tmp_path / "a.sdf", valid[:2], [{"a<b>": "one\n\n$$$$\ntwo"}, {"empty": ""}])
    first, second = Chem.SDMolSupplier(str(path))
    assert first.GetProp("a_b_") == "one $$$$ two"
    assert second.GetNumAtoms()


def test_an_xyz_has_a_frame_a_molecule_and_what_is_known_in_its_comment(tmp_path, valid):
    path = write_xyz(tmp_path / "a.xyz", valid, [{"prompt": 'say "x" = 1'}] * len(valid))
    lines = path.read_text().splitlines()
    for molecule in valid:
        count, comment, atoms, lines = int(lines[0]), lines[1], lines[2 : 2 + len(molecule)], lines[2 + len(molecule) :]
        assert count == len(molecule)
        assert comment.startswith("Properties=species:S:1:pos:R:3 ") and "Lattice" not in comment
        assert f"charge={molecule.charges.sum()}" in comment and r'prompt="say \"x\" = 1"' in comment
        numbers = np.array([line.split()[1:] for line in atoms], float)
        assert np.abs(numbers - molecule.positions).max() <= 0.51e-6
    assert lines == []


def test_the_bonds_of_an_xyz_are_found_for_its_charge(tmp_path, valid):
    for molecule in valid[1:3]:
        read = read_molecule(write_xyz(tmp_path / "a.xyz", [molecule]))
        assert verdict(read).smiles == verdict(molecule).smiles
        assert read.charges.sum() == molecule.charges.sum()
    wrong = tmp_path / "b.xyz"
    wrong.write_text("2\n\nC 0 0 0\nH 0 0 1.09\n")
    with pytest.raises(DataError, match="no bonds fit"):
        read_molecule(wrong)


def test_smiles_files_skip_what_is_not_valid_and_say_so(tmp_path, valid, broken):
    path = write_smiles(tmp_path / "a.smi", [valid[0], broken[0], valid[1]])
    lines = path.read_text().splitlines()
    assert [line.split("\t")[1] for line in lines if not line.startswith("#")] == ["0", "2"]
    assert lines[1].startswith("# 1 is invalid: atom 1: C with valence 5")
    supplier = Chem.SmilesMolSupplier(str(path), delimiter="\t", titleLine=False)
    assert [mol.GetProp("_Name") for mol in supplier] == ["0", "2"]


def test_a_smiles_file_is_read_with_a_conformer(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("# a comment\nOCC name\n")
    molecule = read_molecule(path)
    assert formula(molecule) == "C2H6O" and verdict(molecule).valid
    assert 1.3 < np.linalg.norm(molecule.positions[0] - molecule.positions[1]) < 1.6, "the bond C-O"


def test_missing_hydrogens_are_an_error_or_added_where_that_is_asked(tmp_path, valid):
    heavy = valid[1].elements > 1
    mol = Chem.RemoveHs(Chem.MolFromMolFile(str(write_sdf(tmp_path / "whole.sdf", valid[1:2])), removeHs=False))
    path = tmp_path / "bare.mol"
    Chem.MolToMolFile(mol, str(path))
    with pytest.raises(DataError, match=r"lacks 3 hydrogens.*add_hydrogens"):
        read_molecule(path)
    read = read_molecule(path, add_hydrogens=True)
    assert verdict(read).smiles == verdict(valid[1]).smiles
    assert np.abs(read.positions[: heavy.sum()] - valid[1].positions[heavy]).max() < 1e-4
    lengths = np.linalg.norm(read.positions[:, None] - read.positions, axis=-1)[read.bonds > 0]
    assert (lengths > 0.8).all(), "added hydrogens have places of their own"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.sdf", "", "0 molecules"),
        ("a.mol", "nonsense\n", "no SDF"),
        ("a.xyz", "x\n", "line 1"),
        ("a.xyz", "2\n\nH 0 0 0\n", "says 2 atoms"),
        ("a.xyz", "1\n\nH 0 0\n", "line 3"),
        ("a.xyz", "1\n\nXx 0 0 0\n", "no element"),
        ("a.smi", "CC\nCO\n", "2 molecules"),
        ("a.smi", "C(C\n", r"C\(C"),
        ("a.doc", "", "from .sdf"),
    ],
)
def test_a_file_that_is_no_molecule_says_what_is_wrong(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        read_molecule(tmp_path / name)
    assert name in str(caught.value)


def test_several_flat_missing_and_impossible_molecules_say_so(tmp_path, valid, broken):
    with pytest.raises(DataError, match="2 molecules"):
        read_molecule(write_sdf(tmp_path / "a.sdf", valid[:2]))
    with pytest.raises(DataError, match="flat"):
        flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
        Chem.rdDepictor.Compute2DCoords(flat)
        Chem.MolToMolFile(flat, str(tmp_path / "flat.mol"))
        read_molecule(tmp_path / "flat.mol")
    with pytest.raises(DataError, match="no possible molecule"):
        read_molecule(write_sdf(tmp_path / "b.sdf", broken[:1]))
    with pytest.raises(DataError, match="cannot be read"):
        read_molecule(tmp_path / "nothing.sdf")


def test_a_fragment_keeps_its_atoms_exactly_and_says_where_it_is_open(tmp_path, valid):
    # Acetamide's place of a hydrogen of the nitrogen, and of the alkyne's, left open.
    whole = valid[1]
    gone = [int(np.flatnonzero(whole.bonds[i] * (whole.elements == 1))[0]) for i in (0, 4)]
    keep = np.setdiff1d(np.arange(len(whole)), gone)
    part = Molecule(whole.elements[keep], whole.charges[keep], whole.bonds[np.ix_(keep, keep)], whole.positions[keep])
    fragment = read_fragment(write_sdf(tmp_path / "a.sdf", [part]))
    same(fragment.molecule, part, 4)
    assert fragment.attachments == (0, 4) and fragment.open_valences.sum() == 2


def test_dummies_and_hydrogens_that_a_fragment_lacks_are_open_places(tmp_path):
    mol = Chem.MolFromSmiles("*c1cc[nH]c1.*C[O-]")
    mol = Chem.RWMol(mol)
    conformer = Chem.Conformer(mol.GetNumAtoms())
    positions = np.random.default_rng(0).normal(size=(mol.GetNumAtoms(), 3)).round(4)
    for i, position in enumerate(positions.tolist()):
        conformer.SetAtomPosition(i, position)
    mol.AddConformer(conformer)
    path = tmp_path / "a.mol"
    Chem.MolToMolFile(mol, str(path))
    heavy = [i for i, atom in enumerate(mol.GetAtoms()) if atom.GetAtomicNum()]
    fragment = read_fragment(path)
    assert fragment.molecule.elements.tolist() == [6, 6, 6, 7, 6, 6, 8]
    assert fragment.molecule.charges.tolist() == [0, 0, 0, 0, 0, 0, -1]
    assert np.abs(fragment.molecule.positions - positions[heavy]).max() < 1e-9
    # Carbon with the dummy 1, CH 1, CH 1, NH 1, CH 1; the CH2 with its dummy 3; the oxygen none.
    assert fragment.open_valences.tolist() == [1, 1, 1, 1, 1, 3, 0]


def test_a_valence_that_the_file_declares_is_open_and_adds_no_hydrogen(tmp_path):
    path = tmp_path / "a.mol"
    atom = "{:10.4f}    0.0000    0.2500 C   0  0  0  0  0{:3d}  0  0  0  0  0  0\n"
    path.write_text(
        "\n     test\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n"
        + atom.format(0.0, 4)
        + atom.format(1.5, 1)
        + "  1  2  1  0\nM  END\n"
    )
    fragment = read_fragment(path)
    assert fragment.open_valences.tolist() == [3, 3] and len(fragment.molecule) == 2


def test_an_impossible_fragment_is_an_error(tmp_path, broken):
    with pytest.raises(DataError, match="no part of a molecule"):
        read_fragment(write_sdf(tmp_path / "a.sdf", broken[:1]))
    with pytest.raises(DataError, match="needs bonds"):
        read_fragment(tmp_path / "a.xyz")


def test_verdicts_are_those_of_the_metric_and_name_the_atoms_at_fault(valid, broken):
    for molecule in [*valid, *broken]:
        assert verdict(molecule).valid == (strict_reason(molecule) == "")
    assert [verdict(molecule).atoms for molecule in broken] == [(0,), (0,), (), (0,)]
    assert verdict(broken[2]).smiles == "O.O"


def test_random_graphs_have_a_verdict_a_reason_and_a_drawing():
    rng = np.random.default_rng(1)
    for n, share in ((0, 0.0), (1, 0.0), (7, 0.2), (12, 0.15), (12, 1.0)):
        bonds = np.triu((rng.random((n, n)) < share) * rng.integers(1, 4, (n, n)), 1)
        molecule = Molecule(
            rng.choice([0, 1, 6, 7, 8, 9], n), rng.integers(-1, 2, n), bonds + bonds.T, rng.normal(size=(n, 3)), {}
        )
        found = verdict(molecule)
        assert found.valid == (strict_reason(molecule) == "") and not (found.valid and found.atoms)
        assert depict(molecule, 120, 90).size == (120, 90)


def test_drawings_have_the_colours_of_elements_and_frame_what_is_broken(valid, broken):
    amide = np.asarray(drawing(valid[1], 240, 180)).astype(int).reshape(-1, 3)
    assert (np.abs(amide - (255, 0, 0)).sum(1) < 60).sum() > 20, "oxygen is red"
    assert (np.abs(amide - (0, 0, 255)).sum(1) < 60).sum() > 20, "nitrogen is blue"
    assert (amide.sum(1) < 90).sum() > 20, "bonds are black"
    good, bad = (np.asarray(depict(molecule)) for molecule in (valid[1], broken[0]))
    assert (good[0] == 255).all()
    assert (bad[0, :, 0] > 150).all() and (bad[0, :, 1:] < 100).all()
    marked = np.asarray(drawing(broken[0], 240, 180)).astype(int).reshape(-1, 3)
    assert (np.abs(marked - (250, 158, 148)).sum(1) < 20).sum() > 50, "the atom at fault has a disc"


def test_rdkits_log_is_as_it_was(broken, capfd):
    rdBase.LogToCppStreams()  # as RDKit starts; what another test imported may have changed it
    verdict(broken[0])
    assert capfd.readouterr().err == ""
    with rdBase.BlockLogs():
        pass
    Chem.MolFromSmiles("C(")
    assert "SMILES Parse Error" in capfd.readouterr().err
