"""The judge of properties, and errors by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from framework.errors import DataError
from modalities.molecules.metrics.property_error import property_mae, size_means
from modalities.molecules.metrics.regressor import Regressor, train_regressor
from modalities.molecules.molecule import Molecule
from tests.molecules.test_molecule_metrics import EXAMPLES, from_smiles, moved, permuted

SMILES = ("C", "CO", "CCO", "CC", "O", "N", "CN", "C=O", "CF", "C#N", "CC#N", "C1CC1", "OO", "NCO")


def with_property(molecule: Molecule, value: float) -> Molecule:
    return Molecule(molecule.elements, molecule.charges, molecule.bonds, molecule.positions, {"gap": value})


# The share of oxygen: the network must see which atoms there are.
REAL = [with_property(m, 10 * (m.elements == 8).mean()) for m in map(from_smiles, SMILES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def judge(folder) -> Regressor:
    return train_regressor(REAL, "gap", seed=1, steps=80, folder=folder)


def test_it_learns(judge):
    values = np.array([m.properties["gap"] for m in REAL])
    assert np.abs(judge.predict(REAL) - values).mean() < 0.3 * np.abs(values - np.median(values)).mean()


def test_judgement_is_invariant(judge):
    expected = judge.predict(REAL)
    for seed, changed in enumerate((permuted, moved, lambda m, seed: moved(m, seed, reflect=True))):
        np.testing.assert_allclose(judge.predict([changed(m, seed) for m in REAL]), expected, atol=2e-5)


def test_padding_changes_nothing(judge):
    together = judge.predict(REAL)
    np.testing.assert_allclose(together, np.concatenate([judge.predict([m]) for m in REAL]), atol=2e-5)


def test_geometry_and_bonds_are_seen(judge):
    ethanol = REAL[2]
    wider = Molecule(ethanol.elements, ethanol.charges, ethanol.bonds, 1.2 * ethanol.positions)
    unbound = Molecule(ethanol.elements, ethanol.charges, 0 * ethanol.bonds, ethanol.positions)
    a, b, c = judge.predict([ethanol, wider, unbound])
    assert abs(a - b) > 1e-3 and abs(a - c) > 1e-3


def test_what_cannot_be_judged_is_no_number(judge):
    assert np.isnan(judge.predict([EXAMPLES["lost"], REAL[0], EXAMPLES["empty"]])).tolist() == [True, False, True]
    assert np.isfinite(judge.predict([EXAMPLES["charged"]])).all(), "a charge beyond the table"


def test_a_judge_is_trained_once_for_its_data(judge, folder):
    steps = []

    def train(molecules, seed=1):
        steps.clear()
        return train_regressor(
            molecules, "gap", seed=seed, steps=80 if seed == 1 else 2, folder=folder,
            progress=lambda *done: steps.append(done),
        )  # fmt: skip

    np.testing.assert_array_equal(train(REAL).predict(REAL), judge.predict(REAL))
    assert not steps
    train(REAL, seed=2)
    assert steps == [(1, 2), (2, 2)]
    train([with_property(REAL[0], 9.0), *REAL[1:]], seed=2)
    assert steps, "another value, another judge"


def test_a_damaged_cache_is_trained_again(tmp_path):
    first = train_regressor(REAL, "gap", steps=3, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="training it again"):
        again = train_regressor(REAL, "gap", steps=3, folder=tmp_path)
    np.testing.assert_array_equal(first.predict(REAL), again.predict(REAL))


def test_training_leaves_the_random_state_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_regressor(REAL, "gap", steps=1, folder=tmp_path)
    assert torch.rand(1) == expected


def test_molecules_without_the_property_are_refused(tmp_path):
    with pytest.raises(DataError, match="molecule 1 has no 'gap'"):
        train_regressor([REAL[0], EXAMPLES["methane"]], "gap", folder=tmp_path)
    with pytest.raises(DataError, match="no molecules with the property 'gap'"):
        train_regressor([], "gap", folder=tmp_path)


class Oracle:
    """Finds 1 in methane and 4 elsewhere."""

    def predict(self, molecules):
        return np.array(
            [np.nan if not np.isfinite(m.positions).all() else 1.0 if len(m) == 5 else 4.0 for m in molecules]
        )


def test_errors_by_hand():
    methane, benzene, methyl, lost = (EXAMPLES[name] for name in ("methane", "benzene", "methyl", "lost"))
    training = [with_property(methane, value) for value in (1.0, 2.0)] + [with_property(benzene, 6.0)]
    held_out = [with_property(methane, 1.5), with_property(benzene, 3.0)]
    crowded = EXAMPLES["crowded"]
    samples, asked = [methane, benzene, crowded, lost], [3.0, 3.0, 10.0, 2.0]
    measured = property_mae(samples, asked, "gap", Oracle(), training, held_out, seed=0)
    assert (measured["property_mae"].value, measured["property_mae"].n) == (pytest.approx((2 + 1 + 6) / 3), 3)
    assert (measured["property_mae/valid"].value, measured["property_mae/valid"].n) == (1.5, 2)
    # Of five atoms 1.5, of twelve 6; the crowded one has six, which is nearest to five.
    assert measured["property_mae/size_baseline"].value == pytest.approx((1.5 + 3 + 8.5 + 0.5) / 4)
    # Real ones are judged 1 and 4.
    assert measured["property_mae/ignored"].value == pytest.approx((1.5 + 1.5 + 7.5 + 1.5) / 4)
    assert (measured["ceiling/property_mae"].value, measured["ceiling/property_mae"].n) == (pytest.approx(0.75), 2)
    assert size_means(training, np.array([1.0, 2, 6]), np.array([1, 5, 8, 9, 99])).tolist() == [1.5, 1.5, 1.5, 6, 6]
    with pytest.raises(DataError, match="2 samples need as many finite values"):
        property_mae([methane, methyl], [1.0], "gap", Oracle(), training, held_out, seed=0)
