"""Strain by force field and tight binding, and PoseBusters' tests."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from rdkit import RDLogger, rdBase

from framework.errors import UserError
from modalities.molecules.metrics.posebusters import FULL, posebusters
from modalities.molecules.metrics.strain import INVALID, mmff_strain, superposed_rmsd, xtb_strain
from modalities.molecules.molecule import Molecule
from tests.molecules.test_molecule_metrics import EXAMPLES, METHANE, from_smiles, moved, permuted

ETHANOL = from_smiles("CCO")


def stretched(molecule: Molecule, factor: float) -> Molecule:
    return Molecule(molecule.elements, molecule.charges, molecule.bonds, molecule.positions * factor)


def test_a_minimum_has_no_strain_and_what_is_pulled_has_some():
    found = mmff_strain([ETHANOL, stretched(ETHANOL, 1.05), stretched(ETHANOL, 1.1)])
    relaxed, pulled, more = found.energies
    assert abs(relaxed) < 1e-2 < 1 < pulled < more and found.failures == {}
    assert found.rmsd[0] < 1e-2 < 0.05 < found.rmsd[1] < found.rmsd[2]


def test_strain_is_invariant():
    pulled = stretched(ETHANOL, 1.1)
    energies = mmff_strain([pulled, moved(pulled, 1), moved(pulled, 2, reflect=True), permuted(pulled, 3)]).energies
    np.testing.assert_allclose(energies, energies[0], rtol=1e-3)


def test_what_has_no_energy_of_its_own_is_a_failure():
    molecules = [ETHANOL, EXAMPLES["methyl"], EXAMPLES["pair"], EXAMPLES["lost"], EXAMPLES["empty"], METHANE]
    found = mmff_strain(molecules)
    assert found.failures == {INVALID: 4}
    assert np.isfinite(found.energies).tolist() == [True, False, False, False, False, True]
    measured = found.measurements(seed=0, name="mmff_strain")
    assert measured["mmff_strain_median"].n == 2 and measured["mmff_strain_mean"].n == 2
    assert (measured["mmff_strain_measured"].value, measured["mmff_strain_measured"].n) == (2 / 6, 6)


def test_limit_and_progress():
    seen = []
    found = mmff_strain([ETHANOL] * 5, limit=3, progress=lambda done, total: seen.append((done, total)))
    assert len(found.energies) == 3 and seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_several_processes_find_the_same_in_the_same_order():
    molecules = [stretched(ETHANOL, 1 + 0.01 * i) for i in range(12)] + [EXAMPLES["methyl"]]
    one, two = mmff_strain(molecules), mmff_strain(molecules, processes=2)
    np.testing.assert_array_equal(one.energies, two.energies)
    assert one.failures == two.failures
    if pytest.importorskip("posebusters"):
        busted = [posebusters(molecules, processes=n).passed(costly=False) for n in (1, 2)]
        np.testing.assert_array_equal(*busted)


def test_rmsd_is_over_rotations_but_not_reflections():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    molecule = Molecule(np.ones(7, int), np.zeros(7, int), np.zeros((7, 7), int), x)
    assert superposed_rmsd(x, moved(molecule, 1).positions) < 1e-7
    assert superposed_rmsd(x, moved(molecule, 1, reflect=True).positions) > 0.1
    y = x + 0.1 * rng.normal(size=x.shape)
    assert superposed_rmsd(x, y) < np.sqrt(((x - y) ** 2).sum(1).mean())
    assert superposed_rmsd(x, y) == pytest.approx(superposed_rmsd(moved(molecule, 3).positions, y), rel=1e-9)
    assert superposed_rmsd(x[:2], x[:2] * 2) == pytest.approx(np.linalg.norm(x[0] - x[1]) / 2)


def test_tight_binding_relaxes():
    pytest.importorskip("tblite")
    found = xtb_strain([METHANE, stretched(METHANE, 1.1), EXAMPLES["methyl"], EXAMPLES["ammonium"]])
    assert found.failures == {INVALID: 1} and np.isnan(found.energies[2])
    assert 0 <= found.energies[0] < 1 and found.energies[3] < 3, "MMFF's minimum is near"
    # Four C-H bonds of about 0.7 kcal/mol/pm^2 / 100: the energy is that of tens of kcal/mol, in no other unit.
    assert 5 < found.energies[1] < 40 and 0.05 < found.rmsd[1] < 0.2
    collapsed = xtb_strain([stretched(METHANE, 0.0)])
    assert sum(collapsed.failures.values()) == 1


def test_posebusters_tests_every_sample():
    pytest.importorskip("posebusters")
    long = stretched(ETHANOL, 1.6)
    busted = posebusters([ETHANOL, long, EXAMPLES["methyl"], EXAMPLES["pair"], EXAMPLES["lost"], EXAMPLES["crowded"]])
    assert busted.passed(costly=False).tolist() == [True, False, False, False, False, False]
    assert busted.tests["bond_lengths"].tolist()[:2] == [True, False]
    assert busted.tests["all_atoms_connected"].tolist()[:4] == [True, True, True, False]
    assert busted.tests["no_radicals"].tolist()[:3] == [True, True, False]
    measured = busted.measurements(seed=0)
    assert measured["posebusters_fast"].n == 6 and measured["posebusters_fast"].value == 1 / 6
    assert "posebusters_full" not in measured and busted.config == "mol_fast" and busted.version
    assert all(one.n == 6 for one in measured.values())


@pytest.mark.parametrize("channels", [("rdApp.error",), ("rdApp.info", "rdApp.warning"), ()])
def test_posebusters_is_silent_and_leaves_rdkits_log_as_it_was(capfd, channels):
    pytest.importorskip("posebusters")
    before = rdBase.LogStatus()
    try:
        RDLogger.DisableLog("rdApp.*")
        for channel in channels:
            RDLogger.EnableLog(channel)
        chosen = rdBase.LogStatus()
        posebusters([EXAMPLES["crowded"], ETHANOL], config=FULL)
        assert rdBase.LogStatus() == chosen and capfd.readouterr() == ("", "")
    finally:
        for line in before.split():
            channel, state = line.split(":")
            (RDLogger.EnableLog if state == "enabled" else RDLogger.DisableLog)(channel)


def test_posebusters_with_energies_holds_the_fast_tests_too():
    pytest.importorskip("posebusters")
    fast, full = posebusters([ETHANOL]), posebusters([ETHANOL], config=FULL)
    assert set(full.tests) - set(fast.tests) == full.costly == {"internal_energy"}
    assert full.passed(costly=True).tolist() == [True]
    assert {"posebusters_fast", "posebusters_full"} <= set(full.measurements(seed=0))


@pytest.mark.parametrize(("module", "judge"), [("tblite.interface", xtb_strain), ("posebusters", posebusters)])
def test_a_missing_package_is_named(monkeypatch, module, judge):
    from modalities.molecules.metrics import posebusters as busters

    busters._buster.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"diffract\[molecules-judge\]"):
        judge([METHANE])


def test_unknown_configuration():
    with pytest.raises(UserError, match="mol_fast or mol"):
        posebusters([METHANE], config="dock")
