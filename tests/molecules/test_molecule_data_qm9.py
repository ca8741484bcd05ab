"""QM9's raw files in miniature, with the faults that the real ones have."""

from __future__ import annotations

import inspect
import sys
import types
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from framework.errors import DataError
from modalities.molecules import qm9_files
from modalities.molecules.molecule import to_rdkit
from modalities.molecules.qm9 import DROPPED, QM9Data, edm_split, load_qm9
from modalities.molecules.qm9_files import HARTREE, find_raw, read_uncharacterised

CONFIGS = Path(import_module("modalities.molecules.conf").__file__ or "").parent / "data" / "molecules"


def block(smiles: str) -> Chem.RWMol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    return Chem.RWMol(mol)


def faulty() -> dict[str, Chem.Mol]:
    """gdb_1, gdb_2, ... by what is wrong with them."""
    ghost = block("CCO")
    ghost.AddBond(0, 2, Chem.BondType.SINGLE)  # carbon with five bonds
    uncharged = block("C[NH2+]CC(=O)[O-]")
    for atom in uncharged.GetAtoms():
        atom.SetFormalCharge(0)
    apart = block("CC")
    apart.GetConformer().SetAtomPosition(2, (30.0, 0.0, 0.0))
    single = block("C=C")
    single.GetBondBetweenAtoms(0, 1).SetBondType(Chem.BondType.SINGLE)  # lacks hydrogens
    return {
        "good": block("C"),
        "another": block("CC#N"),
        "uncharacterised": block("CO"),
        "ghost bond": ghost,
        "charges lost": uncharged,
        "in pieces": apart,
        "double bond lost": single,
        "last": block("N"),
    }


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFRACT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "qm9" / "raw"
    folder.mkdir(parents=True)
    text, rows = "", ["mol_id,A,mu,gap,u0_atom"]
    for k, mol in enumerate(faulty().values(), start=1):
        mol.SetProp("_Name", f"gdb_{k}")
        text += Chem.MolToMolBlock(mol, kekulize=False) + "$$$$\n"
        rows.append(f"gdb_{k},1.5*^-{k},{k},0.{k},-{k}")
    (folder / "gdb9.sdf").write_text(text)
    (folder / "gdb9.sdf.csv").write_text("\n".join(rows) + "\n")
    listed = "Title of 2014\n\n  Index  SMILES  another\n======\n     3   CO   C=O\n======\n1 compounds"
    (folder / "uncharacterized.txt").write_text(listed.replace("1 compounds", "one compound"))
    return folder.parent


def names(found: object) -> list[str]:
    return [item.name for item in found.bad]  # type: ignore[attr-defined]


def test_strict_repairs_what_it_can_and_names_the_rest(raw: Path) -> None:
    found = load_qm9(raw, molecules=8, excluded=1)
    assert found.molecules.smiles == ("C", "CC#N", "CCO", "C[NH2+]CC(=O)[O-]", "C=C", "N")
    assert names(found) == ["gdb_3", "gdb_6"]
    assert found.bad[0].reason == DROPPED
    assert "the bond C1-H3" in found.bad[1].reason
    for k in range(len(found.molecules)):
        mol = to_rdkit(found.molecules[k])
        Chem.SanitizeMol(mol)
        assert Chem.GetFormalCharge(mol) == 0
    assert found.molecules[3].charges.max() == 1


def test_smiles_are_believed_where_they_are_there(raw: Path) -> None:
    (raw / "raw" / "qm9.csv").write_text("mol_id,smiles,gap\ngdb_1,C,1\ngdb_2,CN=C,1\ngdb_7,C=C,1\n")
    found = load_qm9(raw, molecules=8, excluded=1)
    assert names(found) == ["gdb_2", "gdb_3", "gdb_6"]
    assert "its bonds are those of CC#N, and its SMILES is C=NC" in found.bad[0].reason
    assert "C=C" in found.molecules.smiles


def test_energies_become_electron_volts_and_odd_exponents_are_read(raw: Path) -> None:
    molecules = load_qm9(raw, molecules=8, excluded=1).molecules
    assert molecules.names == ("A", "mu", "gap", "u0_atom")
    np.testing.assert_allclose(molecules.properties[0], [0.15, 1.0, 0.1 * HARTREE, -0.0433641153])
    np.testing.assert_allclose(molecules.properties[2], [1.5e-4, 4.0, 0.4 * HARTREE, -4 * 0.0433641153])
    assert load_qm9(raw, properties=["gap"], molecules=8, excluded=1).molecules.names == ("gap",)


