"""Hand-made molecules, each with its known verdict: stability, validity, novelty, and the intervals they come with."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem, RDLogger, rdBase
from rdkit.Chem import AllChem
from scipy import stats

from modalities.molecules.metrics.measured import blocks_of, mean, median, pooled_share
from modalities.molecules.metrics.novelty import novelty
from modalities.molecules.metrics.stability import VALENCES, stability
from modalities.molecules.metrics.validity import EMPTY, FRAGMENTS, POSITIONS, RADICALS, VALENCE, validity
from modalities.molecules.molecule import Molecule, from_rdkit


def from_smiles(smiles: str) -> Molecule:
    """With hydrogens, where MMFF94 has a minimum."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
    return from_rdkit(mol)


def from_bonds(
    elements: list[int], bonds: list[tuple[int, int, int]], charges: dict[int, int] | None = None
) -> Molecule:
    n = len(elements)
    orders, signs = np.zeros((n, n), np.int64), np.zeros(n, np.int64)
    for i, j, order in bonds:
        orders[i, j] = orders[j, i] = order
    for i, charge in (charges or {}).items():
        signs[i] = charge
    places = np.random.default_rng(n).normal(size=(n, 3))
    return Molecule(np.array(elements, np.int64), signs, orders, places)


def hydride(element: int, charge: int, hydrogens: int) -> Molecule:
    return from_bonds([element] + [1] * hydrogens, [(0, i + 1, 1) for i in range(hydrogens)], {0: charge})


def without(molecule: Molecule, atom: int) -> Molecule:
    rows = np.delete(np.arange(len(molecule)), atom)
    return Molecule(
        molecule.elements[rows], molecule.charges[rows], molecule.bonds[np.ix_(rows, rows)], molecule.positions[rows]
    )


def beside(first: Molecule, second: Molecule, gap: float = 20.0) -> Molecule:
    """Both as one, with no bond between them."""
    n, m = len(first), len(second)
    bonds = np.zeros((n + m, n + m), np.int64)
    bonds[:n, :n], bonds[n:, n:] = first.bonds, second.bonds
    return Molecule(
        np.concatenate([first.elements, second.elements]),
        np.concatenate([first.charges, second.charges]),
        bonds,
        np.concatenate([first.positions, second.positions + gap]),
    )


def permuted(molecule: Molecule, seed: int) -> Molecule:
    order = np.random.default_rng(seed).permutation(len(molecule))
    return Molecule(
        molecule.elements[order],
        molecule.charges[order],
        molecule.bonds[np.ix_(order, order)],
        molecule.positions[order],
        molecule.properties,
    )


