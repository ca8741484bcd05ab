"""All metrics together: names, denominators, ceilings, and samples that are nothing like molecules."""

from __future__ import annotations

import time

import numpy as np
import pytest
from rdkit import Chem

from framework.errors import DataError
from framework.metrics.measurement import read_metrics, write_metrics
from modalities.molecules.metrics.summary import judge, versions
from modalities.molecules.metrics.validity import validity
from modalities.molecules.molecule import Molecule
from tests.molecules.test_molecule_metrics import EXAMPLES, from_smiles, moved

SMILES = ("CCO", "CC(=O)N", "c1ccoc1", "CC#N", "C1CC1O", "CCF", "NCC=O", "C=CC", "OCCO", "CCCC", "COC", "CC(C)C")
REAL = [moved(from_smiles(smiles), seed) for smiles in SMILES for seed in range(3)]
NAMES = {
    "valid_all", "valid_connected", "strict_valid", "atom_stability", "molecule_stability", "unique", "novel", "vun",
    "edm_atom_stability", "edm_molecule_stability", "edm_valid", "mmff_strain_median", "bond_length_w1", "angle_w1",
    "dihedral_w1", "size_js", "element_js",
}  # fmt: skip


def noise(count: int, atoms: int) -> list[Molecule]:
    rng = np.random.default_rng(0)
    result = []
    for _ in range(count):
        bonds = np.triu(rng.integers(0, 4, (atoms, atoms)), 1)
        elements = rng.choice([1, 6, 7, 8, 9], atoms)
        result.append(Molecule(elements, np.zeros(atoms, int), bonds + bonds.T, rng.normal(size=(atoms, 3))))
    return result


def test_real_molecules_are_as_good_as_the_ceiling(tmp_path):
    measured = judge(REAL, REAL, set(), seed=0)
    assert not {*NAMES, *(f"ceiling/{name}" for name in NAMES)} - set(measured)
    for name in ("valid_all", "valid_connected", "strict_valid", "atom_stability", "molecule_stability"):
        assert measured[name].value == measured[f"ceiling/{name}"].value == 1
    assert measured["valid_all"].n == 36 and measured["ceiling/valid_all"].n == 18
    assert measured["atom_stability"].n == sum(map(len, REAL))
    assert measured["unique"].value == pytest.approx(12 / 36) and measured["vun"].value == pytest.approx(12 / 36)
    assert measured["mmff_strain_median"].value < 0.1 and measured["mmff_strain_measured"].value == 1
    write_metrics(tmp_path / "metrics.json", measured)
    assert set(read_metrics(tmp_path / "metrics.json")) == set(measured)


def test_training_smiles_are_not_novel():
    training = {Chem.CanonSmiles(smiles) for smiles in SMILES}
    assert set(validity(REAL).smiles) == training
    measured = judge(REAL, REAL, training, seed=0)
    assert measured["novel"].value == 0 and measured["vun"].value == 0 and measured["unique"].value > 0


def test_noise_is_measured_and_is_bad():
    start = time.process_time()
    measured = judge(noise(60, 24), REAL, set(), seed=0)
    assert time.process_time() - start < 5, "bonds between all atoms cost no more"
    for name in ("valid_all", "strict_valid", "molecule_stability", "vun"):
        assert measured[name].value == 0 and measured[name].n == 60
    assert measured["size_js"].value > 0.9 and np.isnan(measured["bond_length_w1"].value)
    assert measured["mmff_strain_median"].n == 0 and np.isnan(measured["mmff_strain_median"].value)


def test_a_few_odd_samples():
    measured = judge(list(EXAMPLES.values()), REAL, set(), seed=0)
    assert measured["valid_all"].value == 7 / 11 and measured["unique"].n == 6
    assert measured["bond_length_w1"].n == 7, "geometry is that of valid samples"
    one = judge([EXAMPLES["methane"]], REAL, set(), seed=0)
    assert one["valid_all"].n == 1 and one["ceiling/valid_all"].n == 1, "as many real ones"


def test_full_adds_the_costly_ones_of_the_first_few():
    pytest.importorskip("tblite")
    pytest.importorskip("posebusters")
    done = []
    measured = judge(REAL, REAL, set(), seed=0, full=True, limit=2, progress=lambda *step: done.append(step))
    for name in ("xtb_strain_median", "posebusters_fast", "posebusters_full", "posebusters/bond_lengths"):
        assert measured[name].n == measured[f"ceiling/{name}"].n == 2
    assert done == [(1, 2), (2, 2)] * 4


def test_seed_decides_everything():
    assert repr(judge(REAL[:9], REAL, set(), seed=1)) == repr(judge(REAL[:9], REAL, set(), seed=1))


def test_too_few_to_compare():
    with pytest.raises(DataError, match="0 samples"):
        judge([], REAL, set(), seed=0)
    with pytest.raises(DataError, match="1 real molecules"):
        judge(REAL, REAL[:1], set(), seed=0)


def test_versions_are_those_installed():
    import rdkit

    found = versions()
    assert [int(part) for part in found["rdkit"].split(".")] == [int(part) for part in rdkit.__version__.split(".")]
