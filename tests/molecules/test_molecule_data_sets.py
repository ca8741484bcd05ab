"""Molecules as a data set: tokens, statistics, padding; parts, batches and prompts of its data module."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from framework.errors import DataError
from modalities.molecules.arrays import MoleculeArrays
from modalities.molecules.cache import Found
from modalities.molecules.conformers import embed
from modalities.molecules.data import GdbMiniData, MoleculeData
from modalities.molecules.molecule import Molecule
from modalities.molecules.molecule_set import MoleculeSet, collate, parse_token, token_name


def test_token_names_are_read_back() -> None:
    for token in ((1, 0), (6, -1), (7, 1), (16, 2), (17, 0), (8, -2)):
        assert parse_token(token_name(*token)) == token
    assert [token_name(6, 0), token_name(7, 1), token_name(8, -1), token_name(16, 2)] == ["C", "N+", "O-", "S+2"]
    for wrong in ("", "Xx", "n", "N++", "C2"):
        with pytest.raises(DataError, match="no token"):
            parse_token(wrong)


def line_of(elements: list[int], charges: list[int], gap: float | None = None) -> Molecule:
    """Atoms in a line, 1 Angstrom apart, with single bonds."""
    n = len(elements)
    bonds = np.eye(n, k=1, dtype=np.int64) + np.eye(n, k=-1, dtype=np.int64)
    positions = np.stack([np.arange(n), np.zeros(n), np.zeros(n)], axis=-1)
    return Molecule(np.array(elements), np.array(charges), bonds, positions, {} if gap is None else {"gap": gap})


def a_set() -> MoleculeSet:
    molecules = [
        line_of([8, 1, 1], [0, 0, 0], 2.0),
        line_of([7, 1], [-1, 0]),
        line_of([7, 6, 8, 1], [1, 0, -1, 0], 4.0),
    ]
    return MoleculeSet(MoleculeArrays.pack(molecules, ["a", "b", "c"], ["gap"]))


def test_vocabulary_is_in_the_order_of_element_and_charge() -> None:
    items = a_set()
    assert items.tokens == ("H", "C", "N-", "N+", "O-", "O")
    names = [[items.tokens[token] for token in items[k]["atoms"]] for k in range(3)]
    assert names == [["O", "H", "H"], ["N-", "H"], ["N+", "C", "O-", "H"]]
    assert MoleculeSet(items.arrays).vocabulary == ((1, 0), (6, 0), (7, -1), (7, 1), (8, -1), (8, 0))


def test_statistics_by_hand() -> None:
    items = a_set()
    found = items.statistics()
    np.testing.assert_allclose(found.tokens, np.array([4, 1, 1, 1, 1, 1]) / 9)
    np.testing.assert_allclose(found.bonds, np.array([4, 6, 0, 0]) / 10)  # 3 + 1 + 6 pairs, 2 + 1 + 3 bonds
    assert found.sizes.tolist() == [0, 0, 1, 1, 1]
    assert found.mean.tolist() == [3.0] and found.std.tolist() == [1.0]
    assert found.scale == pytest.approx(np.sqrt((2 + 0.5 + 5) / 27))
    some = items.statistics([1])
    assert some.bonds.tolist() == [0, 1, 0, 0] and np.isnan(some.mean[0]) and some.std[0] == 1


def test_padding_is_zero_and_even() -> None:
    items = a_set()
    batch = collate([items[0], items[1]])
    assert batch["atoms"].shape == (2, 4) and batch["bonds"].shape == (2, 4, 4)
    assert batch["mask"].tolist() == [[True, True, True, False], [True, True, False, False]]
    assert not batch["positions"][~batch["mask"]].any() and not batch["atoms"][~batch["mask"]].any()
    pairs = batch["mask"][:, :, None] & batch["mask"][:, None]
    assert not batch["bonds"][~pairs].any()
    assert torch.equal(batch["bonds"], batch["bonds"].mT)
    assert batch["bonds"].sum().item() == 2 * 3
    assert batch["smiles"] == ["a", "b"]
    assert batch["properties"][0, 0] == 2 and batch["properties"][1, 0].isnan()
    assert collate([items[2]])["atoms"].shape == (1, 4)


def test_arrays_give_molecules_back(tmp_path: Path) -> None:
    arrays = a_set().arrays
    arrays.save(tmp_path / "set.npz", {"who": "us"})
    again, record = MoleculeArrays.load(tmp_path / "set.npz")
    assert record == {"who": "us"} and again.smiles == arrays.smiles
    for k in range(3):
        for field in ("elements", "charges", "bonds", "positions"):
            np.testing.assert_array_equal(getattr(again[k], field), getattr(arrays[k], field))
    assert again[2].properties == {"gap": 4.0} and again[1].properties == {} and len(again[-1]) == 4
    with pytest.raises(IndexError):
        again[3]


NAMES = ["C" * k + end for k in range(1, 8) for end in ("", "O", "N", "F")]


@pytest.fixture(scope="module")
def found() -> Found:
    """28 molecules, twice each as if in two conformers, with a gap that is unknown of the last."""
    embedded = [embed(name) for name in NAMES for _ in range(2)]
    known = [replace(molecule, properties={"gap": float(k)}) for k, (molecule, _) in enumerate(embedded)]
    known[-1] = embedded[-1][0]
    return Found(MoleculeArrays.pack(known, [smiles for _, smiles in embedded], ["gap"]))


@pytest.fixture
def data(found: Found) -> MoleculeData:
    return MoleculeData(lambda: found, origin="alkanes", held_out_share=0.3, batch_size=4)


def test_parts_share_no_molecule_and_lose_none(data: MoleculeData) -> None:
    data.setup()
    parts = [[item["smiles"] for item in part] for part in (data.train_set, data.validation_set)]
    assert not set(parts[0]) & set(parts[1])
    assert len(parts[0]) + len(parts[1]) == 56
    assert data.train_smiles == set(parts[0])
    assert len(data.reference(1000, 0)) == len(parts[1])
    assert sum(data.size_histogram.values()) == len(data.sizes) == len(parts[0])


def test_batches_hold_like_sizes_each_item_once(data: MoleculeData) -> None:
    data.setup()
    loader = data.train_dataloader()
    batches = list(islice(loader, loader.batches.per_epoch))
    seen = [name for batch in batches for name in batch["smiles"]]
    assert sorted(seen) == sorted(item["smiles"] for item in data.train_set)
    real = sum(batch["mask"].sum() for batch in batches) / sum(batch["mask"].numel() for batch in batches)
    assert real > 0.85 > 0.6 > data.sizes.mean() / data.sizes.max()  # the last: all padded to the largest
    again = next(iter(data.train_dataloader()))
    assert torch.equal(again["positions"], batches[0]["positions"])
    validation = [name for batch in data.val_dataloader() for name in batch["smiles"]]
    assert sorted(validation) == sorted(item["smiles"] for item in data.validation_set)


def test_prompts_follow_the_sizes_of_the_training_molecules(data: MoleculeData) -> None:
    prompts = data.prompts(4000, seed=1)
    assert prompts[:10] == data.prompts(10, seed=1) != data.prompts(10, seed=2)
    sizes = [int(prompt.removeprefix("n_atoms=")) for prompt in prompts]
    shares = {size: sizes.count(size) / 4000 for size in set(sizes)}
    assert set(shares) == set(data.size_histogram)
    for size, count in data.size_histogram.items():
        assert abs(shares[size] - count / len(data.sizes)) < 4 * np.sqrt(0.25 / 4000)


def test_conditioned_prompts_are_pairs_of_held_out_molecules(found: Found) -> None:
    conditioned = MoleculeData(lambda: found, origin="alkanes", conditioned=["gap"], held_out_share=0.3)
    prompts = conditioned.prompts(12, seed=0)
    assert len(set(prompts)) == 12
    pairs = {(m.properties["gap"], len(m)) for m in conditioned.reference(1000, 0) if m.properties}
    for prompt in prompts:
        gap, size = (float(word.partition("=")[2]) for word in prompt.split())
        assert (gap, size) in pairs


def test_gdb_mini_is_a_data_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFRACT_CACHE", str(tmp_path))
    data = GdbMiniData(largest=4, count=95, conditioned=["logp"], batch_size=16)
    data.setup()
    assert data.tokens == ("H", "C", "N", "O", "F")
    assert data.properties == ("logp", "polar_area")
    assert len(list((tmp_path / "molecules").glob("gdb-mini-*.npz"))) == 1
    batch = next(iter(data.train_dataloader()))
    assert batch["properties"].isfinite().all() and batch["atoms"].max() < 5
    assert data.prompts(2, 0)[0].startswith("logp=")
    assert [len(m) for m in data.molecules([0, 1])] == data.whole.sizes[:2].tolist()
