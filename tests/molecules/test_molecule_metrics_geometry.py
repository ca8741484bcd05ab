"""Internal coordinates and distances between distributions, by closed forms and by what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit.Chem import rdMolTransforms
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from modalities.molecules.metrics.geometry import composition, geometry, js_divergences, w1_distances
from modalities.molecules.metrics.internal import internal_coordinates
from modalities.molecules.metrics.measured import blocks_of
from modalities.molecules.molecule import Molecule, to_rdkit
from tests.molecules.test_molecule_metrics import EXAMPLES, from_smiles, moved, permuted

SOME = [from_smiles(s) for s in ("CCO", "C#CC", "c1ccoc1", "CC(=O)N", "C1CC1F", "C[N+](=O)[O-]", "C=CC=O", "NCC#N")]


def along_z(lengths: list[float], element: int = 1) -> list[Molecule]:
    """Molecules of two atoms at these distances."""
    bond = np.array([[0, 1], [1, 0]])
    pair = np.array([element, element])
    return [Molecule(pair, np.zeros(2, int), bond, np.array([[0, 0, 0], [0, 0, length]])) for length in lengths]


def peroxide(dihedral: float) -> Molecule:
    """H-O-O-H with right angles."""
    turn = np.radians(dihedral)
    places = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1.4], [np.cos(turn), np.sin(turn), 1.4]])
    bonds = np.zeros((4, 4), int)
    for i, j in ((0, 1), (1, 2), (2, 3)):
        bonds[i, j] = bonds[j, i] = 1
    return Molecule(np.array([1, 8, 8, 1]), np.zeros(4, int), bonds, places)


@pytest.mark.parametrize("dihedral", [-180, -120, -30, 0, 45, 90, 179.9])
def test_hydrogen_peroxide(dihedral):
    found = internal_coordinates([peroxide(dihedral)])
    np.testing.assert_allclose(found["dihedral"].values, [abs(dihedral)], atol=1e-9)
    np.testing.assert_allclose(found["angle"].values, [90, 90], atol=1e-9)
    np.testing.assert_allclose(sorted(found["bond_length"].values), [1, 1, 1.4], atol=1e-12)


def test_every_coordinate_is_rdkits_and_there_once():
    """All pairs, triples and chains of bonded atoms, by loops; angles about a straight line have no dihedral."""
    for molecule in SOME:
        place = to_rdkit(molecule).GetConformer()
        near = [set(np.flatnonzero(row).tolist()) for row in molecule.bonds]
        lengths, angles, dihedrals = [], [], []
        for j in range(len(molecule)):
            for k in near[j]:
                if j < k:
                    lengths.append(rdMolTransforms.GetBondLength(place, j, k))
                    for i in near[j] - {k}:
                        for m in near[k] - {j, i}:
                            bends = [rdMolTransforms.GetAngleDeg(place, *t) for t in ((i, j, k), (j, k, m))]
                            if all(5 < bend < 175 for bend in bends):
                                dihedrals.append(abs(rdMolTransforms.GetDihedralDeg(place, i, j, k, m)))
                angles += [rdMolTransforms.GetAngleDeg(place, k, j, m) for m in near[j] if m > k]
        found = internal_coordinates([molecule])
        for name, values in {"bond_length": lengths, "angle": angles, "dihedral": dihedrals}.items():
            np.testing.assert_allclose(np.sort(found[name].values), np.sort(values), atol=1e-6, err_msg=name)


def test_types_read_the_same_from_either_end():
    whole = internal_coordinates(SOME)
    for other in ([permuted(m, i) for i, m in enumerate(SOME)], [moved(m, 5, reflect=True) for m in SOME]):
        again = internal_coordinates(other)
        for name, one in whole.items():
            two = again[name]
            for row in range(len(SOME)):
                pairs = [
                    sorted(zip(c.types[c.molecules == row], c.values[c.molecules == row].round(6), strict=True))
                    for c in (one, two)
                ]
                assert len(pairs[0]) == len(pairs[1])
                np.testing.assert_allclose(np.array(pairs[0], float), np.array(pairs[1], float), atol=1e-5)


def test_data_against_itself_has_no_distance():
    for measured in (geometry(SOME, SOME, seed=0), composition(SOME, SOME, seed=0)):
        for name, one in measured.items():
            assert one.value == pytest.approx(1 if name.endswith("covered") else 0, abs=1e-12), name
            assert one.n == len(SOME)


def test_a_shift_has_its_own_size_as_distance():
    lengths = [0.7, 0.75, 0.8, 0.9]
    measured = geometry(along_z([x + 0.05 for x in lengths]), along_z(lengths), seed=0)
    assert measured["bond_length_w1"].value == pytest.approx(0.05, abs=1e-12)
    assert np.isnan(measured["angle_w1"].value), "there are no angles"
    turned = geometry([peroxide(a + 20) for a in (60, 90)], [peroxide(-a) for a in (60, 90)], seed=0)
    assert turned["dihedral_w1"].value == pytest.approx(20, abs=1e-6), "handedness is folded away"


def test_types_weigh_as_often_as_the_data_have_them():
    """Three H-H bonds off by 0.1 and one F-F bond off by 0.5; what the samples have more of does not count."""
    data = along_z([0.7] * 3) + along_z([1.4], element=9)
    samples = along_z([0.8]) + along_z([1.9] * 7, element=9)
    measured = geometry(samples, data, seed=0)
    assert measured["bond_length_w1"].value == pytest.approx((3 * 0.1 + 0.5) / 4)
    missing = geometry(along_z([0.8, 0.8]), data, seed=0)
    assert missing["bond_length_w1"].value == pytest.approx(0.1)
    assert missing["bond_length_covered"].value == pytest.approx(3 / 4)


def test_distances_without_each_block_are_those_of_the_rest():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=90), rng.normal(size=50).round(1)
    x[:20] = x[:20].round(1)  # ties
    block = blocks_of(90, seed=0)
    found = w1_distances(x, y, block, 20)
    np.testing.assert_allclose(found[0], wasserstein_distance(x, y), rtol=1e-10)
    np.testing.assert_allclose(found[1:], [wasserstein_distance(x[block != b], y) for b in range(20)], rtol=1e-10)
    i, j = rng.integers(0, 5, 90), rng.integers(2, 8, 50)
    p = np.array([np.bincount(part, minlength=8) for part in (i, *(i[block != b] for b in range(20)))])
    q = np.bincount(j, minlength=8)
    expected = [jensenshannon(row, q, base=2) ** 2 for row in p]
    np.testing.assert_allclose(js_divergences(i, j, block), expected, rtol=1e-10)


def test_divergences_of_sizes_and_elements():
    small, large = [EXAMPLES["methane"]] * 4, [EXAMPLES["benzene"]] * 4
    apart = composition(small, large, seed=0)
    assert apart["size_js"].value == pytest.approx(1), "no size in common: one bit"
    p, q = np.array([4, 1]) / 5, np.array([1, 1]) / 2  # hydrogen, carbon
    assert apart["element_js"].value == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    mixed = composition((small + large) * 20, large, seed=0)
    assert 0 < mixed["size_js"].low < mixed["size_js"].value < mixed["size_js"].high


def test_nothing_to_compare_is_no_number():
    measured = geometry([], SOME, seed=0) | composition([], SOME, seed=0)
    assert all(np.isnan(one.value) and one.n == 0 for one in measured.values())
    alone = geometry(SOME[:1], SOME, seed=0)["bond_length_w1"]
    assert np.isfinite(alone.value) and np.isnan(alone.low), "one molecule has no spread"