def moved(molecule: Molecule, seed: int, reflect: bool = False) -> Molecule:
    """Rotated at random and shifted; mirrored if asked for."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn)) * (-1 if reflect else 1)
    positions = molecule.positions @ turn.T + rng.normal(size=3)
    return Molecule(molecule.elements, molecule.charges, molecule.bonds, positions, molecule.properties)


METHANE = from_smiles("C")
EXAMPLES = {
    "methane": METHANE,
    "methyl": without(METHANE, 4),
    "charged": Molecule(METHANE.elements, np.array([4, 0, 0, 0, 0]), METHANE.bonds, METHANE.positions),
    "benzene": from_smiles("c1ccccc1"),
    "nitromethane": from_smiles("C[N+](=O)[O-]"),
    "ammonium": from_smiles("[NH4+]"),
    "pair": beside(METHANE, METHANE),
    "bare": from_bonds([6, 6], [(0, 1, 1)]),
    "crowded": hydride(6, 0, 5),
    "empty": from_bonds([], []),
    "lost": Molecule(METHANE.elements, METHANE.charges, METHANE.bonds, np.full((5, 3), np.nan)),
}
# Stable atoms, stable molecule; valid, connected, strict; SMILES; the reason where it is not strict.
VERDICTS = {
    "methane": (5, True, True, True, True, "C", ""),
    "methyl": (3, False, True, True, False, "C", RADICALS),
    "charged": (4, False, False, False, False, None, VALENCE),
    "benzene": (12, True, True, True, True, "c1ccccc1", ""),
    "nitromethane": (7, True, True, True, True, "C[N+](=O)[O-]", ""),
    "ammonium": (5, True, True, True, True, "[NH4+]", ""),
    "pair": (10, True, True, False, False, "C.C", FRAGMENTS),
    "bare": (0, False, True, True, False, "CC", RADICALS),
    "crowded": (5, False, False, False, False, None, VALENCE),
    "empty": (0, False, False, False, False, None, EMPTY),
    "lost": (5, True, False, False, False, None, POSITIONS),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_verdicts(name):
    stable_atoms, stable, *graph, smiles, reason = VERDICTS[name]
    for molecule in (EXAMPLES[name], permuted(EXAMPLES[name], 1), moved(EXAMPLES[name], 2)):
        steady = stability([molecule])
        assert (int(steady.stable[0]), bool(steady.molecules[0])) == (stable_atoms, stable)
        verdict = validity([molecule])
        assert [bool(held[0]) for held in (verdict.valid, verdict.connected, verdict.strict)] == graph
        assert verdict.smiles == [smiles] and verdict.connected_smiles() == [smiles if graph[1] else None]
        assert verdict.why == ({reason: 1} if reason else {})


def test_all_in_one_call_as_one_by_one():
    verdict = validity(list(EXAMPLES.values()))
    assert verdict.smiles == [VERDICTS[name][5] for name in EXAMPLES]
    assert verdict.strict.tolist() == [VERDICTS[name][4] for name in EXAMPLES]
    assert sum(verdict.why.values()) == len(EXAMPLES) - verdict.strict.sum() and verdict.why[RADICALS] == 2
    measured = verdict.measurements(seed=3)
    assert [measured[name].n for name in ("valid_all", "valid_connected", "strict_valid")] == [len(EXAMPLES)] * 3
    assert measured["valid_all"].value == 7 / 11 and measured["strict_valid"].value == 4 / 11


def test_table_of_valences_is_rdkits_of_hydrides():
    """Each valence is that of a molecule without radicals, and up to fluorine there are no others."""
    for (element, charge), valences in VALENCES.items():
        whole = {n for n in range(8) if validity([hydride(element, charge, n)]).strict[0]}
        assert set(valences) <= whole, f"({element}, {charge:+d}) has {valences}, RDKit {whole}"
        if element < 10:
            assert set(valences) == whole, f"({element}, {charge:+d}) has {valences}, RDKit {whole}"


def test_atom_stability_is_pooled_over_atoms():
    """A mean over molecules would weigh the atoms of small ones more."""
    molecules = [EXAMPLES["bare"], EXAMPLES["benzene"]] * 20
    measured = stability(molecules).measurements(seed=0)
    assert measured["atom_stability"].value == 12 / 14 and measured["atom_stability"].n == 280
    assert measured["molecule_stability"].value == 0.5 and measured["molecule_stability"].n == 40
    assert measured["atom_stability"].low < 12 / 14 < measured["atom_stability"].high


def test_pooled_share_takes_molecules_and_not_atoms_for_independent():
    rng = np.random.default_rng(0)
    whole = rng.random(400) < 0.5
    sizes = np.full(400, 50)
    measured = pooled_share(whole * sizes, sizes, seed=1)
    assert measured.n == 20000
    half = 1.96 * np.sqrt(0.25 / 400)
    assert 0.6 * half < measured.high - measured.value < 1.8 * half, "sqrt(1/4 / 400), not sqrt(1/4 / 20000)"


def test_where_nothing_varies_the_interval_is_no_point():
    sizes = np.full(30, 9)
    measured = pooled_share(sizes, sizes, seed=0)
    assert measured.value == measured.high == 1 and 0.85 < measured.low < 0.95
    assert np.isnan(pooled_share(np.zeros(0, int), np.zeros(0, int), seed=0).value)


def test_novelty_counts_each_with_its_own_denominator():
    smiles = ["C", "C", "CC", None, "CCC", None, "O", "O"]
    measured = novelty(smiles, {"C", "CCC", "N"}, seed=0)
    assert (measured["unique"].value, measured["unique"].n) == (4 / 6, 6)
    assert (measured["novel"].value, measured["novel"].n) == (2 / 4, 4)
    assert (measured["vun"].value, measured["vun"].n) == (2 / 8, 8)
    nothing = novelty([None, None], set(), seed=0)
    assert np.isnan(nothing["unique"].value) and np.isnan(nothing["novel"].value) and nothing["vun"].value == 0


def test_vun_is_the_product_of_the_three():
    molecules = [*EXAMPLES.values(), METHANE, from_smiles("CCO"), from_smiles("CO")]
    verdict = validity(molecules)
    measured = novelty(verdict.connected_smiles(), {"CO", "C"}, seed=0) | verdict.measurements(0)
    product = measured["valid_connected"].value * measured["unique"].value * measured["novel"].value
    assert measured["vun"].value == pytest.approx(product, rel=1e-12) and 0 < product < 1


def test_jackknife_of_uniqueness_is_that_of_the_definition():
    """The left-out shares come from counts; here each is computed anew."""
    rng = np.random.default_rng(5)
    smiles = [None if rng.random() < 0.2 else f"{rng.integers(60)}" for _ in range(200)]
    training = {f"{i}" for i in range(0, 60, 3)}
    labels = blocks_of(200, seed=9)
    unique, vun = [], []
    for block in range(labels.max() + 1):
        kept = [text for text, label in zip(smiles, labels, strict=True) if label != block]
        valid = [text for text in kept if text is not None]
        unique.append(len(set(valid)) / len(valid))
        vun.append(len(set(valid) - training) / len(kept))
    measured = novelty(smiles, training, seed=9)
    for name, left_out in (("unique", unique), ("vun", vun)):
        b = len(left_out)
        half = stats.t.ppf(0.975, b - 1) * np.sqrt((b - 1) / b * np.square(left_out - np.mean(left_out)).sum())
        assert measured[name].high - measured[name].value == pytest.approx(half, rel=1e-9)


@pytest.mark.parametrize("n", [6, 7, 20, 101])
def test_median_interval_covers_by_order_statistics(n):
    """At least 95 %, and no more than it must: one value less at either end would not."""
    measured = median(np.random.default_rng(n).permutation(n).astype(float), seed=0)
    first, last = round(measured.low), round(measured.high)
    covered = stats.binom.cdf(last, n, 0.5) - stats.binom.cdf(first, n, 0.5)
    tighter = stats.binom.cdf(last - 1, n, 0.5) - stats.binom.cdf(first + 1, n, 0.5)
    assert covered >= 0.95 > tighter and measured.value == (n - 1) / 2


def test_no_values_are_no_number():
    assert np.isnan(median(np.zeros(0), seed=0).value) and np.isnan(mean(np.zeros(0), seed=0).value)
    assert median(np.ones(5), seed=0).value == 1 and np.isnan(median(np.ones(5), seed=0).low)


def test_rdkits_log_is_silent_within_and_unchanged_after(capfd):
    rdBase.LogToCppStreams()  # as RDKit starts; what another test imported may have changed it
    RDLogger.EnableLog("rdApp.*")
    validity([EXAMPLES["crowded"]])
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("this is none")
    assert "SMILES Parse Error" in capfd.readouterr().err
    RDLogger.DisableLog("rdApp.*")
    try:
        validity([EXAMPLES["crowded"]])
        Chem.MolFromSmiles("this is none")
        assert capfd.readouterr().err == ""
    finally:
        RDLogger.EnableLog("rdApp.*")
        RDLogger.DisableLog("rdApp.debug")
