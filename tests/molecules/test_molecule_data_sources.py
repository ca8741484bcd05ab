"""Files of molecules: what is read of good ones, and what is said of bad ones."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from framework.errors import DataError, UserError
from modalities.molecules.data import MoleculeFileData
from modalities.molecules.molecule import canonical_smiles, to_rdkit
from modalities.molecules.readers import xyz_block
from modalities.molecules.sources import load_path, number, numbers

NAMES = ("CCO", "CC(=O)[O-]", "c1ccoc1", "C[NH3+]", "N#CC=O", "FC(F)F")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFRACT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def mol_of(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    mol.SetProp("_Name", smiles)
    return mol


def sdf(mols: list[Chem.Mol], tags: list[dict[str, str]] | None = None) -> str:
    text = ""
    for k, mol in enumerate(mols):
        text += Chem.MolToMolBlock(mol)
        text += "".join(f">  <{name}>\n{value}\n\n" for name, value in (tags[k] if tags else {}).items())
        text += "$$$$\n"
    return text


def test_sdf_gives_bonds_charges_positions_and_numbers(tmp_path: Path) -> None:
    mols = [mol_of(name) for name in NAMES]
    tags = [{"gap (eV)": str(k / 2), "note": "seen", "id": "" if k else "7"} for k in range(len(NAMES))]
    (tmp_path / "set.sdf").write_text(sdf(mols, tags))
    found, bad = load_path(tmp_path / "set.sdf")
    assert not bad
    assert found.smiles == tuple(canonical_smiles(mol) for mol in mols)
    assert found.names == ("gap_eV", "id")  # a note is no number
    np.testing.assert_array_equal(found.properties[:, 0], np.arange(len(NAMES)) / 2)
    assert found.properties[0, 1] == 7 and np.isnan(found.properties[1:, 1]).all()
    for k, mol in enumerate(mols):
        molecule = found[k]
        again = to_rdkit(molecule)
        Chem.SanitizeMol(again)
        assert canonical_smiles(again) == found.smiles[k]
        assert molecule.charges.sum() == Chem.GetFormalCharge(mol)
        np.testing.assert_allclose(molecule.positions, mol.GetConformer().GetPositions(), atol=1e-4)
    assert "id" not in found[1].properties and found[0].properties == {"gap_eV": 0.0, "id": 7.0}


def test_compressed_and_single_mol_files_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.sdf.gz", "wt") as file:
        file.write(sdf([mol_of("CCO"), mol_of("CO")]))
    (tmp_path / "b.mol").write_text(Chem.MolToMolBlock(mol_of("CN")))
    assert load_path(tmp_path).molecules.smiles == ("CCO", "CO", "CN")


def test_xyz_frames_get_their_bonds_from_positions(tmp_path: Path) -> None:
    frames = []
    for smiles, comment in (("CCO", "gap=5.5 other='x'"), ("C[N+](=O)[O-]", "nitromethane"), ("O", "")):
        mol = mol_of(smiles)
        frame = xyz_block([atom.GetSymbol() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions())
        frames.append(frame.replace("\n\n", f"\n{comment}\n", 1))
    (tmp_path / "set.xyz").write_text("".join(frames) + "\n")
    found, bad = load_path(tmp_path / "set.xyz")
    assert not bad
    assert found.smiles == ("CCO", "C[N+](=O)[O-]", "O")
    assert found.names == ("gap",) and found.properties[0, 0] == 5.5


def test_lists_of_smiles_get_conformers(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("# a comment\nCCO ethanol\nC#N\n")
    (tmp_path / "b.csv").write_text("name,SMILES,logp\nx,CO,-0.4\ny,CCC,\n")
    found, bad = load_path(tmp_path)
    assert not bad
    assert found.smiles == ("CCO", "C#N", "CO", "CCC")
    assert found.names == ("logp",)
    np.testing.assert_array_equal(found.properties[:, 0], [np.nan, np.nan, -0.4, np.nan])
    assert all(np.ptp(found[k].positions, axis=0).any() for k in range(4))


def bad_records() -> list[tuple[str, str]]:
    """Blocks of SDF and what should be said of each."""
    ethanol = mol_of("CCO")
    bare = Chem.RemoveHs(ethanol)
    two = Chem.CombineMols(mol_of("C"), mol_of("O"))
    five = Chem.RWMol(mol_of("C"))
    five.AddAtom(Chem.Atom(9))
    five.AddBond(0, 5, Chem.BondType.SINGLE)
    five.GetConformer().SetAtomPosition(5, (1.4, 0.0, 0.0))
    half = Chem.RWMol(ethanol)
    half.RemoveAtom(8)
    drawing = mol_of("CCO")
    drawing.RemoveAllConformers()
    from rdkit.Chem import rdDepictor

    rdDepictor.Compute2DCoords(drawing)
    far = mol_of("CC")
    far.GetConformer().SetAtomPosition(7, (9.0, 9.0, 9.0))
    radical = Chem.AddHs(Chem.MolFromSmiles("[CH3]"))
    rdDistGeom.EmbedMolecule(radical, randomSeed=1)
    ring = "ring\n\n\n" + "  5  5  0  0  0  0  0  0  0  0999 V2000\n"
    angles = np.arange(5) * 2 * np.pi / 5
    ring += "".join(
        f"{1.2 * np.cos(a):10.4f}{1.2 * np.sin(a):10.4f}{0.1 * k:10.4f} C   0  0\n" for k, a in enumerate(angles)
    )
    ring += "".join(f"{k + 1:3d}{(k + 1) % 5 + 1:3d}  4  0\n" for k in range(5)) + "M  END\n"
    return [
        (Chem.MolToMolBlock(bare), "none of its hydrogens is an atom"),
        (Chem.MolToMolBlock(half), "some of its hydrogens are no atoms"),
        (Chem.MolToMolBlock(two), "2 fragments"),
        (Chem.MolToMolBlock(five), "cannot be sanitised: Explicit valence"),
        (Chem.MolToMolBlock(drawing), "drawing"),
        (Chem.MolToMolBlock(far), "the bond C2-H8 is"),
        (Chem.MolToMolBlock(radical), "unpaired electrons"),
        (Chem.MolToMolBlock(mol_of("CS")), "it has S, which data.elements leaves out"),
        (ring, "cannot be sanitised: Can't kekulize"),
        ("nonsense\n", "RDKit cannot read its mol block"),
        (Chem.MolToMolBlock(ethanol).replace("M  END", "").rpartition("  1  2")[0], "RDKit cannot read its mol block"),
    ]


def test_bad_records_are_named_with_their_reasons(tmp_path: Path) -> None:
    records = bad_records()
    good = Chem.MolToMolBlock(mol_of("CO"))
    text = "".join(f"{block}$$$$\n{good}$$$$\n" for block, _ in records)
    (tmp_path / "set.sdf").write_text(text)
    found, bad = load_path(tmp_path / "set.sdf", elements=["H", "C", "N", "O", "F"])
    assert found.smiles == ("CO",) * len(records)
    assert [item.name.split()[0] for item in bad] == [f"set.sdf#{2 * k + 1}" for k in range(len(records))]
    for item, (_, reason) in zip(bad, records, strict=True):
        assert reason in item.reason


def test_bad_frames_and_smiles_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("2\nfar\nH 0 0 0\nH 5 0 0\n3\nbroken\nO 0 0 0\n")
    (tmp_path / "b.smi").write_text("C(C\nCC.O\n[CH3]\nCC\n")
    found, bad = load_path(tmp_path)
    assert found.smiles == ("CC",)
    reasons = {item.name.split()[0]: item.reason for item in bad}
    assert "line 5 should be a number of atoms that follow" in reasons["a.xyz#2"]
    assert "a.xyz#1" in reasons
    assert "cannot read it as SMILES" in reasons["b.smi#1"]
    assert "2 fragments" in reasons["b.smi#2"]
    assert "unpaired electrons" in reasons["b.smi#3"]


def test_a_file_that_is_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    packed = gzip.compress(sdf([mol_of(name) for name in NAMES] * 20).encode())
    (tmp_path / "set.sdf.gz").write_bytes(packed[: len(packed) // 2])
    found, bad = load_path(tmp_path / "set.sdf.gz")
    assert 0 < len(found) < 120
    assert "ends or breaks here" in bad[-1].reason


def test_ions_are_left_out_where_they_are_not_wanted(tmp_path: Path) -> None:
    (tmp_path / "set.sdf").write_text(sdf([mol_of(name) for name in NAMES]))
    found, bad = load_path(tmp_path / "set.sdf", net_charge=0)
    assert len(found) == 4
    assert sorted(item.reason.split(",")[0] for item in bad) == ["its charge is +1", "its charge is -1"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (None, "", "does not exist"),
        ("set.pickle", "", "should end in"),
        ("set.csv", "a,b\n1,2\n", "no column smiles"),
    ],
)
def test_what_is_no_source_is_an_error(tmp_path: Path, name: str | None, text: str, message: str) -> None:
    path = tmp_path / (name or "nothing.sdf")
    if name:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_path(path)


def test_wrong_options_name_what_is_right(tmp_path: Path) -> None:
    (tmp_path / "set.sdf").write_text(sdf([mol_of("CO")], [{"gap": "1"}]))
    with pytest.raises(UserError, match="Xx is no element"):
        load_path(tmp_path / "set.sdf", elements=["C", "Xx"])
    with pytest.raises(UserError, match="has no numbers homo; it has gap"):
        load_path(tmp_path / "set.sdf", properties=["homo"])
    with pytest.raises(UserError, match="no property homo; it has gap"):
        MoleculeFileData(str(tmp_path / "set.sdf"), conditioned=["homo"]).setup()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files of molecules"):
        load_path(tmp_path / "empty")


def test_the_same_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "set.sdf"
    file.write_text(sdf([mol_of("CO")], [{"gap": "1", "mu": "2"}]) + "nonsense\n$$$$\n")
    first = load_path(file)
    with monkeypatch.context() as patch:
        patch.setattr("modalities.molecules.sources.read_files", lambda *_: pytest.fail("parsed again"))
        second = load_path(file, properties=["mu"])
        assert second.molecules.names == ("mu",) and list(second.bad) == list(first.bad)
    file.write_text(sdf([mol_of("CN")]))
    assert load_path(file).molecules.smiles == ("CN",)


def test_numbers_are_columns_of_which_all_that_is_given_is_one() -> None:
    rows = [{"a": "1", "b": "x", "c": "1.5*^-2"}, {"a": "NA", "b": "2"}, {"a": "-3e2", "d": ""}]
    found = numbers(rows)
    np.testing.assert_array_equal(found["a"], [1, np.nan, -300])
    np.testing.assert_array_equal(found["c"], [0.015, np.nan, np.nan])
    assert set(found) == {"a", "c"}
    with pytest.raises(ValueError, match="not finite"):
        number("inf")


def test_too_many_bad_molecules_are_an_error_that_is_written_first(tmp_path: Path) -> None:
    (tmp_path / "set.sdf").write_text(sdf([mol_of("CO")]) + "nonsense\n$$$$\n")
    skipped = tmp_path / "run" / "skipped.csv"
    data = MoleculeFileData(str(tmp_path / "set.sdf"), skipped_path=str(skipped))
    with pytest.raises(DataError, match="1 of 2 items are bad"):
        data.setup()
    with skipped.open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["set.sdf#2 nonsense"]
