"""EDM's lookup against its definition, pair by pair, in plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modalities.molecules.metrics.edm_lookup import edm_lookup, edm_orders
from modalities.molecules.molecule import Molecule
from tests.molecules.test_molecule_metrics import EXAMPLES, METHANE, beside, from_smiles, moved, permuted, without

SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 16: "S", 17: "Cl"}
ONE = {
    "HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92, "CC": 154, "CN": 147, "CO": 143, "CF": 135, "NN": 145,
    "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142, "CS": 182, "SS": 204, "CCl": 177, "HS": 134, "HCl": 127,
}  # fmt: skip
TWO = {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121, "CS": 160}
THREE = {"CC": 120, "CN": 116, "CO": 113, "NN": 110}
VALENCE = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1, "S": 4, "Cl": 1}


def slow_order(a: int, b: int, distance: np.float32) -> int:
    pair = SYMBOLS[min(a, b)] + SYMBOLS[max(a, b)]
    d = np.float32(100) * distance
    if pair in ONE and d < ONE[pair] + 10:
        if pair in TWO and d < TWO[pair] + 5:
            return 3 if pair in THREE and d < THREE[pair] + 3 else 2
        return 1
    return 0


def slow_orders(molecule: Molecule) -> np.ndarray:
    positions = molecule.positions.astype(np.float32)
    n = len(molecule)
    orders = np.zeros((n, n), int)
    for i, j in itertools.combinations(range(n), 2):
        distance = np.sqrt(np.sum((positions[i] - positions[j]) ** 2))
        orders[i, j] = orders[j, i] = slow_order(int(molecule.elements[i]), int(molecule.elements[j]), distance)
    return orders


def atoms(elements: list[int] | np.ndarray, positions: np.ndarray) -> Molecule:
    n = len(elements)
    return Molecule(np.array(elements, np.int64), np.zeros(n, np.int64), np.zeros((n, n), np.int64), positions)


def test_orders_are_those_of_the_definition_on_random_geometries():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 20, 600)
    molecules = [atoms(rng.choice([1, 6, 7, 8, 9], n), rng.normal(size=(n, 3)) * n ** (1 / 3) * 0.7) for n in sizes]
    found = list(edm_orders(molecules))
    seen = np.concatenate([orders.reshape(-1) for orders in found])
    assert min(np.bincount(seen)) > 500, "all orders occur"
    for molecule, orders in zip(molecules, found, strict=True):
        np.testing.assert_array_equal(orders, slow_orders(molecule))
    verdict = edm_lookup(molecules)
    for i, molecule in enumerate(molecules):
        valences = slow_orders(molecule).sum(1)
        allowed = [VALENCE[SYMBOLS[int(element)]] for element in molecule.elements]
        assert verdict.stability.stable[i] == (valences == allowed).sum()
        assert verdict.stability.molecules[i] == (valences == allowed).all()


def test_orders_around_each_threshold():
    """The thresholds themselves, in float32, and the next numbers on both sides."""
    for a, b in itertools.combinations_with_replacement(SYMBOLS, 2):
        pair = SYMBOLS[a] + SYMBOLS[b]
        for table, margin in ((ONE, 10), (TWO, 5), (THREE, 3)):
            at = np.float32((table.get(pair, 100) + margin) / 100)
            below, above = np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(9))
            for distance in (at * np.float32(0.999), below, at, above, at * np.float32(1.001)):
                molecule = atoms([b, a], np.array([[0, 0, 0], [0, 0, distance]], np.float64))
                if pair in ONE:
                    assert next(edm_orders([molecule]))[0, 1] == slow_order(a, b, distance), (pair, distance)


def test_what_the_table_does_not_know_has_no_bonds():
    close = np.array([[0, 0, 0], [0, 0, 1.0]])
    for elements in ([2, 6], [1, 118], [300, 1]):
        verdict = edm_lookup([atoms(elements, close)]) if max(elements) < 119 else None
        orders = next(edm_orders([atoms(elements, close)]))
        assert (orders == 0).all()
        assert verdict is None or verdict.stability.stable[0] == 0
    assert (next(edm_orders([atoms([1, 1], close * np.nan)])) == 0).all()


# Stable, valid: charges are not asked for; two fragments are as good as one; a missing hydrogen is no fault of a graph.
EXPECTED = {"methane": (True, True), "methyl": (False, True), "charged": (True, True), "pair": (True, True)}
EXPECTED |= {"ammonium": (False, False), "nitromethane": (False, True)}


@pytest.mark.parametrize("name", EXPECTED)
def test_known_verdicts(name):
    for molecule in (EXAMPLES[name], permuted(EXAMPLES[name], 3), moved(EXAMPLES[name], 4, reflect=True)):
        verdict = edm_lookup([molecule])
        assert (bool(verdict.stability.molecules[0]), verdict.smiles[0] is not None) == EXPECTED[name]


def test_smiles_are_of_the_largest_fragment_with_the_hydrogens_there_are():
    methyl = without(METHANE, 4)
    ethanol = from_smiles("CCO")
    smiles = edm_lookup([METHANE, methyl, EXAMPLES["pair"], ethanol, beside(METHANE, ethanol)]).smiles
    assert smiles[4] == smiles[3]
    assert smiles[0] == "[H]C([H])([H])[H]" and smiles[2] == smiles[0] and smiles[1] != smiles[0]
    assert smiles[3].count("[H]") == 6
    measured = edm_lookup([METHANE, methyl, EXAMPLES["pair"], EXAMPLES["ammonium"]]).measurements(seed=0)
    assert (measured["edm_valid"].value, measured["edm_valid"].n) == (0.75, 4)
    assert (measured["edm_unique"].value, measured["edm_unique"].n) == (pytest.approx(2 / 3), 3)


def test_single_bonds_alone_make_another_graph():
    """What EDM does on GEOM-Drugs: hydrogen cyanide is then one with bonds missing, and sanitised all the same."""
    cyanide = from_smiles("C#N")
    assert "#" in edm_lookup([cyanide]).smiles[0]
    assert "#" not in edm_lookup([cyanide], highest_order=1).smiles[0]