def test_without_strict_all_that_are_characterised_stay_in_order(raw: Path) -> None:
    found = load_qm9(raw, strict=False, molecules=8, excluded=1)
    assert names(found) == ["gdb_3"]
    assert found.molecules.smiles == ("C", "CC#N", "", "", "", "", "N")
    ghost = found.molecules[2]
    assert ghost.bonds[0].sum() == 5 and ghost.bonds[0, 2] == 1
    np.testing.assert_array_equal(found.molecules.properties[:, 1], [1, 2, 4, 5, 6, 7, 8])


@pytest.mark.parametrize(
    ("molecules", "excluded", "message"),
    [(133_885, 1, "gdb9.sdf holds 8 molecules where QM9 has 133885"), (8, 3_054, "names 1 uncharacterised")],
)
def test_counts_are_asserted(raw: Path, molecules: int, excluded: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_qm9(raw, molecules=molecules, excluded=excluded)


def test_a_table_that_is_cut_off_is_an_error(raw: Path) -> None:
    table = raw / "raw" / "gdb9.sdf.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:5]) + "\n")
    with pytest.raises(DataError, match="has 4 rows"):
        load_qm9(raw, molecules=8, excluded=1)


def test_headings_are_no_numbers(raw: Path) -> None:
    assert read_uncharacterised(raw / "raw" / "uncharacterized.txt") == {3}


def test_edm_split_is_its_permutation() -> None:
    train, validation, test = edm_split(130_831)
    assert (len(train), len(validation), len(test)) == (100_000, 17_748, 13_083)
    assert sorted(np.concatenate([train, validation, test])) == list(range(130_831))
    before = np.random.get_state()
    np.random.seed(0)
    order = np.random.permutation(130_831)  # as EDM's own code has it
    np.random.set_state(before)
    np.testing.assert_array_equal(np.concatenate([train, validation, test]), order)
    with pytest.raises(DataError, match="there are 7"):
        edm_split(7)


def test_a_missing_file_says_which_goes_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"put gdb9.sdf and gdb9.sdf.csv .* into .*raw, or set data.download=true"):
        find_raw(tmp_path, download=False)

    def offline(path: Path) -> None:
        raise OSError("no network")

    monkeypatch.setattr(qm9_files, "fetch", offline)
    with pytest.raises(DataError, match=r"cannot download QM9 \(OSError: no network\); put gdb9.sdf"):
        find_raw(tmp_path, download=True)


def test_the_download_is_torch_geometrics_into_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in that is made as its data sets are: `download` needs `root` and `raw_dir` alone."""

    class QM9:
        root: str

        def __init__(self) -> None:
            raise AssertionError("this would process the files too")

        @property
        def raw_dir(self) -> str:
            return f"{self.root}/raw"

        def download(self) -> None:
            for name in ("gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"):
                (Path(self.raw_dir) / name).write_text("")

    package = types.ModuleType("torch_geometric.datasets")
    package.QM9 = QM9  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_geometric", types.ModuleType("torch_geometric"))
    monkeypatch.setitem(sys.modules, "torch_geometric.datasets", package)
    assert find_raw(tmp_path / "new", download=True) == tmp_path / "new" / "raw"


def test_the_module_counts_only_what_is_not_known_to_be_bad(raw: Path) -> None:
    data = QM9Data(
        str(raw),
        properties=["gap"],
        conditioned=["gap"],
        molecules=8,
        excluded=1,
        held_out_share=0.5,
        max_bad_share=0.15,
    )
    data.setup()  # 1 of 7 is bad besides the uncharacterised one
    assert len(data.bad_items) == 2 and data.properties == ("gap",)
    assert data.tokens == ("H", "C", "N", "N+", "O-", "O")
    with pytest.raises(DataError, match="1 of 7 items are bad"):
        QM9Data(str(raw), molecules=8, excluded=1, max_bad_share=0.1).setup()


def test_edm_parts_are_validated_and_judged_apart(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalities.molecules.qm9.EDM_TRAIN", 4)
    monkeypatch.setattr("modalities.molecules.qm9.EDM_TEST_SHARE", 0.15)
    data = QM9Data(str(raw), strict=False, molecules=8, excluded=1)
    data.setup()
    parts = [data.train_set.indices, data.validation_set.indices, data.reference_set().indices]  # type: ignore[attr-defined]
    assert [len(part) for part in parts] == [4, 2, 1]
    assert sorted(np.concatenate(parts)) == list(range(7))
    assert "" not in data.train_smiles


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_name_all_that_their_module_takes(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    module, _, name = config.pop("_target_").rpartition(".")
    assert set(config) == set(inspect.signature(getattr(import_module(module), name)).parameters)
